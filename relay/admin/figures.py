"""Copy what the outbox knows into the metrics, on a timer, so that a scrape never waits for storage."""

import asyncio
from contextlib import suppress

from relay.capture import Capture
from relay.errors import OutboxError
from relay.metrics import Metrics
from relay.model import Book, Clock
from relay.outbox import Outbox

EVERY_SECONDS = 1.0


class Figures:
    """The outbox's gauges and the books' difference; the capture's own counts are the other side of the books."""

    def __init__(self, outbox: Outbox, capture: Capture, metrics: Metrics, clock: Clock) -> None:
        self._outbox = outbox
        self._capture = capture
        self._metrics = metrics
        self._clock = clock
        # Which outbox the books are of; None until they could be read.
        self._installation: str | None = None
        # Its books when they were read last; None until then.
        self._last: dict[str, Book] | None = None
        # What was in them before this process captured anything; None until they could be read.
        self._before: dict[str, int] | None = None

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            with suppress(OutboxError):  # whoever needs the outbox says so; here the last figures stay
                await self.refresh()
            await asyncio.sleep(EVERY_SECONDS)

    async def refresh(self) -> None:
        """Read once and set the gauges."""
        async with self._capture.committing:
            installation, books = await self._outbox.installation(), await self._outbox.books()
            if installation != self._installation or self._went_back(books):
                self._begin_with(installation)
            self._compare(books)
        usage = await self._outbox.usage()
        levels = await self._outbox.levels()
        self._metrics.outbox_bytes.set(usage.size)
        self._metrics.outbox_capacity.set(usage.capacity)
        oldest = min((level.oldest for level in levels), default=None)
        self._metrics.outbox_oldest.set(0 if oldest is None else max(0.0, self._clock.wall() - oldest))
        for environment, book in books.items():
            self._metrics.outbox_events.labels(environment).set(book.waiting)
            self._metrics.dead_letters.labels(environment).set(sum(book.dead_letters.values()))
            if self._last is not None:
                self._count(environment, book, self._last.get(environment, Book()))
        self._last = books

    def _went_back(self, books: dict[str, Book]) -> bool:
        """Whether these are an older copy's: no outbox ever counts fewer captured than before."""
        last = self._last or {}
        return any(books.get(environment, Book()).captured < book.captured for environment, book in last.items())

    def _begin_with(self, installation: str) -> None:
        """Compare with what is found now: the outbox was replaced, and what the other one held is in no book here."""
        self._installation, self._last, self._before = installation, None, None
        for gauge in (self._metrics.outbox_events, self._metrics.dead_letters, self._metrics.books_difference):
            gauge.clear()

    def _count(self, environment: str, book: Book, last: Book) -> None:
        """Count what left the outbox by the hands of others: a cap inside the storage, or an operator's command.

        Not below zero: an older copy, put back before anything else was captured, has dropped fewer.
        """
        self._metrics.superseded.labels(environment).inc(max(0, book.superseded - last.superseded))
        for reason, events in book.dropped.items():
            self._metrics.dropped.labels(environment, reason).inc(max(0, events - last.dropped.get(reason, 0)))

    def _compare(self, books: dict[str, Book]) -> None:
        captured, in_hand = self._capture.captured, self._capture.in_hand
        settled = {name: outcomes(book) for name, book in books.items()}
        names = settled.keys() | captured.keys()
        if self._before is None:
            self._before = {name: settled.get(name, 0) - captured[name] + in_hand[name] for name in names}
        for name in names:
            expected = self._before.get(name, 0) + captured[name] - in_hand[name]
            self._metrics.books_difference.labels(name).set(expected - settled.get(name, 0))


def outcomes(book: Book) -> int:
    """How many captured answers the book knows the fate of."""
    parts = (book.skipped, book.refused, book.dropped, book.dead_letters)
    return book.superseded + book.delivered + book.waiting + sum(sum(part.values()) for part in parts)
