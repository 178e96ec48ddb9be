"""One HTTP server on the loopback for one stand-in: every request goes to one handler, bytes untouched."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server:
    """Listens between `start` and `stop`; started again it takes the same port, so that its callers find it."""

    def __init__(self, handler: Handler, *, host: str, port: int, ssl_context: ssl.SSLContext | None) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._ssl_context = ssl_context
        self._runner: web.ServerRunner | None = None
        # Set while stopping: whoever keeps a caller waiting lets go.
        self.stopping = asyncio.Event()

    @property
    def url(self) -> str:
        """Scheme, host and port; before the first start the port is the one asked for."""
        scheme = "https" if self._ssl_context else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}"

    async def start(self) -> None:
        self.stopping.clear()
        server = web.Server(self._handler, access_log=None, auto_decompress=False, handler_cancellation=True)
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._ssl_context).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the listener and every connection; further calls are refused."""
        self.stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body as it came, of any size; aiohttp's own `read` stops at 1 MiB."""
    return b"".join([chunk async for chunk in request.content.iter_any()])
