"""Read the outbox, the capture's counts and the lanes on a timer, so that whoever asks how it is waits for nothing."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from relay.capture import Capture
from relay.core.history import History
from relay.core.status import HourStatus
from relay.errors import OutboxError
from relay.metrics import Metrics
from relay.model import Book, Clock, Lane, Level, Usage
from relay.outbox import Outbox
from relay.sender import LaneState

EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found at one moment; values only, so that any thread may go through it."""

    # The environments of the YAML, each with its Heap app.
    environments: Mapping[str, Lane] = field(default_factory=dict)
    books: Mapping[str, Book] = field(default_factory=dict)
    levels: Sequence[Level] = ()
    # Since when the oldest event of each environment waits, in seconds since 1970.
    oldest: Mapping[str, float] = field(default_factory=dict)
    usage: Usage | None = None
    # What the books are off by, and what is captured and in no book yet, by environment.
    differences: Mapping[str, int] = field(default_factory=dict)
    in_hand: Mapping[str, int] = field(default_factory=dict)
    lanes: Mapping[Lane, LaneState] = field(default_factory=dict)
    hours: Mapping[str, HourStatus] = field(default_factory=dict)
    # Why the outbox could not be read; the figures from it are older then.
    problem: str = ""

    def kept(self) -> Mapping[str, Book]:
        """The books of the YAML's environments, then of others that still have something in the outbox."""
        others = {name: book for name, book in self.books.items() if book.waiting or book.dead_letters}
        return {name: self.books.get(name, Book()) for name in (*self.environments, *others)}

    def state(self, environment: str) -> LaneState | None:
        """How its Heap app stands; None where that is not known."""
        lane = self.environments.get(environment)
        return None if lane is None else self.lanes.get(lane)


class Figures:
    """The last reading, and what it counts; the capture's own counts are the other side of the books.

    `environments` may be exchanged at any time; it holds from the next reading on.
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
        self._outbox = outbox
        self._capture = capture
        self._lanes = lanes
        self._metrics = metrics
        self._clock = clock
        self._hours_in = History()
        self._hours_out = History()
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
            found = await self._read()
        except OutboxError as failure:
            found = replace(self.reading, problem=str(failure))
        environments = self.environments
        await self._exchange(environments)
        found = replace(found, environments=environments, lanes={state.lane: state for state in self._lanes()})
        self.reading = replace(found, hours=self._hours(found.kept()))

    async def _exchange(self, environments: Mapping[str, Lane]) -> None:
        """Let the counters of new environments begin, and end those of others; with a thousand it takes a while."""
        known = self.reading.environments
        if new := environments.keys() - known.keys():
            await asyncio.to_thread(self._metrics.begin, new)
        if gone := known.keys() - environments.keys():
            await asyncio.to_thread(self._metrics.forget, gone)

    async def _read(self) -> Reading:
        """What the outbox holds."""
        async with self._capture.committing:
            books = await self._outbox.books()
            differences, in_hand = self._compare(books), dict(self._capture.in_hand)
        usage = await self._outbox.usage()
        levels = await self._outbox.levels()
        if self._last is not None:
            for environment, book in books.items():
                self._count(environment, book, self._last.get(environment, Book()))
        self._last = books
        return Reading(
            books=books,
            levels=levels,
            oldest=oldest_by_environment(levels),
            usage=usage,
            differences=differences,
            in_hand=in_hand,
        )

    def _hours(self, books: Mapping[str, Book]) -> dict[str, HourStatus]:
        now = self._clock.monotonic()
        self._hours_in.tell({name: book.captured for name, book in books.items()}, now)
        self._hours_out.tell({name: book.delivered for name, book in books.items()}, now)
        return {name: HourStatus(self._hours_in.of(name), self._hours_out.of(name)) for name in books}

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
