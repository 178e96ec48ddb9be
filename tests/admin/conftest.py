"""Figures over a memory outbox, in a time that is turned by hand."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from relay.admin.figures import Figures
from relay.admin.gauges import Gauges
from relay.capture import Capture
from relay.capture.recording import CaptureLimits
from relay.metrics import Metrics
from relay.model import Clock, Event, Lane
from relay.outbox import Outbox
from relay.outbox.memory import MemoryOutbox
from relay.sender import LaneState

LANE = Lane("https://heapanalytics.com", "11")
LIMITS = CaptureLimits(max_answer=1000, max_decoded=1000, max_flags=10, memory=1000)


@dataclass
class Watched:
    """What the figures watch, and what they say of it."""

    outbox: Outbox
    now: float = 1000.0
    lanes: list[LaneState] = field(default_factory=list)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.clock = Clock(lambda: self.now, lambda: self.now)
        self.metrics = Metrics.on(self.registry)
        self.capture = Capture(self.outbox, LIMITS, self.metrics)
        self.figures = Figures(self.outbox, self.capture, lambda: self.lanes, {"tests": LANE}, self.metrics, self.clock)
        self.registry.register(Gauges(self.figures, self.clock))

    def sample(self, name: str, **labels: str) -> float | None:
        """A metric's value, None where there is no such series."""
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
async def watched() -> AsyncIterator[Watched]:
    outbox = MemoryOutbox(max_bytes=1_000_000, dead_letter_share=0)
    await outbox.open()
    yield Watched(outbox)
    await outbox.close()


def event(number: int, captured_at: float = 1000.0, environment: str = "tests", lane: Lane = LANE) -> Event:
    return Event(f"{number:032}", environment, lane, "ada", captured_at, b"{}")
