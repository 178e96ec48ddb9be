"""Answers that a test or a demonstration puts in place of the ordinary ones, the broken ones among them."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto

from aiohttp import web
from multidict import CIMultiDict

# Often enough to defeat a read timeout, seldom enough to cost nothing.
DRIP_SECONDS = 0.05


class Fault(Enum):
    """Ways to answer badly. "Stores" means: Heap accepts the events as ever, only its answer goes wrong."""

    # Stores, then closes the connection without an answer.
    STORE_THEN_DROP = auto()
    # Stores, then a gateway in between answers 502.
    STORE_THEN_502 = auto()
    # Stores, then never answers.
    STORE_THEN_HANG = auto()
    # Stores, then answers with fewer bytes than announced.
    TRUNCATE = auto()
    # Stores, then answers 200 with a page of HTML.
    HTML_200 = auto()
    # Stores, then answers 200 with a body that comes byte by byte and never ends.
    SLOW_DRIP = auto()
    # Stores and answers as ever, then closes the connection although it said nothing of that.
    CLOSE_AFTER = auto()
    # Stores nothing and never answers.
    HANG = auto()
    # Stores nothing and resets the connection.
    RESET = auto()
    # Stores nothing and closes the connection without an answer.
    DROP = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. *store*: whether a stand-in Heap stores the events; None: where the status is 2xx."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    store: bool | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes for the connection, in place of a whole HTTP answer; it is closed after them."""

    data: bytes


Script = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# 200 stands for the ordinary answer, another status for a `Reply` with nothing in it.
Scripted = int | Reply | Raw | Fault | Script

_HTML = Reply(200, b"<!doctype html><title>Please log in</title>", (("Content-Type", "text/html"),))
_TRUNCATED = Raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")


def stores(scripted: Scripted) -> bool:
    """Whether a stand-in Heap that answers so has stored the events."""
    match scripted:
        case int():
            return scripted < 300
        case Reply():
            return scripted.status < 300 if scripted.store is None else scripted.store
        case Fault():
            return scripted not in {Fault.HANG, Fault.RESET, Fault.DROP}
    return False


def status_of(scripted: Scripted) -> int:
    """The status that the caller gets to see; 0 where there is none, or only the script knows."""
    match scripted:
        case int():
            return scripted
        case Reply():
            return scripted.status
        case Fault.STORE_THEN_502:
            return 502
        case Fault.TRUNCATE | Fault.HTML_200 | Fault.SLOW_DRIP | Fault.CLOSE_AFTER:
            return 200
    return 0


async def perform(request: web.BaseRequest, scripted: Scripted, stopping: asyncio.Event) -> web.StreamResponse:
    """Answer *request* as *scripted*; one that waits for ever waits until *stopping*."""
    match scripted:
        case int():
            return web.Response(status=scripted)
        case Reply():
            return web.Response(status=scripted.status, body=scripted.body, headers=CIMultiDict(scripted.headers))
        case Raw():
            return _write_raw(request, scripted.data)
        case Fault():
            return await _fail(request, scripted, stopping)
    return await scripted(request)


async def _fail(request: web.BaseRequest, fault: Fault, stopping: asyncio.Event) -> web.StreamResponse:
    match fault:
        case Fault.STORE_THEN_502:
            return web.Response(status=502, text="Bad Gateway")
        case Fault.HTML_200:
            return await perform(request, _HTML, stopping)
        case Fault.TRUNCATE:
            return await perform(request, _TRUNCATED, stopping)
        case Fault.SLOW_DRIP:
            return await _drip(request, stopping)
        case Fault.RESET:
            return _reset(request)
        case Fault.HANG | Fault.STORE_THEN_HANG:
            await stopping.wait()
    return _write_raw(request, b"")


def _write_raw(request: web.BaseRequest, data: bytes) -> web.StreamResponse:
    """Write past aiohttp, then close; the response returned here finds the connection gone."""
    if request.transport is not None:
        request.transport.write(data)
        request.transport.close()
    return web.Response()


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    """Close with a TCP reset: a zero linger time throws away what was not sent."""
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def _drip(request: web.BaseRequest, stopping: asyncio.Event) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while not stopping.is_set():
        await response.write(b" ")
        await asyncio.sleep(DRIP_SECONDS)
    return response
