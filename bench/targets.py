"""What the relay has to reach, as ratios to what ran beside it where that can be."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.comparison import Comparison
from bench.drain import Drained
from bench.footprint import Memory


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, and the most it may be."""

    what: str
    found: float
    most: float

    @property
    def missed(self) -> bool:
        """Whether it is more."""
        return self.found > self.most

    def __str__(self) -> str:
        return f"{'missed' if self.missed else 'kept  '}  {self.found:7.2f} of {self.most:5.2f}  {self.what}"


# Processor time per request, as a part of the plain proxy's.
PROCESSOR = {"relay, capturing nothing": 0.30, "relay, on change": 0.34, "relay": 0.42}


def of_comparison(seen: Comparison) -> Sequence[Target]:
    """What a request costs."""
    processor = [
        Target(
            f"{name}: processor time per request, of the plain proxy's",
            statistics.median(seen.ratios(name, lambda each: each.cpu_microseconds)),
            most,
        )
        for name, most in PROCESSOR.items()
    ]
    sparing = seen.ratios("relay, on change", lambda each: each.cpu_microseconds, "relay, capturing nothing")
    added = seen.added("relay, capturing nothing", lambda each: each.p50)
    return [
        *processor,
        Target("on change, of the relay's that captures nothing", statistics.median(sparing), 1.15),
        Target("added p50 at one connection, of the plain proxy's", statistics.median(added), 0.5),
    ]


def of_memory(used: Memory) -> Sequence[Target]:
    """What it takes of the machine's memory."""
    return [
        Target("MB resident before the first request", used.idle, 60),
        Target("MB resident under load", used.busy, 80),
        Target(f"MB resident at rest, with {used.waiting:,} events waiting", used.behind, 80),
    ]


def of_drain(found: Drained) -> Sequence[Target]:
    """What it costs to deliver a backlog."""
    return [Target("µs of processor time to deliver an event of a backlog", found.cpu_microseconds, 20)]


def of_start(seconds: float) -> Sequence[Target]:
    """How soon it is there."""
    return [Target("seconds from start to ready", seconds, 0.5)]
