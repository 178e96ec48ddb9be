"""What every storage counts alike: the books, and how much a claim takes."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from relay.model import Book

T = TypeVar("T")

# One total of the books: (environment, book, reason); what is counted without a reason has an empty one.
Total = tuple[str, str, str]


def compile_books(totals: Iterable[tuple[Total, int]]) -> dict[str, Book]:
    """The totals by environment; reasons that came to nothing are left out."""
    by_name: dict[str, dict[Total, int]] = {}
    for total, count in totals:
        by_name.setdefault(total[0], {})[total] = count
    return {name: _book(name, counts) for name, counts in sorted(by_name.items())}


def _book(name: str, counts: dict[Total, int]) -> Book:
    def plain(book: str) -> int:
        return counts.get((name, book, ""), 0)

    def by_reason(wanted: str) -> dict[str, int]:
        return {reason: count for (_, book, reason), count in counts.items() if book == wanted and count}

    return Book(
        captured=plain("captured"),
        superseded=plain("superseded"),
        delivered=plain("delivered"),
        waiting=plain("waiting"),
        dead_letters=by_reason("dead_letters"),
        skipped=by_reason("skipped"),
        refused=by_reason("refused"),
        dropped=by_reason("dropped"),
    )


def take(entries: Iterable[T], size_of: Callable[[T], int], *, limit: int, max_bytes: int) -> list[T]:
    """The first entries, at most *limit* and at most *max_bytes* together; the first one whatever its size.

    Reads at most one entry too many.
    """
    taken: list[T] = []
    size = 0
    for entry in entries:
        size += size_of(entry)
        if len(taken) == limit or (taken and size > max_bytes):
            break
        taken.append(entry)
    return taken
