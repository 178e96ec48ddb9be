"""A stand-in for the APIs that SDKs talk to: Flagsmith's core, its hosted Edge API, or the Edge Proxy."""

import asyncio
import gzip
import ssl
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import brotli
from aiohttp import web

from relay.sandbox.call import Call, page
from relay.sandbox.core_dialect import CoreDialect
from relay.sandbox.edge_proxy_dialect import EdgeProxyDialect
from relay.sandbox.faults import Fault, Raw, Reply, Scripted, perform
from relay.sandbox.flags import DEFAULT_FLAGS, ServedEnvironment, StandInFlag, Variant
from relay.sandbox.serve import Server, read_body

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "CLIENT_KEY",
    "DEFAULT_FLAGS",
    "SERVER_KEY",
    "Fault",
    "Raw",
    "ReceivedCall",
    "Reply",
    "StandInFlag",
    "StandInFlagsmith",
    "Variant",
]

CLIENT_KEY = "sandbox-client-key"
SERVER_KEY = "ser.sandbox-server-key"

Style = Literal["core", "old_core", "edge", "edge_proxy"]
Coding = Literal["gzip", "deflate", "br", "zstd"]

_ENCODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
# The Edge Proxy always compresses from this size on.
EDGE_PROXY_GZIP_FROM = 1_000


@dataclass(frozen=True, slots=True)
class ReceivedCall:
    """One request, byte for byte."""

    method: str
    # Path and query as they came.
    target: str
    # Names as they were spelt, in their order; bytes that are not UTF-8 are kept as lone surrogates.
    headers: tuple[tuple[str, str], ...]
    body: bytes


class StandInFlagsmith:
    """Flagsmith on a free port, from entering it as a context manager to leaving it.

    *base* is a path below which everything lies, "/flagsmith". *coding* compresses each answer with a body for callers
    that accept it. *delay* seconds pass before each answer. Changes of `replies`, `delay` and `coding` hold from the
    next request on.
    """

    def __init__(
        self,
        flags: Sequence[StandInFlag] = DEFAULT_FLAGS,
        *,
        style: Style = "core",
        client_key: str = CLIENT_KEY,
        server_key: str = SERVER_KEY,
        base: str = "",
        coding: Coding | None = None,
        hide_disabled: bool = False,
        hide_sensitive: bool = False,
        delay: float = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        environment = ServedEnvironment(
            tuple(flags), client_key, server_key, hide_disabled, hide_sensitive, updated_at=time.time()
        )
        self.client_key = client_key
        self.server_key = server_key
        self.coding = coding
        self.delay = delay
        # Answers for the next requests, in order, in place of the ordinary ones; 200 stands for the ordinary one.
        self.replies: deque[Scripted] = deque()
        self.requests: list[ReceivedCall] = []
        self._style = style
        self._base = base.rstrip("/")
        self._dialect = EdgeProxyDialect(environment) if style == "edge_proxy" else CoreDialect(environment, style)
        self._server = Server(self._answer, host=host, port=port, ssl_context=ssl_context)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port as before."""
        await self._server.start()

    async def stop(self) -> None:
        """Close the listener and every connection."""
        await self._server.stop()

    @property
    def url(self) -> str:
        """What a relay's `upstream.url` takes: with the base path, without a slash at its end."""
        return self._server.url + self._base

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await read_body(request)
        headers = tuple((_text(name), _text(value)) for name, value in request.raw_headers)
        self.requests.append(ReceivedCall(request.method, request.raw_path, headers, body))
        scripted = self.replies.popleft() if self.replies else 200
        if self.delay:
            await asyncio.sleep(self.delay)
        if scripted is Fault.CLOSE_AFTER:
            request.protocol.close()
        if scripted not in (200, Fault.CLOSE_AFTER):
            return await perform(request, scripted, self._server.stopping)
        return await perform(request, self._ordinary(request, body), self._server.stopping)

    def _ordinary(self, request: web.BaseRequest, body: bytes) -> Reply:
        path, _, query = request.raw_path.partition("?")
        if not path.startswith(self._base + "/"):
            return page(404, "Not Found")
        call = Call(request.method, self._base, path.removeprefix(self._base), query, request.headers, body)
        return self._compressed(self._dialect.answer(call), request.headers.get("Accept-Encoding", ""))

    def _compressed(self, reply: Reply, accepted: str) -> Reply:
        coding = self.coding
        if coding is None and self._style == "edge_proxy" and len(reply.body) >= EDGE_PROXY_GZIP_FROM:
            coding = "gzip"
        if coding is None or not reply.body or not _accepts(accepted, coding):
            return reply
        headers = [(name, _vary(value) if name == "Vary" else value) for name, value in reply.headers]
        if "Vary" not in dict(headers):
            headers.append(("Vary", "Accept-Encoding"))
        return Reply(reply.status, _ENCODERS[coding](reply.body), (*headers, ("Content-Encoding", coding)))


def _accepts(header: str, coding: str) -> bool:
    """Whether Accept-Encoding names *coding*, and not with the weight of a refusal."""
    for item in header.lower().split(","):
        name, _, weight = item.replace(" ", "").partition(";")
        if name == coding:
            return weight.rstrip("0").rstrip(".") != "q="
    return False


def _vary(value: str) -> str:
    return f"{value}, Accept-Encoding"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
