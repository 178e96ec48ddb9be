"""The connections to Flagsmith: one request out, one answer back, every byte of both as it is.

aiohttp's client keeps the pool and reads the answers. The head of a request is written here instead: aiohttp's own
would normalise the target, add headers, and lose header bytes that are not UTF-8.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter
from yarl import URL

from relay.config import UpstreamConfig
from relay.config.hosts import is_host
from relay.core.headers import RawHeaders, serialise, values
from relay.core.target import DEFAULT_PORTS, Origin
from relay.errors import ConnectionReused, RequestRefused, StartError, UpstreamError

# Flagsmith's answers need a few hundred bytes of headers; a gateway before it may add large cookies and policies.
ANSWER_FIELD_BYTES = 256 * 1024
ANSWER_FIELDS = 1000

# What aiohttp and the sockets raise, by what the caller is told; the first line that fits counts. What fits none is
# an answer nobody can make sense of.
FAILURES: tuple[tuple[type[Exception], int, str], ...] = (
    (aiohttp.ConnectionTimeoutError, 504, "connect_timeout"),
    (TimeoutError, 504, "read_timeout"),
    (aiohttp.ClientConnectorDNSError, 502, "dns_failed"),
    (aiohttp.ClientSSLError, 502, "tls_failed"),
    (aiohttp.ClientConnectorError, 502, "connect_failed"),
    (aiohttp.ClientHttpProxyError, 502, "connect_failed"),
    (aiohttp.ClientPayloadError, 502, "truncated"),
    (aiohttp.ClientResponseError, 502, "unreadable"),
    (aiohttp.ClientConnectionError, 502, "reset"),
    (OSError, 502, "reset"),
)

# A read from a connection that is gone already is a RuntimeError.
FAULTS = (aiohttp.ClientError, OSError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Outgoing:
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
        self._config = config
        self._url = URL(self.origin.address.decode("ascii") + "/")
        self.forward_proxy = _ForwardProxy()
        # The longest wait for Flagsmith to take more of a body, in seconds.
        self.patience = config.read_timeout
        self._links: WeakKeyDictionary[ResponseHandler, _Link] = WeakKeyDictionary()
        self._in_flight = 0

    async def __aenter__(self) -> Self:
        """Raises StartError where `upstream.ca_file`, or the environment's proxy, cannot be used."""
        tls = _tls(self._config)
        if self._config.trust_env:
            self.forward_proxy = _ForwardProxy.of_environment(self.origin)
        pool = aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=self._config.idle_timeout)
        self._pooled = self._session(pool)
        self._single = self._session(aiohttp.TCPConnector(limit=0, ssl=tls, force_close=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        await self._pooled.close()
        await self._single.close()

    def tls(self) -> ssl.SSLContext | bool:
        """How Flagsmith's certificate is verified, as asyncio takes it. Raises StartError."""
        return _tls(self._config)

    @property
    def crowded(self) -> bool:
        """Whether more than half of the requests that may be in flight are."""
        return 2 * self._in_flight > self._config.max_in_flight

    async def send(self, outgoing: Outgoing, *, fresh: bool = False) -> "UpstreamAnswer":
        """Send once and return when the answer's headers are there; the answer must be closed in the end.

        With *fresh* the connection is a new one. Raises UpstreamError (ConnectionReused where a pooled connection
        had died), or whatever RequestRefused the body raises.
        """
        if self._in_flight >= self._config.max_in_flight:
            raise UpstreamError(502, "busy")
        self._in_flight += 1
        try:
            return await self._send(outgoing, self._single if fresh else self._pooled)
        except BaseException:
            self._release()
            raise

    async def _send(self, outgoing: Outgoing, session: aiohttp.ClientSession) -> "UpstreamAnswer":
        dispatch = _Dispatch(outgoing, self)
        response = await session.request(
            outgoing.method,
            self._url,
            data=outgoing.body,
            allow_redirects=False,
            proxy=self.forward_proxy.url,
            proxy_headers={name.decode(): value.decode() for name, value in self.forward_proxy.login},
            middlewares=(dispatch,),
        )
        assert dispatch.link is not None  # noqa: S101  # there is no answer without a connection
        if not _readable(response):
            response.close()
            raise UpstreamError(502, "unreadable")
        return UpstreamAnswer(response, dispatch.link, self._release)

    def _session(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        config = self._config
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            request_class=_Request,
            timeout=aiohttp.ClientTimeout(total=None, connect=config.connect_timeout, sock_read=config.read_timeout),
            max_line_size=ANSWER_FIELD_BYTES,
            max_field_size=ANSWER_FIELD_BYTES,
            max_headers=ANSWER_FIELDS,
        )

    def link(self, protocol: ResponseHandler) -> "_Link":
        """What is known about a connection that is about to carry a request. An old one carries its last."""
        now = time.monotonic()
        link = self._links.get(protocol)
        if link is None:
            link = self._links[protocol] = _Link(now)
            if (closed := protocol.closed) is not None:
                closed.add_done_callback(link.lost)
            return link
        link.reused = True
        if now - link.born > self._config.max_connection_age:
            protocol.force_close()
        return link

    def _release(self) -> None:
        self._in_flight -= 1


class UpstreamAnswer:
    """Flagsmith's answer while it arrives. Who got it closes it."""

    def __init__(self, response: aiohttp.ClientResponse, link: "_Link", release: Callable[[], None]) -> None:
        self.status = response.status
        self.reason = (response.reason or "").encode("utf-8", "surrogateescape")
        self.headers: RawHeaders = response.raw_headers
        self._response = response
        self._content = response.content
        self._link = link
        self._release: Callable[[], None] | None = release
        self._until_close = not (self.text("Content-Length") or self.text("Transfer-Encoding"))
        link.content = response.content

    @property
    def ended(self) -> bool:
        """Whether everything was read. Where not even the sender's end is known yet, `read` returns nothing later."""
        return self._content.at_eof()

    def text(self, name: str) -> str:
        """The first value of a header; empty where there is none."""
        return self._response.headers.get(name, "")

    def arrived(self) -> bytes:
        """What can be read without waiting. Raises UpstreamError."""
        try:
            return self._sound(self._content.read_nowait())
        except FAULTS as fault:
            raise _told(fault) from fault

    async def read(self) -> bytes:
        """The next bytes as soon as there are any; none only at the end. Raises UpstreamError."""
        try:
            return self._sound(await self._content.readany())
        except FAULTS as fault:
            raise _told(fault) from fault

    def be_patient(self) -> None:
        """Wait for ever from now on: an event stream may be silent."""
        if (connection := self._response.connection) is not None and (protocol := connection.protocol) is not None:
            protocol.read_timeout = None
            protocol.start_timeout()

    def close(self) -> None:
        """Give the connection back, or close it where the answer did not end. A second call does nothing."""
        if self._release is not None:
            self._link.content = None
            self._response.close()
            self._release()
            self._release = None

    def _sound(self, chunk: bytes) -> bytes:
        """An answer that lasts until the connection ends is whole only where that end was an orderly one."""
        if self._until_close and self._link.broken:
            raise UpstreamError(502, "truncated")
        return chunk


class _Link:
    """What aiohttp does not say about a connection."""

    def __init__(self, born: float) -> None:
        self.born = born
        # It carried a request before the present one.
        self.reused = False
        # It ended by an error.
        self.broken = False
        # The answer that is being read from it.
        self.content: aiohttp.StreamReader | None = None

    def lost(self, closed: "asyncio.Future[None]") -> None:
        """End a read that aiohttp forgot: one whose connection it closed itself, after a chunk it could not parse."""
        self.broken = closed.cancelled() or closed.exception() is not None
        if self.content is not None and not self.content.is_eof() and self.content.exception() is None:
            self.content.set_exception(aiohttp.ClientPayloadError())


class _Dispatch:
    """Sends one request once: a client middleware, so that aiohttp's own repeat never sees an error it acts on."""

    def __init__(self, outgoing: Outgoing, upstream: Upstream) -> None:
        self.outgoing = outgoing
        self.upstream = upstream
        self.link: _Link | None = None

    async def __call__(self, request: ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        assert isinstance(request, _Request)  # noqa: S101  # the session makes no others
        request.dispatch = self
        try:
            return await send(request)
        except (*FAULTS, ValueError) as fault:
            if isinstance(refused := fault.__cause__, RequestRefused):
                raise refused from None
            raise _told(fault, reused=self.link is not None and self.link.reused) from fault


class _Request(ClientRequest):
    """aiohttp's request with a head of our own: the bytes of the caller, and framing."""

    dispatch: _Dispatch

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the head and begin to write the body."""
        protocol = conn.protocol
        assert protocol is not None  # noqa: S101  # the pool just gave it
        self.dispatch.link = self.dispatch.upstream.link(protocol)
        writer = _Writer(protocol, self.loop, self.dispatch.upstream.patience)
        await writer.write(self._head())
        task = self._begin_body(writer, conn)
        if task is None:
            protocol.start_timeout()
        return self.response_class(
            self.method,
            self.original_url,
            writer=task,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=self.session,
            stream_writer=writer,
        )

    def _head(self) -> bytes:
        outgoing, origin = self.dispatch.outgoing, self.dispatch.upstream.origin
        target, headers = origin.onward(outgoing.target), list(outgoing.headers)
        if self.proxy and not self.is_ssl():  # a forward proxy is asked in absolute-form
            target = origin.address + target
            headers += self.dispatch.upstream.forward_proxy.login
        if outgoing.body is not None and not values(headers, b"content-length"):
            headers.append((b"Transfer-Encoding", b"chunked"))
        return serialise(b"%b %b HTTP/1.1" % (outgoing.method.encode("ascii"), target), headers)

    def _begin_body(self, writer: "_Writer", conn: Connection) -> "asyncio.Task[None] | None":
        outgoing = self.dispatch.outgoing
        if outgoing.body is None:
            return None
        if not values(outgoing.headers, b"content-length"):
            writer.enable_chunking()
        return asyncio.create_task(self.write_bytes(writer, conn), name="upload")


class _Writer(StreamWriter):
    """Gives up on a Flagsmith that reads no further."""

    def __init__(self, protocol: ResponseHandler, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        super().__init__(protocol, loop)
        self._patience = patience

    async def drain(self) -> None:
        """Wait until more can be written. Raises TimeoutError."""
        if self.protocol.writing_paused:
            async with asyncio.timeout(self._patience):
                await super().drain()


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


def _told(fault: Exception, *, reused: bool = False) -> UpstreamError:
    """What the caller is told about *fault*."""
    found = ((status, reason) for kind, status, reason in FAILURES if isinstance(fault, kind))
    status, reason = next(found, (502, "unreadable"))
    # aiohttp hands over the part of an answer that came before an orderly end.
    unanswered = not isinstance(fault, aiohttp.ServerDisconnectedError) or isinstance(fault.message, str)
    kind = ConnectionReused if reused and reason == "reset" and unanswered else UpstreamError
    return kind(status, reason)


def _readable(response: aiohttp.ClientResponse) -> bool:
    """Whether the answer's body can be told from what follows it. Nobody asked for an upgrade or a transfer coding."""
    codings = response.headers.getall("Transfer-Encoding", [])
    return response.status >= 200 and (not codings or [coding.lower() for coding in codings] == ["chunked"])


def _tls(config: UpstreamConfig) -> ssl.SSLContext | bool:
    """How certificates are verified: by the machine's authorities, or by those of `upstream.ca_file` alone."""
    if config.ca_file is None:
        return True
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as failure:
        reason = "it holds no PEM certificate" if isinstance(failure, ssl.SSLError) else failure.strerror
        advice = "name a readable PEM file of the authority, or write ca_file: null"
        raise StartError(f"upstream.ca_file {config.ca_file} cannot be used: {reason}; {advice}") from failure
    context.set_alpn_protocols(["http/1.1"])
    return context
