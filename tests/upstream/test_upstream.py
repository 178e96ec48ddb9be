"""The connections to Flagsmith: which authorities they trust, how they leave the house, and when they are renewed."""

import asyncio
import base64
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.config import UpstreamConfig
from relay.errors import RequestRefused, StartError, UpstreamError
from relay.upstream import LATE_SECONDS, Outgoing, Upstream
from tests.proxy.raw import RawFlagsmith, read_head, say

GET = Outgoing("GET", b"/x", b"Host: flags.example\r\n")


@asynccontextmanager
async def upstream(url: str, **settings: Any) -> AsyncIterator[Upstream]:
    async with Upstream(UpstreamConfig.model_validate({"url": url, **settings})) as connections:
        yield connections


async def fetch(connections: Upstream, outgoing: Outgoing = GET) -> bytes:
    answer = await connections.send(outgoing)
    body = b""
    while not answer.ended:
        body += await answer.read()
    answer.close()
    return body


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def server_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
async def tls_flagsmith(authority: trustme.CA) -> AsyncIterator[RawFlagsmith]:
    async with RawFlagsmith(tls=server_tls(authority, "localhost")) as raw:
        yield raw


async def test_a_private_authority_is_trusted_where_it_is_named(tls_flagsmith: RawFlagsmith, ca_file: Path) -> None:
    async with upstream(f"https://localhost:{tls_flagsmith.port}", ca_file=str(ca_file)) as connections:
        assert await fetch(connections) == b"ok"


async def test_a_new_connection_goes_on_with_the_session_of_the_one_before(
    tls_flagsmith: RawFlagsmith, ca_file: Path
) -> None:
    url = f"https://localhost:{tls_flagsmith.port}"
    async with upstream(url, ca_file=str(ca_file), idle_timeout="20ms") as connections:
        for _ in range(2):
            await fetch(connections)
            await tls_flagsmith.until(lambda: tls_flagsmith.open == 0)

    reused = [writer.get_extra_info("ssl_object").session_reused for writer in tls_flagsmith.connections]
    assert reused == [False, True]


async def test_an_unknown_authority_is_never_trusted(tls_flagsmith: RawFlagsmith) -> None:
    async with upstream(f"https://localhost:{tls_flagsmith.port}") as connections:
        with pytest.raises(UpstreamError, match="502 tls_failed"):
            await fetch(connections)


async def test_a_certificate_for_another_name_is_never_trusted(authority: trustme.CA, ca_file: Path) -> None:
    tls = server_tls(authority, "other.example")
    async with RawFlagsmith(tls=tls) as raw, upstream(f"https://localhost:{raw.port}", ca_file=str(ca_file)) as pool:
        with pytest.raises(UpstreamError, match="502 tls_failed"):
            await fetch(pool)


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_an_unusable_ca_file_is_refused_at_the_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)

    with pytest.raises(StartError) as told:
        await Upstream(UpstreamConfig.model_validate({"ca_file": str(path)})).__aenter__()

    reason = "No such file or directory" if content is None else "it holds no PEM certificate"
    assert str(told.value) == (
        f"upstream.ca_file {path} cannot be used: {reason}; "
        "name a readable PEM file of the authority, or write ca_file: null"
    )


class ForwardProxy:
    """A proxy on the way out: tunnels for CONNECT, and OK for requests in absolute-form."""

    def __init__(self) -> None:
        self.heads: list[tuple[bytes, dict[bytes, bytes]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]
            await asyncio.gather(*self._tasks)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._answer(reader, writer)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first_line, headers = await read_head(reader)
        self.heads.append((first_line, dict(headers)))
        if not first_line.startswith(b"CONNECT"):
            writer.write(say(b"by proxy"))
            writer.close()
            await writer.wait_closed()
            return
        port = int(first_line.split()[1].rpartition(b":")[2])
        there = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
    except OSError:
        pass
    sink.close()
    await sink.wait_closed()


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


async def test_https_goes_through_the_proxy_of_the_environment_as_a_tunnel(
    tls_flagsmith: RawFlagsmith, ca_file: Path, no_proxies: pytest.MonkeyPatch
) -> None:
    proxy = ForwardProxy()
    async with proxy.running() as port:
        no_proxies.setenv("HTTPS_PROXY", f"http://user:pass%40word@127.0.0.1:{port}")
        url = f"https://localhost:{tls_flagsmith.port}"
        async with upstream(url, ca_file=str(ca_file), trust_env=True) as connections:
            assert await fetch(connections) == b"ok"
            assert await fetch(connections) == b"ok"

    [(first_line, headers)] = proxy.heads
    assert first_line == b"CONNECT localhost:%d HTTP/1.1" % tls_flagsmith.port
    assert headers[b"Proxy-Authorization"] == b"Basic " + base64.b64encode(b"user:pass@word")
    assert tls_flagsmith.requests[0].first_line == b"GET /x HTTP/1.1"
    assert tls_flagsmith.requests[0]["Proxy-Authorization"] == []


async def test_http_goes_through_the_proxy_of_the_environment_in_absolute_form(no_proxies: pytest.MonkeyPatch) -> None:
    proxy = ForwardProxy()
    async with proxy.running() as port:
        no_proxies.setenv("HTTP_PROXY", f"http://user:pw@127.0.0.1:{port}")
        async with upstream("http://flags.example/base", trust_env=True) as connections:
            outgoing = Outgoing("GET", b"//evil.com/%7e?", GET.fields)
            assert await fetch(connections, outgoing) == b"by proxy"

    [(first_line, headers)] = proxy.heads
    assert first_line == b"GET http://flags.example/base//evil.com/%7e? HTTP/1.1"
    assert headers[b"Host"] == b"flags.example"
    assert headers[b"Proxy-Authorization"] == b"Basic " + base64.b64encode(b"user:pw")


@pytest.mark.parametrize("settings", [{"trust_env": False}, {"trust_env": True}])
async def test_the_environments_proxy_is_not_used_unasked_or_for_an_excepted_host(
    no_proxies: pytest.MonkeyPatch, settings: dict[str, bool]
) -> None:
    no_proxies.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    no_proxies.setenv("NO_PROXY", "127.0.0.1")
    async with RawFlagsmith() as raw, upstream(raw.url, **settings) as connections:
        assert await fetch(connections) == b"ok"


async def test_an_unknown_authority_is_not_trusted_behind_a_proxy_either(
    tls_flagsmith: RawFlagsmith, no_proxies: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = ForwardProxy()
    async with proxy.running() as port:
        no_proxies.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        async with upstream(f"https://localhost:{tls_flagsmith.port}", trust_env=True) as connections:
            with pytest.raises(UpstreamError, match="502 tls_failed"):
                await fetch(connections)

    assert caplog.records == []


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Login\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nmore", b"\0" * 70_000, b""])
async def test_a_proxy_that_opens_no_tunnel_is_502(no_proxies: pytest.MonkeyPatch, answer: bytes) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        no_proxies.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with upstream("https://flags.example", trust_env=True) as connections:
            with pytest.raises(UpstreamError, match="502 connect_failed"):
                await fetch(connections)


async def test_a_proxy_that_refuses_is_502(no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    async with upstream("https://flags.example", trust_env=True) as connections:
        with pytest.raises(UpstreamError, match="502 connect_failed"):
            await fetch(connections)


@pytest.mark.parametrize(
    "proxy",
    [
        "proxy:3128",
        "127.0.0.1:3128",
        "socks5://user:hunter2@proxy:1080",
        "http://user:hunter2@",
        "http://user:hunter2@pro xy:3128",
        "http://user:hunter2@a..b:3128",
        "http://user:hunter2@proxy:99999",
        "http://user:hunter2@proxy:0",
        "http://user:hunter2@[::1",
        "http://us%3Aer:hunter2@proxy:3128",
        "http://%ud800:hunter2@",
    ],
)
async def test_a_proxy_that_cannot_be_is_one_line_that_names_its_variable_and_no_password(
    no_proxies: pytest.MonkeyPatch, proxy: str
) -> None:
    no_proxies.setenv("HTTPS_PROXY", proxy)

    with pytest.raises(StartError) as told:
        async with upstream("https://flags.example", trust_env=True):
            raise AssertionError("it started")

    assert str(told.value).startswith("the environment variable HTTPS_PROXY ")
    assert "hunter2" not in str(told.value)
    assert "\n" not in str(told.value)


async def test_connections_are_kept_and_used_again() -> None:
    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        for _ in range(5):
            await fetch(connections)

    assert len(raw.connections) == 1


async def test_a_connection_is_replaced_at_its_age() -> None:
    """Pitfall 10: only a new connection looks the name up again."""
    async with RawFlagsmith() as raw, upstream(raw.url, max_connection_age="50ms") as connections:
        until = asyncio.get_running_loop().time() + 0.2
        while asyncio.get_running_loop().time() < until:
            await fetch(connections)

        assert 2 < len(raw.connections) < 20


async def test_an_unused_connection_is_closed_though_the_process_stood_still() -> None:
    async with RawFlagsmith() as raw, upstream(raw.url, idle_timeout="50ms") as connections:
        await fetch(connections)
        time.sleep(2 * LATE_SECONDS)  # noqa: ASYNC251  # nothing runs meanwhile, which is the point

        await raw.until(lambda: raw.open == 0)


async def test_an_unused_connection_is_closed_before_flagsmith_would() -> None:
    """Pitfall 6."""
    async with RawFlagsmith() as raw, upstream(raw.url, idle_timeout="50ms") as connections:
        await fetch(connections)

        await raw.until(lambda: raw.open == 0)


async def test_every_address_of_a_name_is_tried() -> None:
    """Pitfall 10: localhost is ::1 first, and this one listens on IPv4 only."""
    async with RawFlagsmith() as raw, upstream(f"http://localhost:{raw.port}") as connections:
        assert await fetch(connections) == b"ok"


async def test_there_is_no_hidden_limit_of_connections() -> None:
    """Pitfall 8: aiohttp's own is 100, and the wait for one of them has no end."""
    answer_now = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer_now.wait()
        writer.write(say(b"ok"))

    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.extend([wait] * 150)
        fetches = [asyncio.create_task(fetch(connections)) for _ in range(150)]
        await raw.until(lambda: len(raw.requests) == 150)
        answer_now.set()

        assert await asyncio.gather(*fetches) == [b"ok"] * 150


async def test_an_unread_answer_closes_its_connection() -> None:
    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        raw.script.append(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        answer = await connections.send(GET)

        answer.close()
        answer.close()

        await raw.until(lambda: raw.open == 0)


async def test_a_body_that_says_it_is_broken_is_the_callers_error() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise RequestRefused(400, "body_unreadable")

    async with RawFlagsmith() as raw, upstream(raw.url) as connections:
        with pytest.raises(RequestRefused):
            await connections.send(Outgoing("POST", b"/", GET.fields, broken(), chunked=True))

        await raw.until(lambda: raw.open == 0)


async def test_a_slot_is_free_again_after_every_kind_of_end() -> None:
    async with RawFlagsmith() as raw, upstream(raw.url, max_in_flight=1) as connections:
        raw.script.extend([b"garbage\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n"])
        for _ in range(2):
            with pytest.raises(UpstreamError, match="unreadable"):
                await fetch(connections)
        assert await fetch(connections) == b"ok"

        answer = await connections.send(GET)
        with pytest.raises(UpstreamError, match="502 busy"):
            await fetch(connections)
        answer.close()
        assert await fetch(connections) == b"ok"
