"""One connection to Flagsmith: a request out, its answer back, every byte of both as it is; then the next.

llhttp tells where an answer's head and body end. Each answer has a parser of its own, so that nothing one leaves behind
can be taken for part of the next: httptools tells of an answer's last trailer when it comes upon the next header.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from itertools import chain
from typing import cast

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from relay.core.headers import values
from relay.errors import ConnectionReused, RequestRefused, UpstreamError

# Flagsmith's answers need a few hundred bytes of headers; a gateway before it may add large cookies and policies.
HEAD_BYTES = 256 * 1024
HEAD_FIELDS = 1000
# The headers that say where a body ends; without one, its connection's end does.
LENGTHS = frozenset({b"content-length", b"transfer-encoding"})


class UpstreamAnswer(msgspec.Struct, eq=False):
    """Flagsmith's answer: its head, and its body while that arrives. Who got it closes it."""

    # None once it is closed.
    connection: "Connection | None"
    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    # The headers', in lower case.
    names: list[bytes]
    # All of it is here.
    whole: bool
    # It may be silent for ever, as an event stream may: who got it says so.
    patient: bool = False
    _failure: UpstreamError | None = None
    _waiter: asyncio.Future[None] | None = None
    # What nobody has read yet; as long as there is something, its connection reads no more.
    unread: list[bytes] = []

    @property
    def ended(self) -> bool:
        """Whether everything was read. Where not even the sender's end is known yet, `read` returns nothing later."""
        return self.whole and not self.unread

    def text(self, name: bytes) -> str:
        """The first value of a header, whose *name* is in lower case; empty where there is none."""
        if name not in self.names:
            return ""
        return self.headers[self.names.index(name)][1].decode("utf-8", "surrogateescape")

    def arrived(self) -> bytes:
        """What can be read without waiting. Raises UpstreamError."""
        if self._failure is not None:
            raise self._failure
        unread, self.unread = self.unread, []
        if unread and not self.whole and self.connection is not None:
            self.connection.resume_reading()
        return unread[0] if len(unread) == 1 else b"".join(unread)

    async def read(self) -> bytes:
        """The next bytes as soon as there are any; none only at the end. Raises UpstreamError."""
        if not self.unread and not self.whole and self._failure is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.arrived()

    def close(self) -> None:
        """Give the connection back, or close it where the answer did not end. A second call does nothing."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.part()

    # What its connection tells.

    def add(self, piece: bytes) -> None:
        """More of the body."""
        self.unread.append(piece)
        self._wake()

    def finish(self) -> None:
        """All of it is here."""
        self.whole = True
        self._wake()

    def fail(self, failure: UpstreamError) -> None:
        """Nothing more will come of it. One that is whole stays so."""
        if not self.whole and self._failure is None:
            self._failure = failure
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; tells when it *parted* with one, and whether it rests, and when it is *gone*."""

    transport: asyncio.Transport

    def __init__(self, parted: Callable[["Connection", bool], None], gone: Callable[["Connection"], None]) -> None:
        self._parted = parted
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        # By the loop's clock, in seconds: when it came about, and when something last happened.
        self.born = self.heard = self._loop.time()
        # It carried a request before the present one.
        self._reused = False
        # While it carries a request: what becomes the answer once its head is there; the answer from then on.
        self._asked: asyncio.Future[UpstreamAnswer] | None = None
        self._answer: UpstreamAnswer | None = None
        self._parser: HttpResponseParser | None = None
        # The answer, to HEAD, ends with its head whatever that says.
        self._bodiless = False
        # Another request may follow.
        self._keep_alive = False
        # Bytes that may still come without any of a body among them.
        self._room = HEAD_BYTES
        self._reason = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._upload: asyncio.Task[None] | None = None
        self._reading = True
        # Unset while nothing more is to be written.
        self._writable = asyncio.Event()
        self._writable.set()

    def ask(
        self, head: bytes, body: AsyncIterator[bytes] | None, *, chunked: bool, bodiless: bool
    ) -> asyncio.Future[UpstreamAnswer]:
        """Send a request. Its answer is there with its head; else UpstreamError, or what RequestRefused *body* raised.

        Whoever gets no answer, or does not wait for it, has to `part`.
        """
        self._asked = self._loop.create_future()
        self._bodiless = bodiless
        self._room = HEAD_BYTES
        self._parser = HttpResponseParser(self)
        # As lenient as aiohttp's client; none of it is about where an answer ends.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.heard = self._loop.time()
        self.transport.write(head)
        if body is not None:
            self._upload = self._loop.create_task(self._send(body, chunked=chunked), name="upload")
            self._upload.add_done_callback(self._sent)
        return self._asked

    def part(self) -> None:
        """Nobody wants more of the answer."""
        whole = self._answer is not None and self._answer.whole
        self._asked = self._answer = self._parser = None
        rests = whole and self._keep_alive and self._upload is None and not self.transport.is_closing()
        if rests:
            self.resume_reading()
            self._reused = True
            self.heard = self._loop.time()
        else:
            if self._upload is not None:
                self._upload.cancel()
            self.transport.abort()
        self._parted(self, rests)

    def is_overdue(self, now: float, patience: float) -> bool:
        """Whether Flagsmith has to do something, and did nothing for *patience* seconds."""
        answer = self._answer
        if self._asked is None or not self._reading or (answer is not None and (answer.whole or answer.patient)):
            return False
        uploading = self._upload is not None and self._writable.is_set()
        return not uploading and now - self.heard > patience

    def give_up(self, failure: UpstreamError | RequestRefused) -> None:
        """Close it; its answer fails unless it is whole."""
        self._fail(failure)
        self.transport.abort()

    def _fail(self, failure: UpstreamError | RequestRefused) -> None:
        if self._answer is not None:
            self._answer.fail(failure if isinstance(failure, UpstreamError) else UpstreamError(502, "reset"))
        elif self._asked is not None and not self._asked.done():
            self._asked.set_exception(failure)

    # The way out.

    async def _send(self, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        async for piece in body:
            await self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            await self._write(b"0\r\n\r\n")

    async def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)
        await self._writable.wait()

    def _sent(self, upload: "asyncio.Task[None]") -> None:
        self._upload = None
        self.heard = self._loop.time()
        if not upload.cancelled() and (failure := upload.exception()) is not None:
            self.give_up(failure if isinstance(failure, RequestRefused) else UpstreamError(502, "reset"))

    def pause_writing(self) -> None:
        self._writable.clear()
        self.heard = self._loop.time()

    def resume_writing(self) -> None:
        self._writable.set()
        self.heard = self._loop.time()

    # The way back.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if transport.get_extra_info("ssl_object") is not None:
            # What a paused one does not take yet stays with the system: at the connection's end, uvloop drops its own.
            self.transport.set_read_buffer_limits(high=1)  # type: ignore[attr-defined]  # which TLS alone has

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
        if self._parser is None or (self._answer is not None and self._answer.whole):  # nobody asked for this
            self.transport.abort()
            return
        self._room -= len(data)
        try:
            self._parser.feed_data(data)
            broken = self._room < 0
        except (HttpParserError, HttpParserUpgrade):  # of a callback, too
            broken = True
        if broken:
            self.give_up(UpstreamError(502, "unreadable"))
        elif self._reading and self._answer is not None and self._answer.unread and not self._answer.whole:
            self._reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """What came is taken."""
        if not self._reading:
            self._reading = True
            self.heard = self._loop.time()
            self.transport.resume_reading()

    def eof_received(self) -> None:
        """Flagsmith ends the connection in good order, over TLS with a close_notify; only so can it end an answer."""
        if self._answer is not None and LENGTHS.isdisjoint(self._answer.names):
            self._answer.finish()
        self.transport.abort()  # what is still to be sent is of no use, and may never be taken

    def connection_lost(self, _: Exception | None) -> None:
        unseen = self._reused and self._room == HEAD_BYTES  # closed in the meantime, it never saw the request
        reason = "reset" if self._answer is None else "truncated"
        self._fail((ConnectionReused if unseen and self._answer is None else UpstreamError)(502, reason))
        if self._upload is not None:
            self._upload.cancel()
        self.resume_writing()
        self._gone(self)

    # What the parser finds.

    def on_message_begin(self) -> None:
        self._reason, self._headers = b"", []
        if self._answer is not None:  # another one, which nobody asked for
            self._keep_alive = False

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is None:  # else it is a trailer
            # llhttp reads "Content-Length : 2" as if no space stood there, and so must the caller (RFC 9112, 5.1).
            self._headers.append((name.rstrip(), value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None and self._asked is not None  # noqa: S101, PT018  # it carries a request
        status = self._parser.get_status_code()
        hint = 100 <= status < 200 and status != HTTPStatus.SWITCHING_PROTOCOLS
        if hint or self._asked.done():  # the answer is still to come; or is here, or of no use
            return
        names = [name.lower() for name, _ in self._headers]
        if status < 200 or not self._is_proper(names):
            raise HttpParserError("no answer to what was asked")
        self._keep_alive = self._parser.should_keep_alive()
        self._answer = UpstreamAnswer(self, status, self._reason, self._headers, names, whole=self._bodiless)
        self._asked.set_result(self._answer)

    def _is_proper(self, names: list[bytes]) -> bool:
        """Whether the head is within bounds, and tells the body from what follows: nobody asked for other codings."""
        # No head is longer than all that came.
        short = self._room >= 0 or len(self._reason) + sum(map(len, chain(*self._headers))) <= HEAD_BYTES
        codings = values(self._headers, b"transfer-encoding") if b"transfer-encoding" in names else []
        return short and len(names) <= HEAD_FIELDS and (not codings or [*map(bytes.lower, codings)] == [b"chunked"])

    def on_body(self, piece: bytes) -> None:
        answer = self._answer
        if answer is None:  # of a hint, which has none: it may be what llhttp took for one
            raise HttpParserError("a hint has no body")
        if answer.whole:  # of an answer that has none
            self._keep_alive = False
        else:
            self._room = HEAD_BYTES
            answer.add(piece)

    def on_message_complete(self) -> None:
        if self._answer is not None:
            self._answer.finish()
