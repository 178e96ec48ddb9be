"""How many events each environment brought on each UTC day, and what its daily cap says to that."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import IntEnum

import msgspec

from relay.core.status import CapStatus
from relay.model import Cap, Verdict

OVER_CAP = Verdict(False, "over_cap")
# The part of a cap from which on it is said to be near.
NEAR = 0.8
# Days that are kept of each environment: today, yesterday, and what a clock that jumped ahead has made.
DAYS_KEPT = 4


class Stage(IntEnum):
    """How far a day is from the cap."""

    BELOW = 0
    NEAR = 1
    REACHED = 2


class _Day(msgspec.Struct):
    """One UTC day of one environment."""

    # Events that count towards the cap.
    events: int = 0
    # Those beyond it, as far as they were not told of.
    skipped: int = 0
    # What was told of the cap.
    told: Stage = Stage.BELOW


class Approach(msgspec.Struct, frozen=True):
    """A day came near its cap, or reached it."""

    environment: str
    day: str
    events: int
    stage: Stage


class Ended(msgspec.Struct, frozen=True):
    """A day is over that had more events than its cap."""

    environment: str
    day: str
    skipped: int


def day_of(at: float) -> str:
    """The UTC day of *at* (seconds since 1970), "2026-11-24"."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def stage(events: int, cap: Cap) -> Stage:
    """How far a day with so many *events* is from *cap*."""
    if events >= cap.events:
        return Stage.REACHED
    return Stage.NEAR if events >= NEAR * cap.events else Stage.BELOW


def standings(caps: Mapping[str, Cap], days: "Days", today: str) -> dict[str, CapStatus]:
    """How near the events of *today* are to the *caps*, by environment."""
    return {
        name: CapStatus(cap.events, "stop" if cap.stops else "alert", days.events(name, today))
        for name, cap in caps.items()
    }


class Days:
    """Events by environment and UTC day, each day counted for itself: a clock that goes back resets none."""

    def __init__(self, counts: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._days = {
            environment: {day: _Day(events) for day, events in days.items()}
            for environment, days in (counts or {}).items()
        }

    def events(self, environment: str, day: str) -> int:
        """How many events that *day* has."""
        found = self._days.get(environment, {}).get(day)
        return found.events if found else 0

    def admit(self, environment: str, day: str, cap: Cap | None) -> bool:
        """Count one event more, or that it is skipped: False where *cap* stops it."""
        found = self._day(environment, day)
        if cap and cap.stops and found.events >= cap.events:
            found.skipped += 1
            return False
        found.events += 1
        return True

    def learn(self, counts: Mapping[str, Mapping[str, int]], today: str) -> None:
        """Others count as well: *today* has no fewer events than in *counts*."""
        for environment, days in counts.items():
            found = self._day(environment, today)
            found.events = max(found.events, days.get(today, 0))

    def take_back(self, environment: str, day: str) -> None:
        """Count an event less that was admitted, and could not be stored."""
        self._day(environment, day).events -= 1

    def approaches(self, caps: Mapping[str, Cap]) -> Iterator[Approach]:
        """The days that are nearer to their cap than was told; a cap that was raised is told of anew."""
        for environment, cap in caps.items():
            for day, found in self._days.get(environment, {}).items():
                now = stage(found.events, cap)
                if now > found.told:
                    yield Approach(environment, day, found.events, now)
                found.told = now

    def ended(self, today: str) -> Iterator[Ended]:
        """The days before *today* of which something was skipped that was not told of yet."""
        for environment, days in self._days.items():
            for day, found in days.items():
                if found.skipped and day < today:
                    yield Ended(environment, day, found.skipped)
                    found.skipped = 0

    def _day(self, environment: str, day: str) -> _Day:
        """The *day*, now the latest used; the one that was not used for longest makes room."""
        days = self._days.setdefault(environment, {})
        found = days.pop(day, None) or _Day()
        days[day] = found
        if len(days) > DAYS_KEPT:
            del days[next(iter(days))]
        return found
