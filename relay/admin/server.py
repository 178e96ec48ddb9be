"""The second port: health, readiness, metrics, status; for probes, scrapers and people, never for SDKs. Read-only."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry

from relay.admin.exposition import exposition
from relay.admin.page import page
from relay.config.hosts import is_ip, split_authority
from relay.core.recognise import VIA
from relay.core.status import Status
from relay.model import Clock

# Where the event loop turns so late, the process is of no use to anybody.
MAX_LAG_SECONDS = 5.0
TICK_SECONDS = 0.5

# Nothing here is to be kept, framed, sniffed or told to others.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# The plain text format: OpenMetrics would not let relay_dead_letters and relay_dead_letters_total stand apart.
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """Whether the event loop turns, and whether traffic is welcome. Never Heap's or Flagsmith's health.

    While the loop does not turn, nobody is answered, and a probe takes that for what it is. One that waited it out is
    told, and so is one that a loop answers which crawls.
    """

    def __init__(self, clock: Clock) -> None:
        self.ready = False
        self._clock = clock
        # Monotonic: when the loop is to turn next; and how late it did last.
        self._due = clock.monotonic()
        self._lag = 0.0

    @property
    def live(self) -> bool:
        """The event loop turned last less than five seconds late, and is no later now."""
        return max(self._lag, self._clock.monotonic() - self._due) < MAX_LAG_SECONDS

    async def tick(self) -> None:
        """Note how the loop turns, until cancelled."""
        while True:
            self._due = self._clock.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self._lag = self._clock.monotonic() - self._due


class Rendering:
    """Something made in a thread, so that flags go on meanwhile; who asks while it is being made gets the same."""

    def __init__(
        self, make: Callable[[], bytes], content_type: str, look: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._make = make
        self._look = look
        self._content_type = content_type
        self._making: asyncio.Task[bytes] | None = None

    async def answer(self, _: web.Request) -> web.Response:
        """A handler."""
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._made(), name=f"render {self._content_type}")
        body = await asyncio.shield(self._making)
        return web.Response(body=body, headers={"Content-Type": self._content_type})

    async def _made(self) -> bytes:
        if self._look:
            await self._look()
        return await asyncio.to_thread(self._make)


def admin_app(
    health: Health,
    registry: CollectorRegistry,
    hosts: Sequence[str],
    status: Callable[[], Status],
    look: Callable[[], Awaitable[None]] | None = None,
) -> web.Application:
    """The admin server's routes; *hosts* are names to answer to beside IP literals and localhost.

    *status* is called in another thread, after *look*.
    """
    html = page()

    async def healthz(_: web.Request) -> web.Response:
        return _say("ok") if health.live else _say("the event loop lags", 503)

    async def readyz(_: web.Request) -> web.Response:
        return _say("ready") if health.ready else _say("not ready", 503)

    async def index(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": html.policy}
        return web.Response(body=html.body, headers=headers)

    made = {
        "/metrics": Rendering(lambda: exposition(registry), METRICS),
        "/status.json": Rendering(lambda: msgspec.json.encode(status()), "application/json", look),
        "/status.txt": Rendering(lambda: _in_words(status()), "text/plain; charset=utf-8", look),
    }
    app = web.Application(middlewares=[_only_for(frozenset(host.lower() for host in hosts))])
    app.on_response_prepare.append(_guard)
    app.router.add_get("/", index)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    for path, rendering in made.items():
        app.router.add_get(path, rendering.answer)
    return app


def _in_words(status: Status) -> bytes:
    from relay.core.report import report  # for who asks

    return report(status).encode()


def _only_for(hosts: frozenset[str]) -> Middleware:
    """Refuse other Host names: a web page whose name was rebound to our address must not read what is here."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_own_name(request.host, hosts):
            return _say("this name is not in admin.hosts", 421)
        return await handler(request)

    return check


async def _guard(_: web.Request, answer: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.headers["Server"] = VIA  # by which commands recognise a relay; aiohttp has set its own


def is_own_name(host: str, hosts: frozenset[str]) -> bool:
    """Whether a Host header (name or address, maybe with a port) is ours: an IP literal, localhost or in *hosts*."""
    found = split_authority(host)
    return found is not None and (found[0] in hosts or found[0] == "localhost" or is_ip(found[0]))


def _say(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text + "\n", status=status)
