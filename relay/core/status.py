"""What is known of a relay at one moment, as its status page, `/status.json` and `relay status` tell it.

Times are seconds since 1970. Nothing in it names a person, opens a door or repeats what Heap said.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from relay.core.settle import Kind
from relay.fleet import Role
from relay.model import ConfigState

OutboxKind = Literal["sqlite", "memory", "redis"]

DAY = 86400.0
# Above this part of the budget Heap's limits are what slows delivery.
AT_THE_LIMIT = 0.9


class ErrorStatus(msgspec.Struct, frozen=True):
    """An answer of Heap that was no success."""

    # Its HTTP status (0: there was none), its kind, where in an event it found fault, and when.
    status: int
    kind: str
    at: str
    answered_at: float


class LaneStatus(msgspec.Struct, frozen=True):
    """How the Heap app of one environment stands."""

    # Heap's base address.
    heap: str
    standing: Literal["open", "paused", "held"]
    # All of it in words.
    sentence: str = ""
    # Since when it is not open, and when Heap is asked next; None while it is open.
    since: float | None = None
    until: float | None = None
    # Heap's last answer: its HTTP status (0: there was none), its kind, where in an event it found fault, and when.
    status: int = 0
    kind: str = ""
    at: str = ""
    answered_at: float | None = None
    # The part of its budget that the last minute used.
    used: float = 0.0
    # Requests in a row that Heap did not judge.
    failures: int = 0
    # Its last answer that was no success, since the relay was started.
    last_error: ErrorStatus | None = None


class HourStatus(msgspec.Struct, frozen=True):
    """The last sixty minutes, the running one last; empty where they are not known."""

    captured: Sequence[int] = ()
    delivered: Sequence[int] = ()


class CapStatus(msgspec.Struct, frozen=True):
    """How near an environment is to its daily cap."""

    # The cap, and what follows once it is reached.
    events: int
    then: Literal["alert", "stop"]
    # Events that this UTC day has.
    today: int


class WayStatus(msgspec.Struct, frozen=True):
    """What one way to send makes of the answers that came."""

    # Events, extrapolated; a month is thirty days.
    a_day: int
    a_month: int
    # Events of the minute that had most, and the part of Heap's limit for an app, and of the environment's share of it.
    busiest_minute: int
    of_limit: float
    of_share: float


class ForecastStatus(msgspec.Struct, frozen=True):
    """What a day brings at the pace of the last one, or of what there was of it."""

    # The way in force.
    send: Literal["every_call", "on_change"]
    # Seconds since the relay was started, at most 25 hours: it knows of nothing before.
    observed: float
    # Whether on_change may turn out less: it was tried out for less than a day, or on more identities than are kept.
    at_most: bool
    every_call: WayStatus
    on_change: WayStatus
    # Answers a day by their verdicts.
    verdicts: Mapping[str, int]

    @property
    def in_force(self) -> WayStatus:
        return self.on_change if self.send == "on_change" else self.every_call


class EnvironmentStatus(msgspec.Struct, frozen=True):
    """The books of one environment, and how its events get on. They balance:

    captured = skipped + refused + superseded + dropped + delivered + dead_letters + waiting + in_hand + difference
    """

    name: str
    captured: int = 0
    delivered: int = 0
    superseded: int = 0
    # Events in the outbox, claimed ones too; and answers on their way into it.
    waiting: int = 0
    in_hand: int = 0
    # Zero, or the relay has a bug.
    difference: int = 0
    skipped: Mapping[str, int] = {}
    refused: Mapping[str, int] = {}
    dropped: Mapping[str, int] = {}
    dead_letters: Mapping[str, int] = {}
    # Since when its oldest event waits.
    oldest: float | None = None
    history: HourStatus = HourStatus()
    # None where no relay runs.
    lane: LaneStatus | None = None
    # None where it has none.
    daily_cap: CapStatus | None = None
    # None where no relay runs.
    forecast: ForecastStatus | None = None


class OrphanStatus(msgspec.Struct, frozen=True):
    """Events whose Heap app no environment names any more: held until it is named again, moved or dropped."""

    heap: str
    events: int
    oldest: float | None
    # Who captured them.
    environments: Sequence[str]


class OutboxStatus(msgspec.Struct, frozen=True):
    """Where events wait."""

    kind: OutboxKind
    # Storage in use, and what may be used.
    bytes: int = 0
    capacity: int = 0
    oldest: float | None = None
    # Why it cannot be read just now, or takes no new events. Empty while it works.
    problem: str = ""
    # When it was read last: all figures from it are of then. None where it could not be yet, and they are not known.
    read_at: float | None = None


class MemberStatus(msgspec.Struct, frozen=True):
    """One of the relays that share the outbox."""

    name: str
    version: str
    role: Role
    started_at: float
    seen_at: float
    # It tells nothing any more: what it has in hand is in no sum.
    silent: bool
    # Answers that are in no book yet; what of them is in its spool, and the bytes they take there.
    in_hand: int = 0
    spooled: int = 0
    spool_bytes: int = 0


class Totals(msgspec.Struct, frozen=True):
    """Sums over all environments."""

    captured: int = 0
    delivered: int = 0
    waiting: int = 0
    dead_letters: int = 0
    refused: int = 0
    difference: int = 0


class Status(msgspec.Struct, frozen=True):
    """Everything."""

    version: str
    # When the relay was started; None where none runs, and this was read from the outbox.
    started_at: float | None
    now: float
    ready: bool
    # None where no relay runs.
    config: ConfigState | None
    outbox: OutboxStatus
    environments: Sequence[EnvironmentStatus] = ()
    orphans: Sequence[OrphanStatus] = ()
    totals: Totals = Totals()
    # None where no relay runs.
    role: Role | None = None
    # Of an outbox that relays share: all of them, this one too.
    members: Sequence[MemberStatus] = ()


def totals(environments: Sequence[EnvironmentStatus]) -> Totals:
    """The sums."""
    return Totals(
        captured=sum(each.captured for each in environments),
        delivered=sum(each.delivered for each in environments),
        waiting=sum(each.waiting for each in environments),
        dead_letters=sum(sum(each.dead_letters.values()) for each in environments),
        refused=sum(sum(each.refused.values()) for each in environments),
        difference=sum(abs(each.difference) for each in environments),
    )


def sentence(lane: LaneStatus, waiting: int | None, now: float, left: int = 0) -> str:
    """How the lane is doing, in words for an operator; how many events wait is None where that is not known.

    *left* more wait for other apps, which the environment had before.
    """
    said = _sentence(lane, waiting, now)
    return f"{said}; {count(left, 'event')} left for an app it had before" if left else said


def _sentence(lane: LaneStatus, waiting: int | None, now: float) -> str:
    number = "an unknown number of events" if waiting is None else count(waiting, "event")
    if lane.standing == "open":
        if not waiting:
            return "nothing waits" if waiting == 0 else f"{number} waiting"
        return "delivering, as fast as Heap's limits allow" if lane.used > AT_THE_LIMIT else "delivering"
    parts = [f"{_trouble(lane)} since {clock(lane.since or now, now)}", f"{number} waiting"]
    parts.append(f"next try {_ahead((lane.until or now) - now)}")
    advice = "; check app_id, region and url" if lane.standing == "held" else ""
    return ", ".join(parts) + advice


def clock(at: float, now: float) -> str:
    """ "14:02 UTC", with its date where that is not within a day of *now*."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M UTC") if abs(now - at) < DAY else moment(at)


def moment(at: float) -> str:
    """ "2026-11-24 14:02 UTC"."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def span(seconds: float) -> str:
    """A length of time to about two digits: "40 s", "3 min", "5 h", "2 days"."""
    for unit, name in ((DAY, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"


def count(number: int, noun: str) -> str:
    """ "1 event", "12,304 events"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _trouble(lane: LaneStatus) -> str:
    passing = "Heap cannot be reached" if lane.kind == Kind.UNREACHABLE else f"Heap answers {lane.status}"
    match lane.standing, lane.kind:
        case "held", Kind.DENIED:
            return f"held: Heap refuses the app ({lane.status})"
        case "held", Kind.REFUSED | Kind.TOO_LARGE:
            return f"held: Heap refuses every event ({lane.status})"
        case "held", _:
            return f"held, and {passing}"
        case _:
            return passing


def _ahead(seconds: float) -> str:
    return f"in {span(seconds)}" if seconds >= 1 else "now"
