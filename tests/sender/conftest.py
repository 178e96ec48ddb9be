"""A sender between a memory outbox and the strict stand-in Heap, in a time that does not have to be waited for."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import time as wall_time
from typing import Any, TypeVar

import pytest
from aiohttp import web
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from relay.metrics import Metrics
from relay.model import Book, Clock, Event, JournalEntry, Lane, Trace, Verdict
from relay.outbox import Outbox, Put
from relay.outbox.memory import MemoryOutbox
from relay.sandbox.heap import StandInHeap
from relay.sender import Sender

APP_ID = "1234567890"
OTHER_ID = "2222222222"

T = TypeVar("T")


class Time:
    """Seconds that pass when somebody sleeps, and then at once. For one lane: nothing else is going on meanwhile."""

    def __init__(self) -> None:
        # The stand-ins' Date headers tell the real time.
        self.began = wall_time()
        self.passed = 0.0
        # Tells for which sleeps time does not pass.
        self.stands_still: Callable[[float], bool] = lambda _: False

    @property
    def clock(self) -> Clock:
        return Clock(wall=lambda: self.began + self.passed, monotonic=lambda: self.passed)

    async def sleep(self, seconds: float) -> None:
        if self.stands_still(seconds):
            await asyncio.Event().wait()
        self.passed += seconds
        await asyncio.sleep(0)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def heap(time: Time) -> AsyncIterator[StandInHeap]:
    async with StandInHeap(clock=time.clock) as stand_in:
        yield stand_in


@pytest.fixture
async def outbox() -> AsyncIterator[Outbox]:
    box = MemoryOutbox(max_bytes=1 << 30, dead_letter_share=0.25, journal_entries=1000)
    await box.open()
    yield box
    await box.close()


class Gate:
    """Answers *status* once somebody opens it; tells when a request stands before it."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, _: web.BaseRequest) -> web.StreamResponse:
        self.reached.set()
        await self.opened.wait()
        return web.Response(status=self.status)


@dataclass
class Post:
    """Puts events, runs senders, and tells what became of it."""

    outbox: Outbox
    heap: StandInHeap
    time: Time
    registry: CollectorRegistry
    metrics: Metrics
    _count: int = 0
    _run: asyncio.Task[None] | None = None

    @classmethod
    def on(cls, outbox: Outbox, heap: StandInHeap, time: Time | None = None) -> "Post":
        registry = CollectorRegistry()
        return cls(outbox, heap, time or Time(), registry, Metrics.on(registry))

    @property
    def lane(self) -> Lane:
        return Lane(self.heap.url, APP_ID)

    @property
    def other(self) -> Lane:
        """Another app of the same Heap."""
        return Lane(self.heap.url, OTHER_ID)

    def events(self, count: int, identity: str | None = None, **properties: Any) -> list[Event]:
        """Events nobody saw before, of one identity or of one each."""
        first, self._count = self._count, self._count + count
        return [
            self._event(number, identity or f"person-{number}", properties) for number in range(first, first + count)
        ]

    def _event(self, number: int, identity: str, properties: dict[str, Any]) -> Event:
        key = f"{self.lane.url}-{number:032}"
        body = {"event": "Flags", "identity": identity, "idempotency_key": key, "properties": properties}
        return Event(key, "tests", self.lane, identity, self.time.clock.wall(), json.dumps(body).encode())

    async def put_for(self, lane: Lane, count: int) -> None:
        """Events for another lane than the usual one."""
        await self.outbox.put(Put([replace(event, lane=lane) for event in self.events(count)]))

    async def put(self, count: int, identity: str | None = None, **properties: Any) -> list[Event]:
        events = self.events(count, identity, **properties)
        await self.outbox.put(Put(events, journal=[self._entry(event) for event in events]))
        return events

    def _entry(self, event: Event) -> JournalEntry:
        verdict = Verdict(True, "every_call")
        return JournalEntry(event.identity, event.environment, event.captured_at, "GET", verdict, event.body, event.key)

    async def trace(self, event: Event) -> Trace:
        """What the journal says of an event."""
        found = await self.outbox.trace(event.identity, limit=100, now=self.time.clock.wall())
        return next(one for one in found if one.key == event.key)

    async def traces(self, events: Sequence[Event]) -> list[Trace]:
        return [await self.trace(event) for event in events]

    @asynccontextmanager
    async def sending(self, lanes: dict[Lane, float] | None = None, **options: Any) -> AsyncIterator[Sender]:
        """A sender at work; afterwards it is told to stop and has to."""
        usual: dict[str, Any] = {
            "clock": self.time.clock,
            "sleep": self.time.sleep,
            "rng": lambda: 1.0,
            "patience": 0.3,
        }
        lanes = {self.lane: 0.8} if lanes is None else lanes
        async with Sender(self.outbox, lanes, self.metrics, **(usual | options)) as sender:
            self._run = asyncio.create_task(sender.run(), name="sender")
            try:
                yield sender
            finally:
                async with asyncio.timeout(5):
                    await sender.stop()
                    await asyncio.wait([self._run])

    async def crash(self) -> None:
        """End the sender at work without a word."""
        assert self._run is not None
        self._run.cancel()
        await asyncio.wait([self._run])

    async def book(self) -> Book:
        return (await self.outbox.books())["tests"]

    async def until(self, reached: Callable[[Book], bool]) -> Book:
        """The books, once they say so."""
        return await until(self.book, reached)

    def counted(self, name: str, **labels: str) -> float:
        """One metric's value."""
        return self.registry.get_sample_value(name, labels) or 0.0

    async def waiting(self, lane: Lane) -> int:
        """How many events wait in *lane*."""
        return sum(level.events for level in await self.outbox.levels() if level.lane == lane)

    async def until_empty(self) -> Book:
        return await self.until(lambda book: book.waiting == 0)

    def identities(self) -> list[str | None]:
        """Whose events Heap has."""
        return [event.identity for event in self.heap.stored(APP_ID)]

    def sizes(self) -> list[int]:
        """How many events each request had."""
        return [request.events for request in self.heap.requests]


async def until(read: Callable[[], Awaitable[T]], reached: Callable[[T], bool]) -> T:
    async with asyncio.timeout(20):
        while not reached(value := await read()):
            await asyncio.sleep(0.005)
    return value


@pytest.fixture
def post(outbox: Outbox, heap: StandInHeap, time: Time) -> Post:
    return Post.on(outbox, heap, time)


def keys(batch: Sequence[dict[str, Any]]) -> list[str]:
    """The idempotency keys of one request, in order."""
    return [event["idempotency_key"] for event in batch]
