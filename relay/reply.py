"""The answer to a caller, byte for byte: nothing is added to it but framing."""

import asyncio
import socket
import struct
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11

from relay.core import refusal
from relay.core.headers import RawHeaders, framing
from relay.errors import CallerStalled


class Reply:
    """Writes head and body itself: aiohttp's response would add Server, Date and Content-Type, and recode headers.

    It is none of those, then, but has all that aiohttp's server asks of one: `keep_alive`, `prepare` and `write_eof`.
    """

    def __init__(
        self, request: web.BaseRequest, status: int, reason: bytes, headers: RawHeaders, *, keep_alive: bool = True
    ) -> None:
        """Raises ValueError where a header would break out of its line."""
        self.status = status
        self.begun = False
        self._request = request
        self._framing = framing(
            b"HTTP/1.1 %d %b" % (status, reason),
            headers,
            method=request.method,
            status=status,
            http11=request.version >= HttpVersion11,
            keep_alive=keep_alive and bool(request.keep_alive),
        )
        self._whole = b""
        self._aborted = False

    @classmethod
    def refusing(cls, request: web.BaseRequest, status: int, error: str, *, keep_alive: bool = True) -> "Reply":
        """An answer of the relay's own. It is sent when aiohttp asks for it, after the handler."""
        body = refusal.body(error)
        reply = cls(request, status, refusal.phrase(status), refusal.headers(len(body)), keep_alive=keep_alive)
        reply._whole = body
        return reply

    @property
    def keep_alive(self) -> bool:
        """Whether the connection goes on after this answer."""
        return self._framing.keep_alive and not self._aborted

    async def send(self, chunk: bytes, *, last: bool = False) -> None:
        """Send more of the body, the head before its first piece; wait while the caller reads slowly.

        Raises ConnectionError once the caller is gone, CallerStalled where it makes no room for what was sent.
        """
        data = self._framed(chunk, last=last)
        if not self.begun:
            self.begun, data = True, self._framing.head + data
        connection = self._request.protocol
        if data:
            if connection.transport is None or connection.transport.is_closing():
                raise ConnectionResetError("the caller is gone")
            connection.transport.write(data)
            self._request.writer.output_size += len(data)  # as aiohttp's writer does, which takes longer
        if connection.writing_paused:
            await self._outwait()

    def abort(self, *, reset: bool = False) -> None:
        """Let the caller see that the answer is not whole: close the connection in the middle of it.

        With *reset*, what is on its way to the caller is thrown away too.
        """
        self._aborted = True
        transport = self._request.transport
        if transport is None:
            return
        reset = reset or self._framing.until_close
        if reset and (sock := transport.get_extra_info("socket")) is not None:
            # Only a reset tells this end of the connection from the answer's.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """aiohttp's first half of sending: nothing is left to do."""
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """aiohttp's second half of sending."""
        if not self.begun:
            await self.send(self._whole + data, last=True)

    async def _outwait(self) -> None:
        """Wait while the caller reads, however slowly; at most twice `listen.idle_timeout` for one that does not."""
        drained = asyncio.ensure_future(self._request.writer.drain())
        unsent = self._unsent
        try:
            while not (await asyncio.wait({drained}, timeout=self._request.protocol.keepalive_timeout))[0]:
                before, unsent = unsent, self._unsent
                if unsent == before:
                    self.abort(reset=True)
                    raise CallerStalled
            drained.result()
        finally:
            drained.cancel()  # which also says that nobody wants to hear of a failure

    @property
    def _unsent(self) -> int:
        transport = self._request.transport
        return 0 if transport is None else transport.get_write_buffer_size()

    def _framed(self, chunk: bytes, *, last: bool) -> bytes:
        if self._framing.bodiless:
            return b""
        if not self._framing.chunked:
            return chunk
        framed = b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunk else b""
        return framed + b"0\r\n\r\n" if last else framed


async def go_on(request: web.BaseRequest) -> None:
    """Tell a caller that expects it to send its body."""
    await request.writer.write(b"HTTP/1.1 %d Continue\r\n\r\n" % HTTPStatus.CONTINUE)
    request.writer.output_size = 0  # so that aiohttp does not take it for the begin of an answer
