"""How a connection to Flagsmith comes about: names and addresses, the proxy on the way out, TLS."""

import asyncio
import re
import socket
import ssl
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
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
    (Exception, 502, "connect_failed"),
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
        except (OSError, EOFError, asyncio.LimitOverrunError) as fault:
            status, reason = next((status, reason) for kind, status, reason in FAILURES if isinstance(fault, kind))
            raise UpstreamError(status, reason) from fault

    async def _lead(self, connection: asyncio.Protocol) -> None:
        if self._proxy.url is None or self._origin.scheme == "http":
            await self._connect(connection)
            return
        assert self._tls is not None  # noqa: S101  # the origin is https
        answer = asyncio.StreamReader(limit=TUNNEL_BYTES)
        tunnel = await self._connect(asyncio.StreamReaderProtocol(answer))
        try:
            tunnel.write(self._asking_for_a_tunnel())
            await _opened(answer)
            loop = asyncio.get_running_loop()
            transport = await loop.start_tls(tunnel, connection, self._tls, server_hostname=self._origin.host)
        except BaseException:
            tunnel.abort()
            raise
        assert transport is not None  # noqa: S101  # the types allow for a transport that was closed
        _read_no_further(transport)
        connection.connection_made(transport)

    def _asking_for_a_tunnel(self) -> bytes:
        """What a proxy on the way out is asked for (RFC 9110, 9.3.6)."""
        host = f"[{self._origin.host}]" if ":" in self._origin.host else self._origin.host
        authority = f"{host}:{self._origin.port}".encode("ascii")
        return serialise(b"CONNECT %b HTTP/1.1" % authority, [(b"Host", authority), *self._proxy.login])

    async def _connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Connect *protocol* to the first hop. Raises OSError."""
        loop = asyncio.get_running_loop()
        addresses = await self._addresses()
        sock = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = self._tls if self._scheme == "https" else None
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=sock, ssl=tls, server_hostname=self._host if tls else None
        )
        if tls is not None:
            _read_no_further(transport)
        return transport

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


async def _opened(tunnel: asyncio.StreamReader) -> None:
    """Return once a proxy's answer says that the tunnel is there. Raises an error where it says anything else."""
    if not _TUNNELLED.match(await tunnel.readuntil(b"\r\n\r\n")):
        raise ConnectionRefusedError("the proxy refuses")


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

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        options["session"] = self.sessions.get(options["server_hostname"])
        return super().wrap_bio(*args, **options)
