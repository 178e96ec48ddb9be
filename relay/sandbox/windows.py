"""Heap's rate limits, measured as sliding windows over everything that was asked of it."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Limit = Literal["app_minute", "identity_minute", "identity_requests"]

# Events per app and per identity in any 60 s (developers.heap.io/reference/bulk-track), requests per identity in any
# 30 s (developers.heap.io/reference/track-1; whether bulk requests count is not said, so they do).
LIMITS: Mapping[Limit, int] = {"app_minute": 15_000, "identity_minute": 1_000, "identity_requests": 30}
SPANS: Mapping[Limit, float] = {"app_minute": 60, "identity_minute": 60, "identity_requests": 30}


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit was passed: *count* is what the window held once the request was added."""

    limit: Limit
    app_id: str
    # Whose; None for the limit of the whole app.
    identity: str | None
    count: int
    # Monotonic seconds.
    at: float


@dataclass(frozen=True, slots=True)
class Peaks:
    """The fullest window seen of each kind, over all apps and identities."""

    app_minute: int
    identity_minute: int
    identity_requests: int


class Window:
    """How much was added within the last *span* seconds; adding costs the same however much that is."""

    __slots__ = ("_entries", "_span", "total")

    def __init__(self, span: float) -> None:
        self._span = span
        self._entries: deque[tuple[float, int]] = deque()
        self.total = 0

    def add(self, now: float, amount: int) -> int:
        """Add *amount* at *now*; returns the new total. What is exactly *span* old is out."""
        while self._entries and self._entries[0][0] <= now - self._span:
            self.total -= self._entries.popleft()[1]
        self._entries.append((now, amount))
        self.total += amount
        return self.total


class Meter:
    """Counts every request, refused ones too, so that a storm of retries shows."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self._windows: dict[tuple[Limit, str, str | None], Window] = {}
        self._peaks: dict[Limit, int] = dict.fromkeys(LIMITS, 0)

    @property
    def peaks(self) -> Peaks:
        return Peaks(**self._peaks)

    def count(self, app_id: str, identities: Sequence[str | None], now: float) -> bool:
        """Count one request that names *identities*, one per event; tells whether it keeps every limit."""
        before = len(self.violations)
        self._add("app_minute", app_id, None, len(identities), now)
        for identity, events in Counter(identities).items():
            if identity is not None:
                self._add("identity_minute", app_id, identity, events, now)
                self._add("identity_requests", app_id, identity, 1, now)
        return len(self.violations) == before

    def _add(self, limit: Limit, app_id: str, identity: str | None, amount: int, now: float) -> None:
        key = (limit, app_id, identity)
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = Window(SPANS[limit])
        total = window.add(now, amount)
        self._peaks[limit] = max(self._peaks[limit], total)
        if total > LIMITS[limit]:
            self.violations.append(Violation(limit, app_id, identity, total, now))
