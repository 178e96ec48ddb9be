"""The second port: health, readiness and metrics, for probes and scrapers, never for SDKs. Read-only."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, generate_latest

from relay.model import ConfigState

# Where the event loop has not turned for this long, the process is of no use to anybody.
MAX_LAG_SECONDS = 5.0
TICK_SECONDS = 0.5


class Health:
    """Whether the event loop turns, and whether traffic is welcome. Never Heap's or Flagsmith's health."""

    def __init__(self) -> None:
        self.ready = False
        self._turned_at = time.monotonic()

    @property
    def live(self) -> bool:
        """The event loop turned within the last five seconds."""
        return time.monotonic() - self._turned_at < MAX_LAG_SECONDS

    async def tick(self) -> None:
        """Note that the loop turns, until cancelled."""
        while True:
            self._turned_at = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)


def admin_app(
    health: Health, registry: CollectorRegistry, hosts: Sequence[str], config: Callable[[], ConfigState]
) -> web.Application:
    """The admin server's routes; *hosts* are names to answer to beside IP literals and localhost."""

    async def healthz(_: web.Request) -> web.Response:
        return _say("ok") if health.live else _say("the event loop is stuck", 503)

    async def readyz(_: web.Request) -> web.Response:
        return _say("ready") if health.ready else _say("not ready", 503)

    async def metrics(_: web.Request) -> web.Response:
        # The plain text format: OpenMetrics would not let relay_dead_letters and relay_dead_letters_total stand apart.
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=generate_latest(registry), headers={"Content-Type": content_type})

    async def status(_: web.Request) -> web.Response:
        return web.json_response({"config": asdict(config())}, headers={"Cache-Control": "no-store"})

    app = web.Application(middlewares=[_only_for(frozenset(host.lower() for host in hosts))])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/status.json", status)
    return app


def _only_for(hosts: frozenset[str]) -> Middleware:
    """Refuse other Host names: a web page whose name was rebound to our address must not read the metrics."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_own_name(request.host, hosts):
            return _say("this name is not in admin.hosts", 421)
        return await handler(request)

    return check


def is_own_name(host: str, hosts: frozenset[str]) -> bool:
    """Whether a Host header (name or address, maybe with a port) is ours: an IP literal, localhost or in *hosts*."""
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name.lower() in hosts or name.lower() == "localhost":
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _say(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text + "\n", status=status, headers={"Cache-Control": "no-store"})
