"""What a connection makes of a Flagsmith that says more, or less, than it should."""

import asyncio
from itertools import repeat

import pytest

from relay.connection import HEAD_BYTES
from relay.errors import UpstreamError
from relay.upstream import Outgoing
from tests.proxy.raw import Play, RawFlagsmith, say
from tests.upstream.test_upstream import GET, fetch, upstream

HEAD = Outgoing("HEAD", b"/x", GET.fields)


def endless(begin: bytes, more: bytes) -> Play:
    """Says *more* for ever after its *begin*."""

    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        for piece in repeat(more):
            writer.write(piece)
            await writer.drain()

    return play


@pytest.mark.parametrize("rest", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"evil", b"\r\n", b"\0"])
async def test_what_follows_an_answer_is_no_part_of_the_next_one(rest: bytes) -> None:
    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.append(say(b"first") + rest)

        assert [await fetch(connections), await fetch(connections)] == [b"first", b"ok"]


@pytest.mark.parametrize("framing", [b"Content-Length: 4", b"Transfer-Encoding: chunked"])
async def test_a_body_that_follows_the_answer_to_head_is_no_part_of_the_next_one(framing: bytes) -> None:
    async def rude(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n4\r\nevil\r\n0\r\n\r\n")

    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.append(rude)

        assert [await fetch(connections, HEAD), await fetch(connections)] == [b"", b"ok"]


async def test_who_speaks_unasked_loses_the_connection() -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(say(b"ok"))
        await told.wait()
        writer.write(say(b"evil"))

    told = asyncio.Event()
    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.append(speak)
        await fetch(connections)
        told.set()

        await raw.until(lambda: raw.open == 0)
        assert await fetch(connections) == b"ok"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n"),
        (b"HTTP/1.1 200 ", b"OK"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    ],
)
async def test_a_head_without_an_end_is_given_up(begin: bytes, more: bytes) -> None:
    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.append(endless(begin, more * 1000))

        with pytest.raises(UpstreamError, match="502 unreadable"):
            await fetch(connections)


@pytest.mark.parametrize(
    "hint",
    [
        b"HTTP/1.1 104 X\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 199 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
    ],
)
async def test_the_body_of_a_hint_is_no_part_of_the_answer(hint: bytes) -> None:
    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.append(hint + say(b"ok"))

        with pytest.raises(UpstreamError, match="502 unreadable"):
            await fetch(connections)


@pytest.mark.parametrize("head", [b"200 OK\r\nX: %b", b"200 %b"])
async def test_a_head_that_is_too_long_is_given_up_though_it_ends(head: bytes) -> None:
    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.append(b"HTTP/1.1 " + head % (b"y" * (HEAD_BYTES + 1)) + b"\r\nContent-Length: 0\r\n\r\n")

        with pytest.raises(UpstreamError, match="502 unreadable"):
            await fetch(connections)


async def test_a_space_before_a_colon_is_taken_away() -> None:
    """So that the caller reads the same length as the relay; what is cut short of it is not whole."""
    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.append(b"HTTP/1.1 200 OK\r\nContent-Length : 9\r\n\r\nhalf")
        answer = await connections.send(GET)
        raw.connections[0].close()

        assert answer.headers == [(b"Content-Length", b"9")]
        assert await answer.read() == b"half"
        with pytest.raises(UpstreamError, match="502 truncated"):
            await answer.read()
        answer.close()


async def test_trailers_without_an_end_are_given_up() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.append(endless(head, b"X: y\r\n" * 1000))

        with pytest.raises(UpstreamError, match="502 unreadable"):
            await fetch(connections)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", say(b"ok", b"Connection: close")]
)
async def test_a_connection_that_flagsmith_means_to_close_is_not_used_again(answer: bytes) -> None:
    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.append(answer)

        assert [await fetch(connections), await fetch(connections)] == [b"ok", b"ok"]
        assert len(raw.connections) == 2


async def test_a_connection_that_ends_as_it_begins_is_502_and_holds_up_nobody() -> None:
    async def leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(leave, "127.0.0.1", 0)
    async with server, upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as connections:
        for _ in range(100):
            with pytest.raises(UpstreamError, match="502 reset"):
                await fetch(connections)
