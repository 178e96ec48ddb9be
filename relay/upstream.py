"""The connections to Flagsmith: who may ask over which of them, and when they end.

An HTTP client would normalise the target, add headers, and lose header bytes that are not UTF-8; and it takes more of
the processor's time than all the rest of the relay.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Self

import msgspec

from relay.config import UpstreamConfig
from relay.config.forward_proxy import ForwardProxy
from relay.connection import Connection, UpstreamAnswer
from relay.core.headers import lines
from relay.core.target import Origin
from relay.errors import UpstreamError
from relay.route import Route

# How late a silence may be noticed.
LATE_SECONDS = 1.0


class Outgoing(msgspec.Struct, frozen=True):
    """A request as Flagsmith shall see it, but for its framing."""

    method: str
    # Raw path and query as the caller asked; the upstream's base path comes before it.
    target: bytes
    # Its headers' lines.
    fields: bytes
    # None: no body at all.
    body: AsyncIterator[bytes] | None = None
    # The body goes on in chunks; else Content-Length is among the headers, and true.
    chunked: bool = False


class Upstream:
    """Asks Flagsmith, with a pool of connections, while the context is open.

    A request is never sent a second time here, whatever its method.
    """

    def __init__(self, config: UpstreamConfig) -> None:
        self.origin = Origin.of(config.url)
        self.forward_proxy = ForwardProxy()
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
            self.forward_proxy = ForwardProxy.of_environment(self.origin.scheme, self.origin.host, self.origin.port)
        self._loop = asyncio.get_running_loop()
        self._route = Route(self.origin, self.forward_proxy, self._config)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._route.names.close()
        while self._connections:
            self._all_gone.clear()
            for connection in self._connections:
                connection.transport.abort()
            await self._all_gone.wait()
        if self._timer is not None:
            self._timer.cancel()

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
            connection = (None if fresh else self._take()) or await self._open()
        except BaseException:
            self._in_flight -= 1
            raise
        try:
            head, bodiless = self._head(outgoing), outgoing.method == "HEAD"
            return await connection.ask(head, outgoing.body, chunked=outgoing.chunked, bodiless=bodiless)
        except BaseException:
            connection.part()
            raise

    def _head(self, outgoing: Outgoing) -> bytes:
        target, fields = self.origin.onward(outgoing.target), outgoing.fields
        if self.forward_proxy.url is not None and self.origin.scheme == "http":  # it is asked in absolute-form
            target, fields = self.origin.address + target, fields + lines(self.forward_proxy.login)
        if outgoing.chunked:
            fields += b"Transfer-Encoding: chunked\r\n"
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (outgoing.method.encode("ascii"), target, fields)

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
        connection = Connection(self._part, self._forget)
        await self._route.lead(connection, self._config.connect_timeout)
        if connection.transport.is_closing():  # and may have told of it already
            raise UpstreamError(502, "reset")
        self._connections.add(connection)
        if self._timer is None:
            self._look_round()
        return connection

    def _part(self, connection: Connection, rests: bool) -> None:
        self._in_flight -= 1
        if rests:
            self._rested.append(connection)

    def _forget(self, connection: Connection) -> None:
        if connection not in self._connections:  # it never came about
            return
        self._route.remember(connection.transport)
        self._connections.remove(connection)
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
        soon = min(LATE_SECONDS, config.read_timeout / 4, config.idle_timeout / 4)
        # What came while the process stood still was not read yet: nobody is silent before it is.
        stood_still = self._timer is not None and now - self._timer.when() > soon
        for connection in () if stood_still else [*self._connections]:
            if connection.is_overdue(now, config.read_timeout):
                connection.give_up(UpstreamError(504, "read_timeout"))
        for connection in [each for each in self._rested if self._is_worn(each, now)]:
            connection.transport.close()
        self._timer = self._loop.call_later(soon, self._look_round) if self._connections else None
