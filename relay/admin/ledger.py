"""Check the outbox's books against the capture's own counts, which are made apart from them, and so could differ."""

from collections.abc import Mapping

from relay.metrics import Metrics
from relay.model import Book

Counts = Mapping[str, int]
Books = Mapping[str, Book]
# Of an environment that has none yet.
EMPTY = Book()


class Ledger:
    """What the books said last, and what was in them before this process captured anything.

    Of books that relays share (*shared*), one of them knows only that they have to balance in themselves.
    """

    def __init__(self, metrics: Metrics, *, shared: bool = False) -> None:
        self._metrics = metrics
        self._shared = shared
        # Which outbox the books are of; None until they could be read.
        self._installation: str | None = None
        # Its books when they were read last; None until then.
        self._last: Books | None = None
        # What was in them before this process captured anything; None until they could be read.
        self._before: Counts | None = None

    def compare(self, installation: str, books: Books, captured: Counts, in_hand: Counts) -> Counts:
        """What *books* are off by, by environment: zero.

        *captured* is what this process captured, *in_hand* what of it is in no book yet, both at the same moment.
        """
        if installation != self._installation or self._went_back(books):
            self._begin_with(installation)
        if self._last is not None:
            for environment, book in books.items():
                self._count(environment, book, self._last.get(environment, EMPTY))
        self._last = books
        if self._shared:
            return {name: book.captured - outcomes(book) for name, book in books.items()}
        return self._differences(books, captured, in_hand)

    def _went_back(self, books: Books) -> bool:
        """Whether these are an older copy's: no outbox ever counts fewer captured than before."""
        last = self._last or {}
        return any(books.get(environment, EMPTY).captured < book.captured for environment, book in last.items())

    def _begin_with(self, installation: str) -> None:
        """Compare with what is found now: the outbox was replaced, and what the other one held is in no book here."""
        self._installation, self._last, self._before = installation, None, None

    def _count(self, environment: str, book: Book, last: Book) -> None:
        """Count what left the outbox by the hands of others: a cap inside the storage, or an operator's command.

        Not below zero: an older copy, put back before anything else was captured, has dropped fewer.
        """
        if book.superseded > last.superseded:
            self._metrics.superseded.labels(environment).inc(book.superseded - last.superseded)
        for reason, events in book.dropped.items():
            if events > last.dropped.get(reason, 0):
                self._metrics.dropped.labels(environment, reason).inc(events - last.dropped.get(reason, 0))

    def _differences(self, books: Books, captured: Counts, in_hand: Counts) -> Counts:
        settled = {name: outcomes(book) for name, book in books.items()}
        here = {name: captured.get(name, 0) - in_hand.get(name, 0) for name in settled.keys() | captured.keys()}
        if self._before is None:
            self._before = {name: settled.get(name, 0) - committed for name, committed in here.items()}
        return {name: self._before.get(name, 0) + committed - settled.get(name, 0) for name, committed in here.items()}


def outcomes(book: Book) -> int:
    """How many captured answers the book knows the fate of."""
    parts = (book.skipped, book.refused, book.dropped, book.dead_letters)
    return book.superseded + book.delivered + book.waiting + sum(sum(part.values()) for part in parts)
