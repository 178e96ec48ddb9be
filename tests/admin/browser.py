"""A headless Chromium of the system's, over pages of a relay or of a status that a test makes up."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright
from prometheus_client import CollectorRegistry

from relay.admin.server import Health, admin_app
from relay.core.status import Status
from relay.model import Clock
from tests.lacking import lacking

# It starts fast, asks nobody for anything, and runs as root in a container.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser; a test takes a context of it, which is a fresh profile."""
    program = shutil.which("chromium")
    if program is None:
        lacking("chromium is not installed: run scripts/system")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        await browser.close()


class Complaints(list[str]):
    """What the browser did not like of a page: errors in its console, and requests to anywhere but its own server."""

    def watch(self, page: Page, url: str) -> None:
        page.on("console", lambda said: self.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(url) else self.append(asked.url))


@asynccontextmanager
async def served(status: Callable[[], Status]) -> AsyncIterator[str]:
    """The address of an admin server that tells *status*."""
    health = Health(Clock())
    health.ready = True
    runner = web.AppRunner(admin_app(health, CollectorRegistry(), [], status), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
