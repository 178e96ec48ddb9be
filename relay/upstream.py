"""The way to Flagsmith: a pool of connections, and how each of them comes about.

An HTTP client would normalise the target, add headers, and lose header bytes that are not UTF-8; and it takes more of
the processor's time than all the rest of the relay.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Self, cast
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from aiohappyeyeballs import AddrInfoType, start_connection
from yarl import URL

from relay.config import UpstreamConfig
from relay.config.addresses import is_host
from relay.connection import Connection, UpstreamAnswer
from relay.core.headers import RawHeaders, serialise, values
from relay.core.target import DEFAULT_PORTS, Origin
from relay.errors import StartError, UpstreamError

# The next address of a name is tried, too, where one does not answer within so many seconds (RFC 8305, 5).
NEXT_ADDRESS_SECONDS = 0.25
# A name's addresses are used for so long. Those who ask for many connections at once ask the name servers once.
RESOLVED_SECONDS = 10.0
# The longest answer of a proxy to CONNECT.
TUNNEL_BYTES = 64 * 1024
_TUNNELLED = re.compile(rb"HTTP/1\.[01] 2\d\d[ \r]")
# How late a silence may be noticed.
LATE_SECONDS = 1.0

# Why no connection came about, by what the caller is told; the first line that fits counts.
FAILURES: tuple[tuple[type[Exception], int, str], ...] = (
    (TimeoutError, 504, "connect_timeout"),
    (socket.gaierror, 502, "dns_failed"),
    (ssl.SSLError, 502, "tls_failed"),
    (OSError, 502, "connect_failed"),
)


class Outgoing(msgspec.Struct, frozen=True):
    """A request as Flagsmith shall see it, but for its framing."""

    method: str
    # Raw path and query as the caller asked; the upstream's base path comes before it.
    target: bytes
    headers: RawHeaders
    # None: no body at all. Content-Length, where the headers have it, is true.
    body: AsyncIterator[bytes] | None


class Upstream:
    """Asks Flagsmith, with a pool of connections, while the context is open.

    A request is never sent a second time here, whatever its method.
    """

    def __init__(self, config: UpstreamConfig) -> None:
        self.origin = Origin.of(config.url)
        self.forward_proxy = _ForwardProxy()
        self._config = config
        self._in_flight = 0
        # All that are open, and those of them that carry no request, the one that did so last at the end.
        self._connections: set[Connection] = set()
        self._rested: list[Connection] = []
        # One timer for all: one for each request would cost more than to send it.
        self._timer: asyncio.TimerHandle | None = None
        self._all_gone = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Raises StartError where `upstream.ca_file`, or the environment's proxy, cannot be used."""
        if self._config.trust_env:
            self.forward_proxy = _ForwardProxy.of_environment(self.origin)
        self._loop = asyncio.get_running_loop()
        self._route = _Route(self.origin, self.forward_proxy, _tls(self._config))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._route.close()
        while self._connections:
            self._all_gone.clear()
            for connection in self._connections:
                connection.transport.abort()
            await self._all_gone.wait()
        if self._timer is not None:
            self._timer.cancel()

    def tls(self) -> ssl.SSLContext:
        """How Flagsmith's certificate is verified. Raises StartError."""
        return _tls(self._config)

    @property
    def crowded(self) -> bool:
        """Whether more than half of the requests that may be in flight are."""
        return 2 * self._in_flight > self._config.max_in_flight

    async def send(self, outgoing: Outgoing, *, fresh: bool = False) -> UpstreamAnswer:
        """Send once and return when the answer's headers are there; the answer must be closed in the end.

        With *fresh* the connection is a new one. Raises UpstreamError (ConnectionReused where a pooled connection
        had died), or whatever RequestRefused the body raises.
        """
        if self._in_flight >= self._config.max_in_flight:
            raise UpstreamError(502, "busy")
        self._in_flight += 1
        try:
            chunked = outgoing.body is not None and not values(outgoing.headers, b"content-length")
            head = self._head(outgoing, chunked=chunked)
            connection = (None if fresh else self._take()) or await self._open()
        except BaseException:
            self._release()
            raise
        answer = UpstreamAnswer(connection, self._release, bodiless=outgoing.method == "HEAD")
        try:
            connection.ask(head, outgoing.body, answer, chunked=chunked)
            await answer.head()
        except BaseException:
            answer.close()
            raise
        return answer

    def _head(self, outgoing: Outgoing, *, chunked: bool) -> bytes:
        """Raises UpstreamError where the headers are none."""
        target, headers = self.origin.onward(outgoing.target), [*outgoing.headers]
        if self.forward_proxy.url is not None and self.origin.scheme == "http":  # it is asked in absolute-form
            target = self.origin.address + target
            headers += self.forward_proxy.login
        if chunked:
            headers.append((b"Transfer-Encoding", b"chunked"))
        try:
            return serialise(b"%b %b HTTP/1.1" % (outgoing.method.encode("ascii"), target), headers)
        except ValueError as broken:
            raise UpstreamError(502, "unreadable") from broken

    def _release(self) -> None:
        self._in_flight -= 1

    # The pool.

    def _take(self) -> Connection | None:
        """The connection that rests the shortest, if it can be used."""
        now = self._loop.time()
        while self._rested:
            connection = self._rested.pop()
            if not connection.transport.is_closing() and not self._is_worn(connection, now):
                return connection
            connection.transport.close()
        return None

    async def _open(self) -> Connection:
        connection = Connection(self._rested.append, self._forget)
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                await self._route.lead(connection)
        except OSError as fault:
            status, reason = next((status, reason) for kind, status, reason in FAILURES if isinstance(fault, kind))
            raise UpstreamError(status, reason) from fault
        self._connections.add(connection)
        if self._timer is None:
            self._look_round()
        return connection

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection in self._rested:
            self._rested.remove(connection)
        if not self._connections:
            self._all_gone.set()

    def _is_worn(self, connection: Connection, now: float) -> bool:
        """Only a new connection looks the name up again; and Flagsmith closes one that rests for long."""
        config = self._config
        return now - connection.heard > config.idle_timeout or now - connection.born > config.max_connection_age

    def _look_round(self) -> None:
        """End what is silent or has rested for too long, now and again while there are connections."""
        config, now = self._config, self._loop.time()
        for connection in [*self._connections]:
            if connection.is_overdue(now, config.read_timeout):
                connection.give_up(UpstreamError(504, "read_timeout"))
        for connection in [each for each in self._rested if self._is_worn(each, now)]:
            self._rested.remove(connection)
            connection.transport.close()
        soon = min(LATE_SECONDS, config.read_timeout / 4, config.idle_timeout / 4)
        self._timer = self._loop.call_later(soon, self._look_round) if self._connections else None


class _Route:
    """How a connection comes about: names and addresses, the proxy on the way out, TLS."""

    def __init__(self, origin: Origin, proxy: "_ForwardProxy", tls: ssl.SSLContext) -> None:
        self._origin = origin
        self._proxy = proxy
        self._tls = tls
        hop = proxy.url
        self._scheme, self._host, self._port = origin.scheme, origin.host, origin.port
        if hop is not None:
            self._scheme, self._host, self._port = hop.scheme, hop.host or "", hop.port or 0
        self._lookup: asyncio.Task[list[AddrInfoType]] | None = None
        self._looked_up = 0.0

    def close(self) -> None:
        if self._lookup is not None:
            self._lookup.cancel()

    async def lead(self, connection: Connection) -> None:
        """Let *connection* be one to Flagsmith. Raises OSError."""
        tunnel = self._proxy.url is not None and self._origin.scheme == "https"
        if not tunnel:
            await self._connect(connection)
            return
        opening = _Opening(self._origin, self._proxy)
        await self._connect(opening)
        try:
            await opening.done
            loop = asyncio.get_running_loop()
            transport = await loop.start_tls(
                opening.transport, connection, self._tls, server_hostname=self._origin.host
            )
        except BaseException:
            opening.transport.abort()
            raise
        assert transport is not None  # noqa: S101  # the types allow for a transport that was closed
        connection.connection_made(transport)

    async def _connect(self, protocol: asyncio.Protocol) -> None:
        """Connect *protocol* to the first hop. Raises OSError."""
        loop = asyncio.get_running_loop()
        addresses = await self._addresses()
        sock = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._scheme == "https":
            await loop.create_connection(lambda: protocol, sock=sock, ssl=self._tls, server_hostname=self._host)
        else:
            await loop.create_connection(lambda: protocol, sock=sock)

    async def _addresses(self) -> list[AddrInfoType]:
        """Where the first hop is; each time another address comes first. Raises OSError."""
        now = asyncio.get_running_loop().time()
        lookup = self._lookup
        if lookup is None or (lookup.done() and (now - self._looked_up > RESOLVED_SECONDS or _failed(lookup))):
            self._looked_up = now
            lookup = self._lookup = asyncio.create_task(self._look_up(), name="lookup")
        await asyncio.wait({lookup})  # whoever stops to wait does not stop it for the others
        addresses = lookup.result()
        addresses.append(addresses.pop(0))
        return [*addresses]

    async def _look_up(self) -> list[AddrInfoType]:
        loop = asyncio.get_running_loop()
        # Of a machine without IPv6, the name servers need not be asked for its addresses.
        flags = 0 if _is_address(self._host) else socket.AI_ADDRCONFIG
        return [*await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=flags)]


class _Opening(asyncio.Protocol):
    """Asks a proxy on the way out for a tunnel to Flagsmith (RFC 9110, 9.3.6)."""

    transport: asyncio.WriteTransport

    def __init__(self, origin: Origin, proxy: "_ForwardProxy") -> None:
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        authority = f"{host}:{origin.port}".encode("ascii")
        self._head = serialise(b"CONNECT %b HTTP/1.1" % authority, [(b"Host", authority), *proxy.login])
        self._answer = b""
        # Raises OSError where there is no tunnel.
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._answer.endswith(b"\r\n\r\n") and _TUNNELLED.match(self._answer):
            self._end(None)
        elif b"\r\n\r\n" in self._answer or len(self._answer) > TUNNEL_BYTES:
            self._end(ConnectionRefusedError("the proxy refuses"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("the proxy went away"))

    def _end(self, failure: Exception | None) -> None:
        if self.done.done():
            return
        if failure is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(failure)


@dataclass(frozen=True, slots=True)
class _ForwardProxy:
    """The proxy on the way out, as HTTPS_PROXY, HTTP_PROXY and NO_PROXY name it."""

    url: URL | None = None
    # The header that logs in there, if it takes one.
    login: RawHeaders = ()

    @classmethod
    def of_environment(cls, origin: Origin) -> "_ForwardProxy":
        """Raises StartError where what is named cannot be used; the value, which may hold a password, is not told."""
        named = getproxies().get(origin.scheme)
        if not named or proxy_bypass(f"{origin.host}:{origin.port}"):
            return cls()
        try:
            return cls._of(named)
        except ValueError:
            raise StartError(
                f"the environment variable {origin.scheme.upper()}_PROXY (or in small letters) is no proxy's address; "
                "write one like http://proxy.example.com:3128, or set upstream.trust_env: false"
            ) from None

    @classmethod
    def _of(cls, named: str) -> "_ForwardProxy":
        """Raises ValueError."""
        url = URL(named)
        if url.scheme not in DEFAULT_PORTS or not url.port or not is_host(url.raw_host or ""):
            raise ValueError(named)
        if url.user is None:
            return cls(url)
        login = aiohttp.encode_basic_auth(url.user, url.password or "")
        return cls(url.with_user(None), [(b"Proxy-Authorization", login.encode("ascii"))])


def _failed(lookup: "asyncio.Task[list[AddrInfoType]]") -> bool:
    return lookup.cancelled() or lookup.exception() is not None


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _tls(config: UpstreamConfig) -> ssl.SSLContext:
    """How certificates are verified: by the machine's authorities, or by those of `upstream.ca_file` alone."""
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as failure:
        reason = "it holds no PEM certificate" if isinstance(failure, ssl.SSLError) else failure.strerror
        advice = "name a readable PEM file of the authority, or write ca_file: null"
        raise StartError(f"upstream.ca_file {config.ca_file} cannot be used: {reason}; {advice}") from failure
    context.set_alpn_protocols(["http/1.1"])
    return context
