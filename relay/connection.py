"""One connection to Flagsmith: a request out, its answer back, every byte of both as it is; then the next.

llhttp tells where an answer's head and body end. Each answer has a parser of its own, so that nothing one leaves behind
can be taken for part of the next.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from relay.core.headers import values
from relay.errors import ConnectionReused, RequestRefused, UpstreamError

# Flagsmith's answers need a few hundred bytes of headers; a gateway before it may add large cookies and policies.
HEAD_BYTES = 256 * 1024
HEAD_FIELDS = 1000
# What is read of an answer before its caller takes it.
AHEAD_BYTES = 128 * 1024
# The headers that say where a body ends.
LENGTHS = {b"content-length", b"transfer-encoding"}


class UpstreamAnswer:
    """Flagsmith's answer while it arrives. Who got it closes it."""

    __slots__ = (
        *("_bodiless", "_connection", "_failure", "_fields", "_parser", "_pieces", "_release", "_room", "_waiter"),
        *("_waiting_bytes", "begun", "headed", "headers", "keep_alive", "patient", "reason", "status", "until_close"),
        "whole",
    )

    def __init__(self, connection: "Connection", release: Callable[[], None], *, bodiless: bool) -> None:
        """Its *connection* feeds it; a *bodiless* one, to HEAD, ends with its head whatever that says."""
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        # How far it has come: its first byte, its whole head, all of it.
        self.begun = self.headed = self.whole = False
        # The connection's end is its end.
        self.until_close = False
        # Another request may follow on its connection.
        self.keep_alive = False
        # It may be silent for ever, as an event stream may: who got it says so.
        self.patient = False
        self._bodiless = bodiless
        self._connection = connection
        self._release: Callable[[], None] | None = release
        self._fields: dict[bytes, bytes] = {}
        self._failure: UpstreamError | RequestRefused | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._waiting_bytes = 0
        # Bytes that may still come without any of a body among them.
        self._room = HEAD_BYTES
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        # As lenient as aiohttp's client; none of it is about where an answer ends.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    @property
    def ended(self) -> bool:
        """Whether everything was read. Where not even the sender's end is known yet, `read` returns nothing later."""
        return self.whole and not self._pieces

    def text(self, name: bytes) -> str:
        """The first value of a header, whose *name* is in lower case; empty where there is none."""
        value = self._fields.get(name)
        return "" if value is None else value.decode("utf-8", "surrogateescape")

    async def head(self) -> None:
        """Return when the headers are there. Raises UpstreamError, or whatever RequestRefused the body raised."""
        if not self.headed and self._failure is None:
            await self._more()
        if not self.headed and self._failure is not None:
            raise self._failure

    def arrived(self) -> bytes:
        """What can be read without waiting. Raises UpstreamError."""
        if self._failure is not None:
            raise self._failure
        pieces = self._pieces
        if not pieces:
            return b""
        self._pieces, self._waiting_bytes = [], 0
        if not self.whole:
            self._connection.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read(self) -> bytes:
        """The next bytes as soon as there are any; none only at the end. Raises UpstreamError."""
        if not self._pieces and not self.whole and self._failure is None:
            await self._more()
        return self.arrived()

    def close(self) -> None:
        """Give the connection back, or close it where the answer did not end. A second call does nothing."""
        if self._release is not None:
            release, self._release = self._release, None
            self._connection.part_with(self)
            self._parser = None  # which holds on to this
            release()

    async def _more(self) -> None:
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the connection tells.

    def feed(self, data: bytes) -> None:
        """More of it. What is wrong with it is seen by its reader, or, after its end, by its connection."""
        assert self._parser is not None  # noqa: S101  # it is fed while it is not closed
        self.begun = True
        self._room -= len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._refuse()
        if self._room < 0 and not self.whole:
            self._refuse()

    def finish(self) -> None:
        """All of it is here."""
        self.whole = True
        self._wake()

    def fail(self, failure: UpstreamError | RequestRefused) -> None:
        """Nothing more will come of it. One that is whole stays so."""
        self.keep_alive = False
        if not self.whole and self._failure is None:
            self._failure = failure
            self._wake()

    def _refuse(self) -> None:
        self._connection.give_up(UpstreamError(502, "unreadable"))

    # What the parser finds.

    def on_message_begin(self) -> None:
        if self.whole:  # another one, which nobody asked for
            self.keep_alive = False

    def on_status(self, reason: bytes) -> None:
        if not self.headed:
            self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headed:  # else it is a trailer
            # llhttp reads "Content-Length : 2" as if no space stood there, and so must the caller (RFC 9112, 5.1).
            self.headers.append((name.rstrip(), value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None  # noqa: S101  # it calls
        status = self._parser.get_status_code()
        if self.headed:
            return
        if 100 <= status < 200 and status != HTTPStatus.SWITCHING_PROTOCOLS:  # the answer is still to come
            self.reason, self.headers = b"", []
            return
        size = len(self.reason)
        for name, value in self.headers:
            size += len(name) + len(value)
            self._fields.setdefault(name.lower(), value)
        if status < 200 or size > HEAD_BYTES or len(self.headers) > HEAD_FIELDS or not self._is_framed():
            self._refuse()
            return
        self.status, self.headed = status, True
        self.keep_alive = self._parser.should_keep_alive()
        self.until_close = self._fields.keys().isdisjoint(LENGTHS)
        self.whole = self._bodiless
        self._wake()

    def _is_framed(self) -> bool:
        """Whether its body can be told from what follows it: nobody asked for another transfer coding than chunked."""
        if b"transfer-encoding" not in self._fields:
            return True
        return [value.lower() for value in values(self.headers, b"transfer-encoding")] == [b"chunked"]

    def on_body(self, piece: bytes) -> None:
        if self.whole:  # of an answer that has none
            self.keep_alive = False
            return
        if not self.headed:  # of a hint, which has none either: it may be what llhttp took for one
            self._refuse()
            return
        self._room = HEAD_BYTES
        self._pieces.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes > AHEAD_BYTES:
            self._connection.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if self.headed:
            self.finish()


class Connection(asyncio.Protocol):
    """Carries one exchange at a time, and tells when it is *rested* and can carry the next, and when it is *gone*."""

    transport: asyncio.Transport

    def __init__(self, rested: Callable[["Connection"], None], gone: Callable[["Connection"], None]) -> None:
        self._rested = rested
        self._gone = gone
        self.loop = asyncio.get_running_loop()
        # By the loop's clock, in seconds: when it came about, and when something last happened.
        self.born = self.heard = self.loop.time()
        # It carried a request before the present one.
        self.reused = False
        self._answer: UpstreamAnswer | None = None
        self._upload: asyncio.Task[None] | None = None
        self._reading = True
        # There while nothing more is to be written; done when it may.
        self._writable: asyncio.Future[None] | None = None

    def ask(self, head: bytes, body: AsyncIterator[bytes] | None, answer: UpstreamAnswer, *, chunked: bool) -> None:
        """Send a request whose *answer* is told what comes."""
        self._answer = answer
        self.heard = self.loop.time()
        self.transport.write(head)
        if body is not None:
            self._upload = self.loop.create_task(self._send(body, chunked=chunked), name="upload")
            self._upload.add_done_callback(self._sent)

    def part_with(self, answer: UpstreamAnswer) -> None:
        """Nobody wants more of *answer*."""
        self._answer = None
        if self._upload is None and answer.whole and answer.keep_alive and not self.transport.is_closing():
            self.resume_reading()
            self.reused = True
            self.heard = self.loop.time()
            self._rested(self)
            return
        if self._upload is not None:
            self._upload.cancel()
        self.transport.abort()

    def is_overdue(self, now: float, patience: float) -> bool:
        """Whether Flagsmith has to do something, and did nothing for *patience* seconds."""
        answer = self._answer
        if answer is None or answer.whole or answer.patient or not self._reading:
            return False
        uploading = self._upload is not None and self._writable is None
        return not uploading and now - self.heard > patience

    def give_up(self, failure: UpstreamError | RequestRefused) -> None:
        """Close it; its answer fails unless it is whole."""
        if self._answer is not None:
            self._answer.fail(failure)
        self.transport.abort()

    # The way out.

    async def _send(self, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        async for piece in body:
            await self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            await self._write(b"0\r\n\r\n")

    async def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)
        if self._writable is not None:
            await self._writable

    def _sent(self, upload: "asyncio.Task[None]") -> None:
        self._upload = None
        self.heard = self.loop.time()
        if upload.cancelled() or (failure := upload.exception()) is None:
            return
        if isinstance(failure, RequestRefused) and self._answer is not None and not self._answer.headed:
            self.give_up(failure)
        else:
            self.give_up(UpstreamError(502, "reset"))

    def pause_writing(self) -> None:
        self._writable = self.loop.create_future()
        self.heard = self.loop.time()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        self.heard = self.loop.time()

    # The way back.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        answer = self._answer
        if answer is None or answer.whole:  # nobody asked for this
            self.transport.abort()
            return
        answer.feed(data)

    def pause_reading(self) -> None:
        """What came is not taken yet."""
        self._reading = False
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """What came is taken."""
        if not self._reading:
            self._reading = True
            self.heard = self.loop.time()
            self.transport.resume_reading()

    def eof_received(self) -> None:
        """Flagsmith ends the connection in good order, over TLS with a close_notify; only so can it end an answer."""
        if self._answer is not None and self._answer.until_close:
            self._answer.finish()
        self.transport.abort()  # what is still to be sent is of no use, and may never be taken

    def connection_lost(self, _: Exception | None) -> None:
        if (answer := self._answer) is not None:
            answer.fail(self._loss(answer))
        if self._upload is not None:
            self._upload.cancel()
        self.resume_writing()
        self._gone(self)

    def _loss(self, answer: UpstreamAnswer) -> UpstreamError:
        if answer.headed:
            return UpstreamError(502, "truncated")
        # One that was closed in the meantime never saw the request.
        return ConnectionReused(502, "reset") if self.reused and not answer.begun else UpstreamError(502, "reset")
