"""Faults at Heap: what it says, and that it says nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faults.stage import Stage

POISON = "poison"
# As many as one request to Heap may hold; how many it did hold stands in the row.
BATCH = 1_000
# What Heap wishes for.
REST_SECONDS = 10


@asynccontextmanager
async def refusing(stage: Stage) -> AsyncIterator[None]:
    """Nobody listens at Heap's address."""
    await stage.heap.tell("stop")
    yield
    await stage.heap.tell("start")


@asynccontextmanager
async def answering(stage: Stage, answer: str) -> AsyncIterator[None]:
    """Every answer is *answer*, one of `faults.standin.HEAP`."""
    await stage.heap.tell("fail", answer)
    yield
    await stage.heap.tell("recover")


@asynccontextmanager
async def nameless(stage: Stage) -> AsyncIterator[None]:
    """Connections end, and Heap's name leads nowhere."""
    stage.preload().set(nameless=1)
    await stage.heap.tell("stop")
    await stage.heap.tell("start")
    yield
    stage.preload().set(nameless=0)


@asynccontextmanager
async def expired(stage: Stage) -> AsyncIterator[None]:
    """Heap shows a certificate of yesterday."""
    await _show(stage, str(stage.expired))
    yield
    await _show(stage, str(stage.valid))


@asynccontextmanager
async def poisoned(stage: Stage) -> AsyncIterator[None]:
    """While Heap wishes for rest a whole batch gathers, in which it refuses one event for good."""
    await stage.heap.tell("refuse", POISON)
    await stage.heap.tell("fail", "429 with a long rest")
    async with asyncio.timeout(REST_SECONDS):
        while not (await stage.heap.tell("stored"))["delayed"]:
            await asyncio.sleep(0.1)
    await stage.heap.tell("recover")
    people = [f"crowd-{number}" for number in range(BATCH - 1)]
    stage.traffic.ask([*people[: BATCH // 2], POISON, *people[BATCH // 2 :]])
    yield
    largest = (await stage.heap.tell("stored"))["largest"]
    stage.notes.append(f"the largest batch held {largest:,} events")


async def _show(stage: Stage, certificate: str) -> None:
    """Show *certificate* to whoever connects, and let everybody connect anew."""
    await stage.heap.tell("certificate", certificate)
    await stage.heap.tell("stop")
    await stage.heap.tell("start")
