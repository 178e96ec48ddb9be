"""Where an answer ends, over TLS as without it: a part of one never passes for the whole."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from relay.errors import UpstreamError
from relay.upstream import Upstream
from tests.proxy.raw import Play, RawFlagsmith
from tests.upstream.test_upstream import GET, fetch, server_tls, upstream

UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
async def flagsmith(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[RawFlagsmith, Upstream]]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls: ssl.SSLContext | None = server_tls(authority, "127.0.0.1") if request.param else None
    async with RawFlagsmith(tls=tls) as raw, upstream(raw.url, ca_file=str(tmp_path / "ca.pem")) as connections:
        yield raw, connections


def end_without_a_word(writer: asyncio.StreamWriter) -> None:
    """End the TCP connection, whatever runs over it."""
    with closing(socket.socket(fileno=writer.get_extra_info("socket").dup().detach())) as sock:
        sock.shutdown(socket.SHUT_WR)


def said_in_full(begin: bytes, said: asyncio.Event) -> Play:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(begin)
        await writer.drain()
        end_without_a_word(writer)
        said.set()
        await reader.read()
        raise ConnectionResetError

    return play


async def test_an_answer_that_is_read_late_is_whole_though_its_connection_has_ended(
    flagsmith: tuple[RawFlagsmith, Upstream],
) -> None:
    raw, connections = flagsmith
    said, body = asyncio.Event(), b"x" * 450_000
    raw.script.append(said_in_full(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, said))

    answer = await connections.send(GET)
    await said.wait()
    for _ in range(3):  # by then, the end has arrived, too
        await fetch(connections)

    got = b""
    while not answer.ended:
        got += await answer.read()
    answer.close()
    assert got == body


async def test_an_answer_until_close_needs_the_close_of_tls(flagsmith: tuple[RawFlagsmith, Upstream]) -> None:
    """Whoever sits between can end a TCP connection (RFC 9112, 9.8)."""
    raw, connections = flagsmith
    raw.script.append(said_in_full(UNTIL_CLOSE + b"all of it, or not", asyncio.Event()))

    if raw.url.startswith("https"):
        with pytest.raises(UpstreamError, match="502 truncated"):
            await fetch(connections)
    else:
        assert await fetch(connections) == b"all of it, or not"


async def test_an_answer_until_close_is_whole_once_that_is_said(flagsmith: tuple[RawFlagsmith, Upstream]) -> None:
    async def say_and_close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UNTIL_CLOSE + b"all of it")
        writer.close()
        await writer.wait_closed()
        raise ConnectionResetError

    raw, connections = flagsmith
    raw.script.append(say_and_close)

    assert await fetch(connections) == b"all of it"
