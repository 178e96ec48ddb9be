"""Faults at Flagsmith: the relay can only pass them on, capture nothing of them, and be well at once when they end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faults.stage import Stage

SLOW_SECONDS = 2.0


@asynccontextmanager
async def down(stage: Stage) -> AsyncIterator[None]:
    """Nobody listens at Flagsmith's address."""
    await stage.flagsmith.tell("stop")
    yield
    await stage.flagsmith.tell("start")


@asynccontextmanager
async def slow(stage: Stage) -> AsyncIterator[None]:
    """Every answer is late."""
    await stage.flagsmith.tell("delay", SLOW_SECONDS)
    yield
    await stage.flagsmith.tell("recover")


@asynccontextmanager
async def answering(stage: Stage, answer: str) -> AsyncIterator[None]:
    """Every answer is *answer*, one of `faults.standin.FLAGSMITH`."""
    await stage.flagsmith.tell("fail", answer)
    yield
    await stage.flagsmith.tell("recover")
