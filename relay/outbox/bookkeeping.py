"""What every storage counts alike: the books, how much a claim takes, and what the journal knows things by."""

import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from relay.core.daily import day_of
from relay.model import Book, Fate
from relay.outbox import AHEAD_SECONDS

T = TypeVar("T")

# What one transaction of a longer work does; tens of milliseconds, so that others get their turn.
SLICE = 500

# One total of the books: (environment, book, reason); what is counted without a reason has an empty one.
Total = tuple[str, str, str]


# What a book counts by reason, and what without.
BY_REASON = frozenset({"dead_letters", "skipped", "refused", "dropped"})
PLAIN = frozenset({"captured", "superseded", "delivered", "waiting"})


def compile_books(totals: Iterable[tuple[Total, int]]) -> dict[str, Book]:
    """The totals by environment; reasons that came to nothing are left out."""
    counts: dict[str, dict[str, Any]] = {}
    for (environment, book, reason), count in totals:
        found = counts.setdefault(environment, {})
        if book in PLAIN:
            found[book] = count
        elif book in BY_REASON and count:
            found.setdefault(book, {})[reason] = count
    return {name: Book(**found) for name, found in sorted(counts.items())}


# A total of the books that none of them shows: events by the UTC day of their capture, with the day in reason's place.
DAY = "day"


def by_day(events: Iterable[tuple[str, float]]) -> Counter[Total]:
    """How many there are on each day, of events with their environment and the moment of their capture."""
    return Counter((environment, DAY, day_of(at)) for environment, at in events)


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


def slices(numbers: Iterable[int]) -> Iterator[list[int]]:
    """*numbers*, each once and ascending, a slice at a time."""
    ordered = sorted(set(numbers))
    return (ordered[start : start + SLICE] for start in range(0, len(ordered), SLICE))


def is_leased(token: str | None, due: float, now: float) -> bool:
    """Whether a claim under *token* still holds; a lease is over once it is due."""
    return token is not None and now < due <= now + AHEAD_SECONDS


# The last attempts of an event that the journal keeps: an outage of a week makes thousands.
ATTEMPTS_KEPT = 5
# The part of the storage that the journal may take, whatever its number of entries: events need the rest.
JOURNAL_SHARE = 1 / 8


def fingerprint(key: bytes, data: bytes) -> int:
    """What the journal knows *data* by: 64 bits of an HMAC, which without the *key* tell nobody's name."""
    return int.from_bytes(hmac.digest(key, data, "sha256")[:8], signed=True)


def identity_fingerprint(key: bytes, identity: str) -> int:
    """What the journal knows an identity by; any text has one."""
    return fingerprint(key, identity.encode(errors="surrogatepass"))


# The part that the change memory may take, for the same reason.
MEMORY_SHARE = 1 / 4
# How many who were asked for lately are held in the process, whatever the storage.
RECENT = 50_000


def hour(at: float) -> int:
    """When somebody was used, as exactly as "least recently used" needs it; a finer measure had to be written more."""
    return int(at // 3600)


def fate(key: str, *, leased: bool | None, dead: bool, delivered: bool) -> Fate:
    """Where the event with *key* is; *leased* is None for one that does not wait."""
    if not key:
        return "not_sent"
    if leased is not None:
        return "claimed" if leased else "waiting"
    if dead:
        return "dead_letter"
    return "delivered" if delivered else "gone"
