"""What it costs to deliver a backlog: the delivering half of a relay alone, over a file in which 100,000 events wait.

    python -m bench.drain FILE HEAP

is that half. It keeps its limits at Heap, and skips the time that they have it wait.
"""

import asyncio
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from bench.outbox import BATCH, BEGAN, JOURNAL, ROOM, Source
from bench.process import free_port, python
from relay import log
from relay.allocator import set_apart_what_stays, share_one_heap
from relay.metrics import Metrics
from relay.model import Clock, Lane
from relay.outbox import Put
from relay.outbox.sqlite import SqliteOutbox
from relay.sender import Sender

EVENTS = 100_000
# The default of `heap.share`.
SHARE = 0.8
APP_ID = "1234567890"


@dataclass(frozen=True, slots=True)
class Drained:
    """What it took to have so many events delivered."""

    events: int
    # Processor time per event, user and system, of all threads.
    cpu_microseconds: float
    requests: int


class Skipping:
    """Time in which whoever sleeps wakes at once, later."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._skipped = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(wall=lambda: self._began + self._now(), monotonic=self._now)

    async def sleep(self, seconds: float) -> None:
        self._skipped += seconds

    def _now(self) -> float:
        return time.monotonic() + self._skipped


def drain(folder: Path) -> Drained:
    """Fill a file, and have another process deliver what waits in it to a Heap that takes all of it."""
    path = folder / "drain.db"
    with ExitStack() as stack:
        heap = stack.enter_context(python("bench.heap", free_port(), "--boundless"))
        lane = Lane(heap.url, APP_ID)
        asyncio.run(fill(path, lane))
        command = [sys.executable, "-m", "bench.drain", str(path), heap.url]
        return Drained(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


async def fill(path: Path, lane: Lane, events: int = EVENTS) -> None:
    """Have so many *events* wait, as capture puts them."""
    source, outbox = Source(lane=lane), box(path)
    await outbox.open()
    try:
        for _ in range(events // BATCH):
            await outbox.put(Put(made := source.events(BATCH), journal=source.journal(made)))
    finally:
        await outbox.close()


async def deliver(path: Path, lane: Lane) -> Drained:
    """Deliver all that waits."""
    registry, skipping, outbox = CollectorRegistry(), Skipping(BEGAN), box(path)
    metrics = Metrics.on(registry)
    await outbox.open()
    try:
        waiting = sum(level.events for level in await outbox.levels())
        async with Sender(outbox, {lane: SHARE}, metrics, skipping.clock, sleep=skipping.sleep) as sender:
            await set_apart_what_stays(_now())
            began = time.process_time()
            run = asyncio.create_task(sender.run())
            while sender.delivered < waiting:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)
            await sender.stop()
            await run
            took = time.process_time() - began
    finally:
        await outbox.close()
    assert sender.delivered == waiting, f"delivered {sender.delivered} of {waiting}"
    requests = registry.get_sample_value("relay_attempts_total", {"answer": "delivered"})
    return Drained(waiting, took / waiting * 1e6, int(requests or 0))


def box(path: Path) -> SqliteOutbox:
    """An outbox with the defaults of the YAML, and room."""
    return SqliteOutbox(path, max_bytes=ROOM, dead_letter_share=0.25, journal_entries=JOURNAL)


def _now() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


if __name__ == "__main__":
    log.configure("error", console=False)
    share_one_heap()
    drained = uvloop.run(deliver(Path(sys.argv[1]), Lane(sys.argv[2], APP_ID)))
    print(json.dumps({name: getattr(drained, name) for name in drained.__slots__}))
