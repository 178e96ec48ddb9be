"""Neighbours that see and say exact bytes: a Flagsmith that plays scripted answers, and a caller on a bare socket."""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self, cast

PATIENCE = 10.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer as it stood on the wire; a chunked body is put together."""

    first_line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def __getitem__(self, name: str) -> list[bytes]:
        """Every value of a header."""
        return [value for field, value in self.headers if field.lower() == name.lower().encode()]

    @property
    def target(self) -> bytes:
        return self.first_line.split(b" ")[1]

    @property
    def status(self) -> int:
        return int(self.first_line.split(b" ")[1])


Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawFlagsmith:
    """Answers each request with the next of `script`, or OK. Bytes are written; a Play does as it likes."""

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.script: deque[bytes | Play] = deque()
        self.requests: list[Message] = []
        # Its connections, in the order of their opening, and how many are open.
        self.connections: list[asyncio.StreamWriter] = []
        self.open = 0
        self._host = host
        self._tls = tls
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls, limit=2**20)
        self.port = int(self._server.sockets[0].getsockname()[1])
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"{'https' if self._tls else 'http'}://{host}:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self.connections:
            writer.transport.abort()
        await self.until(lambda: self.open == 0)
        await self._server.wait_closed()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something that happens here makes *true* true."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(true)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        await self._change(+1)
        try:
            while True:
                first_line, headers = await read_head(reader)
                message = Message(first_line, headers, b"")
                answer: bytes | Play = self.script.popleft() if self.script else OK
                if isinstance(answer, bytes):
                    message = Message(first_line, headers, await read_body(reader, headers))
                    await self._record(message)
                    bodiless = first_line.startswith(b"HEAD")
                    writer.write(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if bodiless else answer)
                else:
                    await self._record(message)
                    await answer(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.transport.abort()
            await self._change(-1)

    async def _record(self, message: Message) -> None:
        self.requests.append(message)
        await self._change(0)

    async def _change(self, opened: int) -> None:
        self.open += opened
        async with self._changed:
            self._changed.notify_all()


class Caller:
    """A client that writes what it is told and reads answers as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def at(cls, port: int, host: str = "127.0.0.1") -> Self:
        return cls(*await asyncio.open_connection(host, port, limit=2**20))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def stop_reading(self) -> None:
        """Leave what comes where it is."""
        cast(asyncio.Transport, self.writer.transport).pause_reading()

    def read_on(self) -> None:
        """Take again what comes."""
        cast(asyncio.Transport, self.writer.transport).resume_reading()

    def leave(self) -> None:
        """Be gone at once."""
        self.writer.transport.abort()

    async def ask(self, request: bytes) -> Message:
        """Send *request* and read one answer."""
        self.writer.write(request)
        return await self.answer(bodiless=request.startswith(b"HEAD"))

    async def answer(self, *, bodiless: bool = False) -> Message:
        """Read one answer. Raises IncompleteReadError where it ends early."""
        async with asyncio.timeout(PATIENCE):
            first_line, headers = await read_head(self.reader)
            status = int(first_line.split(b" ")[1])
            if bodiless or status in {204, 304} or status < 200:
                return Message(first_line, headers, b"")
            return Message(first_line, headers, await read_body(self.reader, headers, until_close=True))

    async def rest(self) -> bytes:
        """Everything until the connection ends."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()


async def read_head(reader: asyncio.StreamReader) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    first_line, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    fields = [line.partition(b": ") for line in lines]
    return first_line, [(name, value) for name, _, value in fields]


async def read_body(
    reader: asyncio.StreamReader, headers: list[tuple[bytes, bytes]], *, until_close: bool = False
) -> bytes:
    fields = {name.lower(): value for name, value in headers}
    if b"transfer-encoding" in fields:
        return await read_chunks(reader)
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    return await reader.read() if until_close else b""


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


def say(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer with a length."""
    lines = [b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, b"", body])


def ask(target: bytes = b"/", *headers: bytes, method: bytes = b"GET", body: bytes | None = None) -> bytes:
    """A request as the plainest client writes it."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: relay.local:18080", *headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body or b""])
