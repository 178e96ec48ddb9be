"""A proxy, without the rest of the relay but for capture, between a raw Flagsmith and raw callers."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol

import pytest
import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry

from relay.capture import Capture
from relay.capture.recording import CaptureLimits
from relay.config import Config
from relay.metrics import Metrics
from relay.model import Book, Clock, Event
from relay.outbox.memory import MemoryOutbox
from relay.proxy import Proxy
from relay.upstream import Upstream
from tests.proxy.raw import Caller, RawFlagsmith

KEY = "client-key"


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """On the event loop that a relay process runs on."""
    return {"uvloop": uvloop.new_event_loop}


class Bench:
    """A running proxy and what can be seen of it."""

    def __init__(self, config: Config, upstream: Upstream) -> None:
        self.registry = CollectorRegistry()
        metrics = Metrics.on(self.registry)
        capture = config.capture
        limits = CaptureLimits(
            max_answer=capture.max_answer,
            max_decoded=capture.max_decoded,
            max_flags=capture.max_flags,
            memory=capture.memory,
        )
        self.config = config
        self.outbox = MemoryOutbox(max_bytes=2**20, dead_letter_share=0.25)
        before = config.outbox.commit == "before_answer"
        self.capture = Capture(self.outbox, limits, metrics, before_answer=before)
        self.upstream = upstream
        self.proxy = Proxy(config, upstream, self.capture, metrics, Clock())

    async def caller(self) -> Caller:
        """A new connection to the proxy."""
        return await Caller.at(self.port)

    async def ask(self, request: bytes) -> Any:
        """One request on a connection of its own."""
        async with await self.caller() as caller:
            return await caller.ask(request)

    def count(self, name: str, **labels: str) -> float:
        """A metric's value."""
        return self.registry.get_sample_value(f"relay_{name}", labels) or 0.0

    async def captured(self) -> list[Event]:
        """Every event in the outbox, once what is under way is there."""
        await self.proxy.finished()
        await self.capture.drained()
        events: list[Event] = []
        for lane in {environment.lane for environment in self.config.by_key().values()}:
            lease = await self.outbox.claim(lane, limit=1000, max_bytes=2**20, now=4e9, lease=60)
            events += [claim.event for claim in lease.claims]
        return events

    async def book(self) -> Book:
        """The outbox's, once what is under way is there."""
        await self.proxy.finished()
        await self.capture.drained()
        return (await self.outbox.books()).get("tests", Book())

    async def stop(self, finish: float = 0.2) -> None:
        """What the relay does at its end."""
        self.runner._shutdown_timeout = finish
        await self.runner.cleanup()

    async def listen(self, host: str) -> None:
        self.runner = web.ServerRunner(self.proxy.server(), shutdown_timeout=0.2)
        await self.runner.setup()
        await web.TCPSite(self.runner, host, 0).start()
        self.port = self.runner.addresses[0][1]


class StartProxy(Protocol):
    """Starts a proxy before *url*; *sections* are those of the YAML."""

    def __call__(self, url: str, **sections: Any) -> AbstractAsyncContextManager[Bench]: ...


@asynccontextmanager
async def started(url: str, *, capturing: bool = True, **sections: Any) -> AsyncIterator[Bench]:
    listen = {"host": "127.0.0.1", **sections.pop("listen", {})}
    content = {
        "environments": [{"name": "tests", "keys": [KEY], "heap": {"app_id": "123", "url": "http://127.0.0.1:9"}}],
        **sections,
        "listen": listen,
        "upstream": {"url": url, **sections.get("upstream", {})},
    }
    config = Config.model_validate(content)
    async with Upstream(config.upstream) as upstream:
        bench = Bench(config, upstream)
        await bench.outbox.open()
        await bench.listen(listen["host"])
        task = asyncio.create_task(bench.capture.run()) if capturing else None
        try:
            yield bench
        finally:
            await bench.stop()
            await bench.proxy.finished()
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


@pytest.fixture
def start_proxy() -> StartProxy:
    return started


@pytest.fixture
async def flagsmith_raw() -> AsyncIterator[RawFlagsmith]:
    async with RawFlagsmith() as raw:
        yield raw


@pytest.fixture
async def bench(flagsmith_raw: RawFlagsmith, start_proxy: StartProxy) -> AsyncIterator[Bench]:
    async with start_proxy(flagsmith_raw.url) as bench:
        yield bench
