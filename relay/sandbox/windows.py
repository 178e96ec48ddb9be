"""Heap's rate limits, measured as sliding windows over everything that was asked of it."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

LimitName = Literal["app_minute", "identity_minute", "identity_requests"]

# Events per app and per identity in any 60 s (developers.heap.io/reference/bulk-track), requests per identity in any
# 30 s (developers.heap.io/reference/track-1; whether bulk requests count is not said, so they do).
LIMITS: Mapping[LimitName, int] = {"app_minute": 15_000, "identity_minute": 1_000, "identity_requests": 30}
SPANS: Mapping[LimitName, float] = {"app_minute": 60, "identity_minute": 60, "identity_requests": 30}

# Whom a window is about: an app, and one identity of it or None for the whole app.
Key = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit was passed: *count* is what the window held once the request was added."""

    limit: LimitName
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
    """Sums per key over the last *span* seconds. Adding costs the same however much it holds."""

    def __init__(self, span: float) -> None:
        self._span = span
        self._entries: deque[tuple[float, Key, int]] = deque()
        self._totals: dict[Key, int] = {}

    def add(self, key: Key, amount: int, now: float) -> int:
        """Add *amount* at *now* and return the key's sum. What is exactly *span* old is out."""
        while self._entries and self._entries[0][0] <= now - self._span:
            self._forget_oldest()
        self._entries.append((now, key, amount))
        total = self._totals[key] = self._totals.get(key, 0) + amount
        return total

    def _forget_oldest(self) -> None:
        _, key, amount = self._entries.popleft()
        self._totals[key] -= amount
        if not self._totals[key]:
            del self._totals[key]


class Meter:
    """Counts every request, refused ones too, so that a storm of retries shows."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self._windows = {limit: Window(span) for limit, span in SPANS.items()}
        self._peaks: dict[LimitName, int] = dict.fromkeys(LIMITS, 0)

    @property
    def peaks(self) -> Peaks:
        return Peaks(**self._peaks)

    def count(self, app_id: str, identities: Sequence[str | None], now: float) -> bool:
        """Count one request that names *identities*, one per event; tells whether it keeps every limit."""
        before = len(self.violations)
        self._add("app_minute", (app_id, None), len(identities), now)
        for identity, events in Counter(identities).items():
            if identity is not None:
                self._add("identity_minute", (app_id, identity), events, now)
                self._add("identity_requests", (app_id, identity), 1, now)
        return len(self.violations) == before

    def _add(self, limit: LimitName, key: Key, amount: int, now: float) -> None:
        total = self._windows[limit].add(key, amount, now)
        self._peaks[limit] = max(self._peaks[limit], total)
        if total > LIMITS[limit]:
            self.violations.append(Violation(limit, *key, total, now))
