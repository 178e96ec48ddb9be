"""Read the outbox, the capture's counts and the lanes on a timer, so that whoever asks how it is waits for nothing."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from relay.capture import Capture
from relay.core.history import History
from relay.errors import OutboxError
from relay.metrics import Metrics
from relay.model import Book, Clock, Lane, Level, Usage
from relay.outbox import Outbox
from relay.sender import LaneState

EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found at one moment; values only, so that any thread may go through it."""

    books: Mapping[str, Book] = field(default_factory=dict)
    levels: Sequence[Level] = ()
    # Since when the oldest event of each environment waits, in seconds since 1970.
    oldest: Mapping[str, float] = field(default_factory=dict)
    usage: Usage | None = None
    # What the books are off by, and what is captured and in no book yet, by environment.
    differences: Mapping[str, int] = field(default_factory=dict)
    in_hand: Mapping[str, int] = field(default_factory=dict)
    lanes: Mapping[Lane, LaneState] = field(default_factory=dict)
    # Why the outbox could not be read; the figures from it are older then.
    problem: str = ""


class Figures:
    """The last reading, and what it counts; the capture's own counts are the other side of the books.

    `environments` (each with its Heap app) may be exchanged at any time.
    """

    def __init__(
        self,
        outbox: Outbox,
        capture: Capture,
        lanes: Callable[[], Sequence[LaneState]],
        environments: Mapping[str, Lane],
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.environments = environments
        self.reading = Reading()
        self.captured = History()
        self.delivered = History()
        self._outbox = outbox
        self._capture = capture
        self._lanes = lanes
        self._metrics = metrics
        self._clock = clock
        # The books when they were read last; None until they could be read.
        self._last: dict[str, Book] | None = None
        # What was in the books before this process captured anything; None until they could be read.
        self._before: dict[str, int] | None = None

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(EVERY_SECONDS)

    async def refresh(self) -> None:
        """Read once. Where the outbox cannot be read, its last figures stay, beside the reason."""
        try:
            self.reading = await self._read()
        except OutboxError as failure:
            self.reading = replace(self.reading, problem=str(failure), lanes=self._standing())
        self._tell_history()

    async def _read(self) -> Reading:
        async with self._capture.committing:
            books = await self._outbox.books()
            differences, in_hand = self._compare(books), dict(self._capture.in_hand)
        usage = await self._outbox.usage()
        levels = await self._outbox.levels()
        if self._last is not None:
            for environment, book in books.items():
                self._count(environment, book, self._last.get(environment, Book()))
        self._last = books
        return Reading(books, levels, oldest_by_environment(levels), usage, differences, in_hand, self._standing())

    def _standing(self) -> dict[Lane, LaneState]:
        return {state.lane: state for state in self._lanes()}

    def _tell_history(self) -> None:
        books = {name: self.reading.books.get(name, Book()) for name in self.environments.keys() | self.reading.books}
        now = self._clock.monotonic()
        self.captured.tell({name: book.captured for name, book in books.items()}, now)
        self.delivered.tell({name: book.delivered for name, book in books.items()}, now)

    def _count(self, environment: str, book: Book, last: Book) -> None:
        """Count what left the outbox by the hands of others: a cap inside the storage, or an operator's command."""
        if book.superseded != last.superseded:
            self._metrics.superseded.labels(environment).inc(book.superseded - last.superseded)
        for reason, events in book.dropped.items():
            if new := events - last.dropped.get(reason, 0):
                self._metrics.dropped.labels(environment, reason).inc(new)

    def _compare(self, books: Mapping[str, Book]) -> dict[str, int]:
        captured, in_hand = self._capture.captured, self._capture.in_hand
        settled = {name: outcomes(book) for name, book in books.items()}
        names = settled.keys() | captured.keys()
        if self._before is None:
            self._before = {name: settled.get(name, 0) - captured[name] + in_hand[name] for name in names}
        expected = {name: self._before.get(name, 0) + captured[name] - in_hand[name] for name in names}
        return {name: expected[name] - settled.get(name, 0) for name in names}


def outcomes(book: Book) -> int:
    """How many captured answers the book knows the fate of."""
    parts = (book.skipped, book.refused, book.dropped, book.dead_letters)
    return book.superseded + book.delivered + book.waiting + sum(sum(part.values()) for part in parts)


def oldest_by_environment(levels: Iterable[Level]) -> dict[str, float]:
    """Since when the oldest event of each environment waits."""
    oldest: dict[str, float] = {}
    for level in levels:
        oldest[level.environment] = min(level.oldest, oldest.get(level.environment, level.oldest))
    return oldest
