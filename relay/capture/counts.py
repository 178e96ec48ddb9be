"""How many answers were captured, and what of that the outbox's books do not have yet."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping

from relay.core.coalesce import UNCHANGED
from relay.metrics import Metrics

# (environment, "skipped" | "refused", reason)
Total = tuple[str, str, str]


class Counts:
    """Counters by environment, kept with the metrics of the same things."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        # What this process captured, and what of it is not in the books.
        self.captured: Counter[str] = Counter()
        self.in_hand: Counter[str] = Counter()
        # What was skipped and refused, until the books have it.
        self.tally: Counter[Total] = Counter()
        # Answers that were unchanged, and are not in the tally yet.
        self.unchanged: Counter[str] = Counter()
        # Set while nothing is in hand.
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def at_risk(self) -> int:
        """What would be lost if the process ended now: neither committed, nor known as skipped or refused."""
        return self.in_hand.total() - self.tally.total() - self.unchanged.total()

    def capture(self, environment: str) -> None:
        """There is an answer more."""
        self.idle.clear()
        self.captured[environment] += 1
        self.in_hand[environment] += 1

    def note(self, environment: str, book: str, reason: str, times: int = 1) -> None:
        """Answers were skipped or refused, as *book* says, for a *reason*."""
        self.tally[environment, book, reason] += times
        metric = self._metrics.skipped if book == "skipped" else self._metrics.refused
        metric.labels(environment, reason).inc(times)

    def take_unchanged(self, others: Counter[str]) -> Mapping[str, int]:
        """Note what was unchanged, *others* too; return how many that were."""
        for environment, times in self.unchanged.items():
            self._metrics.captured.labels(environment).inc(times)
        unchanged = others + self.unchanged
        for environment, times in unchanged.items():
            self.note(environment, "skipped", UNCHANGED.reason, times)
        self.unchanged.clear()
        return unchanged

    def settle(self, stored: Iterable[str], tally: Mapping[Total, int]) -> None:
        """The books have an event of each environment of *stored*, and *tally*."""
        self.tally -= Counter(tally)
        self.in_hand.subtract(stored)
        for (environment, _, _), times in tally.items():
            self.in_hand[environment] -= times

    def rest(self) -> None:
        """All that was taken up is dealt with; there may be more in hand."""
        if not self.in_hand.total():
            self.idle.set()
