"""How a connection to Flagsmith comes about: names and addresses, the proxy on the way out, TLS."""

import asyncio
import re
import socket
import ssl
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from typing import cast
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohappyeyeballs import AddrInfoType, start_connection
from yarl import URL

from relay.config import UpstreamConfig
from relay.config.hosts import is_host
from relay.core.headers import RawHeaders, serialise
from relay.core.target import DEFAULT_PORTS, Origin
from relay.errors import StartError, UpstreamError

# The next address of a name is tried, too, where one does not answer within so many seconds (RFC 8305, 5).
NEXT_ADDRESS_SECONDS = 0.25
# A name's addresses are used for so long. Those who ask for many connections at once ask the name servers once.
RESOLVED_SECONDS = 10.0
# The longest answer of a proxy to CONNECT.
TUNNEL_BYTES = 64 * 1024
_TUNNELLED = re.compile(rb"HTTP/1\.[01] 2\d\d[ \r]")
# Why no connection came about, by what the caller is told; the first line that fits counts.
FAILURES: tuple[tuple[type[Exception], int, str], ...] = (
    (TimeoutError, 504, "connect_timeout"),
    (socket.gaierror, 502, "dns_failed"),
    (ssl.SSLError, 502, "tls_failed"),
    (OSError, 502, "connect_failed"),
)


class Route:
    """How a connection comes about: names and addresses, the proxy on the way out, TLS."""

    def __init__(self, origin: Origin, proxy: "ForwardProxy", config: UpstreamConfig) -> None:
        """Raises StartError where `upstream.ca_file` cannot be used."""
        self._origin = origin
        self._proxy = proxy
        hop = proxy.url
        self._scheme, self._host, self._port = origin.scheme, origin.host, origin.port
        if hop is not None:
            self._scheme, self._host, self._port = hop.scheme, hop.raw_host or "", hop.port or 0
        # The machine's authorities take longer to read than the configuration.
        needed = "https" in {origin.scheme, self._scheme} or config.ca_file is not None
        self._tls = Tls.of(config) if needed else None
        self._lookup: asyncio.Task[list[AddrInfoType]] | None = None
        self._looked_up = 0.0

    def close(self) -> None:
        """Ask for no addresses any more."""
        if self._lookup is not None:
            self._lookup.cancel()

    async def lead(self, connection: asyncio.Protocol, timeout: float) -> None:
        """Let *connection* be one to Flagsmith within *timeout* seconds. Raises UpstreamError."""
        try:
            async with asyncio.timeout(timeout):
                await self._lead(connection)
        except OSError as fault:
            status, reason = next((status, reason) for kind, status, reason in FAILURES if isinstance(fault, kind))
            raise UpstreamError(status, reason) from fault

    async def _lead(self, connection: asyncio.Protocol) -> None:
        tunnel = self._proxy.url is not None and self._origin.scheme == "https"
        if not tunnel:
            await self._connect(connection)
            return
        opening = _Opening(self._origin, self._proxy)
        await self._connect(opening)
        loop = asyncio.get_running_loop()
        assert self._tls is not None  # noqa: S101  # the origin is https
        try:
            await opening.done
            transport = await loop.start_tls(
                opening.transport, connection, self._tls, server_hostname=self._origin.host
            )
        except BaseException:
            opening.transport.abort()
            raise
        assert transport is not None  # noqa: S101  # the types allow for a transport that was closed
        _read_no_further(transport)
        connection.connection_made(transport)

    async def _connect(self, protocol: asyncio.Protocol) -> None:
        """Connect *protocol* to the first hop. Raises OSError."""
        loop = asyncio.get_running_loop()
        addresses = await self._addresses()
        sock = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._scheme == "https":
            transport, _ = await loop.create_connection(
                lambda: protocol, sock=sock, ssl=self._tls, server_hostname=self._host
            )
            _read_no_further(transport)
        else:
            await loop.create_connection(lambda: protocol, sock=sock)

    def remember(self, transport: asyncio.BaseTransport) -> None:
        """Go on with the TLS session of a connection that has ended."""
        ended: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if self._tls is not None and ended is not None and ended.session is not None:
            self._tls.sessions[ended.server_hostname] = ended.session

    async def _addresses(self) -> list[AddrInfoType]:
        """Where the first hop is; each time another address comes first. Raises OSError."""
        now = asyncio.get_running_loop().time()
        lookup = self._lookup
        if lookup is None or (lookup.done() and (now - self._looked_up > RESOLVED_SECONDS or _failed(lookup))):
            self._looked_up = now
            lookup = self._lookup = asyncio.create_task(self._look_up(), name="lookup")
            lookup.add_done_callback(_failed)  # so that asyncio does not report what nobody waited for
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

    def __init__(self, origin: Origin, proxy: "ForwardProxy") -> None:
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
class ForwardProxy:
    """The proxy on the way out, as HTTPS_PROXY, HTTP_PROXY and NO_PROXY name it."""

    url: URL | None = None
    # The header that logs in there, if it takes one.
    login: RawHeaders = ()

    @classmethod
    def of_environment(cls, origin: Origin) -> "ForwardProxy":
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
    def _of(cls, named: str) -> "ForwardProxy":
        """Raises ValueError."""
        url = URL(named)
        if url.scheme not in DEFAULT_PORTS or not url.port or not is_host(url.raw_host or ""):
            raise ValueError(named)
        if url.user is None:
            return cls(url)
        login = aiohttp.encode_basic_auth(url.user, url.password or "")
        return cls(url.with_user(None), [(b"Proxy-Authorization", login.encode("ascii"))])


def _read_no_further(transport: asyncio.Transport) -> None:
    """Leave with the system what a paused TLS connection does not take yet: at its end, uvloop drops what it holds."""
    transport.set_read_buffer_limits(high=1)  # type: ignore[attr-defined]  # which TLS alone has


def _failed(lookup: "asyncio.Task[list[AddrInfoType]]") -> bool:
    return lookup.cancelled() or lookup.exception() is not None


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


class Tls(ssl.SSLContext):
    """Verifies as Python's default context does, and goes on with an earlier session where there is one.

    Which saves both sides most of what a new connection costs.
    """

    # By host.
    sessions: dict[str | bytes | None, ssl.SSLSession]

    @classmethod
    def of(cls, config: UpstreamConfig) -> "Tls":
        """Trust the machine's authorities, or those of `upstream.ca_file` alone. Raises StartError."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.sessions = {}
        if sys.version_info >= (3, 13):
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        context.set_alpn_protocols(["http/1.1"])
        if config.ca_file is None:
            context.load_default_certs()
            return context
        try:
            context.load_verify_locations(config.ca_file)
        except OSError as failure:
            reason = "it holds no PEM certificate" if isinstance(failure, ssl.SSLError) else failure.strerror
            advice = "name a readable PEM file of the authority, or write ca_file: null"
            raise StartError(f"upstream.ca_file {config.ca_file} cannot be used: {reason}; {advice}") from failure
        return context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        session = session or self.sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
