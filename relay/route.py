"""How a connection to Flagsmith comes about: names and addresses, the proxy on the way out, TLS."""

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from aiohappyeyeballs import start_connection

from relay.config import UpstreamConfig
from relay.config.forward_proxy import ForwardProxy
from relay.core.headers import serialise
from relay.core.target import Origin
from relay.errors import StartError, UpstreamError
from relay.names import Names

# The next address of a name is tried, too, where one does not answer within so many seconds (RFC 8305, 5).
NEXT_ADDRESS_SECONDS = 0.25
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

    def __init__(self, origin: Origin, proxy: ForwardProxy, config: UpstreamConfig) -> None:
        """Raises StartError where `upstream.ca_file` cannot be used."""
        self._origin = origin
        self._proxy = proxy
        self._hop = origin if proxy.url is None else Origin.of(str(proxy.url))
        self.names = Names(self._hop.host, self._hop.port)
        # The machine's authorities take longer to read than the configuration.
        needed = "https" in {origin.scheme, self._hop.scheme} or config.ca_file is not None
        self._tls = tls(config) if needed else None
        # Of connections that have ended, by host.
        self._sessions: dict[str | bytes | None, ssl.SSLSession] = {}
        if self._tls is not None:
            _resume(self._tls, self._sessions)

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
        connection.connection_made(transport)

    def _asking_for_a_tunnel(self) -> bytes:
        """What a proxy on the way out is asked for (RFC 9110, 9.3.6)."""
        host = f"[{self._origin.host}]" if ":" in self._origin.host else self._origin.host
        authority = f"{host}:{self._origin.port}".encode("ascii")
        return serialise(b"CONNECT %b HTTP/1.1" % authority, [(b"Host", authority), *self._proxy.login])

    async def _connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Connect *protocol* to the first hop. Raises OSError."""
        addresses = await self.names.addresses()
        sock = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls, host = (self._tls, self._hop.host) if self._hop.scheme == "https" else (None, None)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock, ssl=tls, server_hostname=host)
        return transport

    def remember(self, transport: asyncio.BaseTransport) -> None:
        """Go on with the TLS session of a connection that has ended."""
        ended: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if ended is not None and ended.session is not None:
            self._sessions[ended.server_hostname] = ended.session


async def _opened(tunnel: asyncio.StreamReader) -> None:
    """Return once a proxy's answer says that the tunnel is there. Raises an error where it says anything else."""
    if not _TUNNELLED.match(await tunnel.readuntil(b"\r\n\r\n")):
        raise ConnectionRefusedError("the proxy refuses")


def tls(config: UpstreamConfig) -> ssl.SSLContext:
    """Trust the machine's authorities, or those of `upstream.ca_file` alone. Raises StartError."""
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as failure:
        reason = "it holds no PEM certificate" if isinstance(failure, ssl.SSLError) else failure.strerror
        advice = "name a readable PEM file of the authority, or write ca_file: null"
        raise StartError(f"upstream.ca_file {config.ca_file} cannot be used: {reason}; {advice}") from failure
    context.set_alpn_protocols(["http/1.1"])
    return context


def _resume(context: ssl.SSLContext, sessions: Mapping[str | bytes | None, ssl.SSLSession]) -> None:
    """Go on with one of *sessions* where there is one: it saves both sides most of what a new connection costs."""
    wrap = context.wrap_bio

    def resume(*args: Any, **options: Any) -> ssl.SSLObject:
        return wrap(*args, **{**options, "session": sessions.get(options["server_hostname"])})

    context.wrap_bio = resume  # type: ignore[method-assign]  # a context of its own class would be set up by hand
