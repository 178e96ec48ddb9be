"""Capture over a memory outbox, and answers to feed it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from relay.capture import Capture
from relay.capture.keys import time_ordered_key
from relay.capture.recording import CaptureLimits
from relay.metrics import Metrics
from relay.model import Book, Clock, Environment, Lane
from relay.outbox.memory import MemoryOutbox

LANE = Lane("https://heapanalytics.com", "11")
ENVIRONMENT = Environment("tests", LANE, "Flagsmith Feature Flags")
TARGET = "/api/v1/identities/?identifier=ada"
LIMITS = CaptureLimits(max_answer=100_000, max_decoded=1_000_000, max_flags=100, memory=1_000_000)


def answer(identity: str = "ada", *, padding: int = 0) -> bytes:
    flag = {"feature": {"name": "dark_mode"}, "enabled": True, "feature_state_value": None}
    return json.dumps({"identifier": identity, "flags": [flag], "padding": "x" * padding}).encode()


def feed(
    capture: Capture, body: bytes, *, coding: str = "", environment: Environment = ENVIRONMENT
) -> "asyncio.Future[None] | None":
    recording = capture.begin(environment, "GET", TARGET, "", "")
    recording.answered("application/json", coding)
    recording.answer_chunk(body)
    return recording.finish(1_800_000_000.0)


@asynccontextmanager
async def capturing(
    limits: CaptureLimits = LIMITS,
    *,
    max_bytes: int = 10_000_000,
    before_answer: bool = False,
    clock: Clock | None = None,
    new_key: Callable[[float], str] = time_ordered_key,
) -> AsyncIterator[tuple[Capture, MemoryOutbox]]:
    outbox = MemoryOutbox(max_bytes=max_bytes, dead_letter_share=0.25, journal_entries=10)
    await outbox.open()
    metrics = Metrics.on(CollectorRegistry())
    capture = Capture(outbox, limits, metrics, before_answer=before_answer, clock=clock, new_key=new_key)
    running = asyncio.create_task(capture.run())
    try:
        yield capture, outbox
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await outbox.close()


async def book_of(capture: Capture, outbox: MemoryOutbox) -> Book:
    await capture.drained()
    return (await outbox.books())["tests"]
