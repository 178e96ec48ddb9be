"""The port that carries Flagsmith's API: aiohttp's low-level server, with our own words for what it refuses."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import _ErrInfo

from relay.config import ListenConfig
from relay.descriptors import Files
from relay.model import Clock
from relay.reply import Reply

log = structlog.get_logger(__name__)

# What is left of a request after `shutdown.finish` is cut; this is for the cut itself.
CUT_SECONDS = 0.1


class Front(web.Server):
    """Serves one handler. When it stops, requests in flight go on until the time-out, and each answer closes."""

    def __init__(
        self, answer: Callable[[web.BaseRequest], Awaitable[Reply]], listen: ListenConfig, clock: Clock
    ) -> None:
        incoming = partial(_Incoming, loop=asyncio.get_running_loop())
        super().__init__(cast(Any, self._handle), request_factory=incoming, handler_cancellation=True)
        self._answer = answer
        self._files = Files(clock)
        self._options: dict[str, Any] = {
            "keepalive_timeout": listen.idle_timeout,
            "max_line_size": listen.max_header_bytes,
            "max_field_size": listen.max_header_bytes,
            "auto_decompress": False,
            "access_log": None,
        }
        # Who answers, by connection.
        self._busy: dict[web.RequestHandler, asyncio.Task[None]] = {}
        self._idle = asyncio.Event()
        self.stopping = False

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, **self._options)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._files.given(transport.get_extra_info("socket").fileno())

    @property
    def in_flight(self) -> int:
        """Requests being answered now."""
        return len(self._busy)

    def pre_shutdown(self) -> None:
        """Close the connections that carry no request; aiohttp would also stop to read the bodies of the others."""
        self.stopping = True
        for connection in self.connections:
            if connection not in self._busy:
                connection.force_close()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Wait up to *timeout* seconds for requests in flight, then cut what is left."""
        if self._busy:
            self._idle.clear()
            # Not asyncio.timeout: before Python 3.11.3 it breaks off whatever runs in a task that was cancelled before,
            # as after a second signal (https://github.com/python/cpython/issues/102780).
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), timeout)
            await self._cut()
        await super().shutdown(CUT_SECONDS)

    async def _cut(self) -> None:
        """End the handlers while their connections stand, so that each can show that its answer is not whole.

        aiohttp closes the connections first, and an answer whose end is the connection's would look complete.
        """
        for handler in (handlers := [*self._busy.values()]):
            handler.cancel()
        if handlers:
            await asyncio.wait(handlers, timeout=CUT_SECONDS)

    async def _handle(self, request: web.BaseRequest) -> Reply:
        connection = request.protocol
        self._busy[connection] = request.task
        try:
            return await self._answer(request)
        finally:
            if request.content.exception() is not None:
                request.content.feed_eof()  # aiohttp would read on to its end, and come upon the exception
            del self._busy[connection]
            if not self._busy:
                self._idle.set()


class _Incoming(web.BaseRequest):
    """A request that is the last one of its connection once the server stops."""

    @property
    def keep_alive(self) -> bool:
        return not (self._message.should_close or cast(_Connection, self._protocol).front.stopping)


class _Connection(web.RequestHandler):
    """aiohttp's connection, less the words with which it would repeat a broken request to its sender and the log."""

    __slots__ = ("front",)

    def __init__(self, front: Front, **options: Any) -> None:
        super().__init__(front, loop=asyncio.get_running_loop(), **options)
        self.front = front

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # What a handler has written is with the system once it need not wait. So nothing that is left here for a slow
        # caller keeps a connection from closing, or is lost from the end of an answer that counts as whole.
        cast(asyncio.WriteTransport, transport).set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """Take what comes. Whoever reads a body whose rest turns out to be broken is told; aiohttp lets it wait on."""
        super().data_received(data)
        request = self._current_request
        broken = bool(self._messages) and isinstance(self._messages[-1][0], _ErrInfo)
        if broken and request is not None and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("the body is broken"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it quotes the request
    ) -> Any:
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer has begun")
        if status >= 500:
            log.error("request.crashed", error=type(exc).__name__, exc_info=exc)
            return Reply.refusing(request, 500, "relay_failed", keep_alive=False)
        error = "request_head_too_large" if isinstance(exc, LineTooLong) else "request_unreadable"
        log.debug("request.refused", reason=error)
        return Reply.refusing(request, 400, error, keep_alive=False)
