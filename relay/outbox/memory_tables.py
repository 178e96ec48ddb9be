"""What an outbox in memory holds, and the changes to it that several calls share; each keeps the books."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile

import msgspec

from relay.core.daily import DAYS_KEPT
from relay.model import Attempt, Cause, DeadLetter, Event, Lane, Level
from relay.outbox.bookkeeping import DAY, Total, is_leased
from relay.outbox.memory_sent import MemorySent
from relay.outbox.order import Order

# What an event takes beside its own texts: objects, tables and their entries, measured.
EVENT_BYTES = 650


# Lane, environment and identity.
Place = tuple[Lane, str, str]


class Waiting(msgspec.Struct):
    """An event to be sent."""

    number: int
    event: Event
    # Seconds since 1970, like *due*: when it was captured, or replayed.
    since: float
    due: float
    attempts: int = 0
    token: str | None = None
    # A newer event may replace it.
    replaceable: bool = False

    @property
    def place(self) -> Place:
        """Where a newer event has to come to replace it."""
        return self.event.lane, self.event.environment, self.event.identity

    def is_leased(self, now: float) -> bool:
        """Whether somebody's claim holds at *now*."""
        return is_leased(self.token, self.due, now)


class Dead(msgspec.Struct, frozen=True):
    """A dead letter with the facts of its making."""

    letter: DeadLetter
    made_at: float
    attempts: int


class _Level(msgspec.Struct):
    """The waiting events of one lane and environment."""

    by_age: Order = msgspec.field(default_factory=Order)
    events: int = 0
    size: int = 0


class Tables:
    """Every event by its number, in one place: waiting or dead."""

    def __init__(self, sent: MemorySent) -> None:
        self.totals: Counter[Total] = Counter()
        # Of all events, and of dead letters, in bytes.
        self.size = 0
        self.dead_size = 0
        self.waiting: dict[int, Waiting] = {}
        self.by_due: defaultdict[Lane, Order] = defaultdict(Order)
        self.dead: dict[int, Dead] = {}
        self._sent = sent
        self._number = 0
        self._replaceable: defaultdict[Place, set[int]] = defaultdict(set)
        self._keys: set[str] = set()
        self._levels: defaultdict[tuple[Lane, str], _Level] = defaultdict(_Level)
        self._leases: defaultdict[str, set[int]] = defaultdict(set)
        self._dead_by_time = Order()

    def post(self, environment: str, book: str, count: int, reason: str = "") -> None:
        """Add to one of the totals."""
        self.totals[environment, book, reason] += count

    def days(self) -> dict[str, dict[str, int]]:
        """Events by environment and UTC day."""
        found: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for (environment, book, day), events in self.totals.items():
            if book == DAY:
                found[environment][day] = events
        return dict(found)

    def drop_days(self, before: str) -> None:
        """Forget the days before the one named, but for each environment's last few."""
        for environment, days in self.days().items():
            for day in sorted(days)[:-DAYS_KEPT]:
                if day < before:
                    del self.totals[environment, DAY, day]

    # Events.

    def next_number(self) -> int:
        """A free number; events and journal entries are counted together."""
        self._number += 1
        return self._number

    def store(self, event: Event) -> int | None:
        """Give *event* a number; None where its key has one."""
        if event.key in self._keys:
            return None
        self._keys.add(event.key)
        self.size += size_of(event)
        self.post(event.environment, "captured", 1)
        return self.next_number()

    def delete(self, event: Event) -> None:
        """Remove what is neither waiting nor dead any more."""
        self._keys.remove(event.key)
        self.size -= size_of(event)

    # Waiting.

    def start_waiting(self, waiting: Waiting) -> None:
        """Let a stored event wait, without a lease."""
        event = waiting.event
        self.waiting[waiting.number] = waiting
        self.by_due[event.lane].add(waiting.due, waiting.number)
        level = self._levels[event.lane, event.environment]
        level.by_age.add(waiting.since, waiting.number)
        level.events += 1
        level.size += len(event.body)
        if waiting.replaceable:
            self._replaceable[waiting.place].add(waiting.number)
        self.post(event.environment, "waiting", 1)

    def stop_waiting(self, waiting: Waiting) -> None:
        """Let an event wait no more. It is still stored."""
        event = waiting.event
        self._let_go(waiting)
        del self.waiting[waiting.number]
        self.by_due[event.lane].remove(waiting.due, waiting.number)
        level = self._levels[event.lane, event.environment]
        level.by_age.remove(waiting.since, waiting.number)
        level.events -= 1
        level.size -= len(event.body)
        if waiting.replaceable:
            self._replaceable[waiting.place].remove(waiting.number)
            if not self._replaceable[waiting.place]:
                del self._replaceable[waiting.place]
        self.post(event.environment, "waiting", -1)

    def drop_waiting(self, waiting: Waiting, reason: str) -> None:
        """Drop a waiting event and count it under *reason*."""
        self._leave(waiting, "dropped", reason)

    def _leave(self, waiting: Waiting, book: str, reason: str = "") -> None:
        """Let an event that waits be stored no more, and count it."""
        self._sent.unsay(waiting.number, waiting.event)
        self.stop_waiting(waiting)
        self.delete(waiting.event)
        self.post(waiting.event.environment, book, 1, reason)

    def supersede(self, place: Place) -> list[int]:
        """Of the replaceable events in *place* keep the newest that nobody claimed; return the others' numbers.

        It takes the place in the queue of the oldest.
        """
        there = (self.waiting[number] for number in self._replaceable.get(place, ()))
        free = sorted((one for one in there if one.token is None), key=lambda one: (one.since, one.number))
        older = free[:-1]
        if older:
            self.put_off(free[-1], min(one.due for one in free))
        for waiting in older:
            self._leave(waiting, "superseded")
        return [waiting.number for waiting in older]

    def hold(self, waiting: Waiting, due: float, token: str | None) -> None:
        """Make it due at another time, held by *token* or by nobody."""
        self.put_off(waiting, due)
        self._let_go(waiting)
        waiting.token = token
        if token is not None:
            self._leases[token].add(waiting.number)

    def put_off(self, waiting: Waiting, due: float) -> None:
        """Make it due at another time."""
        order = self.by_due[waiting.event.lane]
        order.remove(waiting.due, waiting.number)
        waiting.due = due
        order.add(due, waiting.number)

    def held(self, token: str) -> dict[int, Waiting]:
        """What the token holds."""
        return {number: self.waiting[number] for number in self._leases.get(token, ())}

    def _let_go(self, waiting: Waiting) -> None:
        if waiting.token is None:
            return
        held = self._leases[waiting.token]
        held.discard(waiting.number)
        if not held:
            del self._leases[waiting.token]
        waiting.token = None

    def old(self, moment: float, now: float) -> Iterator[Waiting]:
        """What waits since before *moment* and is not leased at *now*."""
        for level in self._levels.values():
            for _, number in takewhile(lambda entry: entry[0] < moment, level.by_age):
                if not self.waiting[number].is_leased(now):
                    yield self.waiting[number]

    def waiting_in(self, lane: Lane) -> int:
        """How many events wait in *lane*."""
        return sum(level.events for (there, _), level in self._levels.items() if there == lane)

    def levels(self) -> list[Level]:
        """What waits, by lane and environment."""
        return [
            Level(lane, environment, level.events, level.size, oldest=next(since for since, _ in level.by_age))
            for (lane, environment), level in self._levels.items()
            if level.events
        ]

    # Dead letters.

    def bury(self, number: int, letter: DeadLetter, made_at: float, attempts: int = 0) -> None:
        """Make a dead letter of a stored event that does not wait."""
        self.dead[number] = Dead(letter, made_at, attempts)
        self._dead_by_time.add(made_at, number)
        self.dead_size += size_of(letter.event)
        self.post(letter.event.environment, "dead_letters", 1, letter.cause.reason)

    def dead_letter(
        self,
        died: Mapping[int, Waiting],
        causes: Mapping[int, Cause],
        now: float,
        attempts: Mapping[int, Sequence[Attempt]],
    ) -> None:
        """Make dead letters of waiting events, after these *attempts* more."""
        for number, waiting in died.items():
            self._sent.unsay(number, waiting.event)
            self.stop_waiting(waiting)
            made = waiting.attempts + len(attempts.get(number, ()))
            self.bury(number, DeadLetter(waiting.event, causes[number]), now, made)

    def take_dead_letter(self, number: int) -> Event:
        """Let it be none any more. Its event is still stored."""
        dead = self.dead.pop(number)
        event = dead.letter.event
        self._dead_by_time.remove(dead.made_at, number)
        self.dead_size -= size_of(event)
        self.post(event.environment, "dead_letters", -1, dead.letter.cause.reason)
        return event

    def drop_dead_letter(self, number: int, reason: str) -> None:
        """Drop it and count it under *reason*."""
        event = self.take_dead_letter(number)
        self.delete(event)
        self.post(event.environment, "dropped", 1, reason)

    def trim_dead_letters(self, most: int) -> None:
        """Drop the oldest dead letters until the others take at most *most* bytes."""
        while self.dead_size > most:
            _, oldest = next(iter(self._dead_by_time))
            self.drop_dead_letter(oldest, "dead_letters_full")

    def made_before(self, moment: float) -> Iterator[int]:
        """Dead letters that were made before *moment*."""
        return (number for _, number in takewhile(lambda entry: entry[0] < moment, self._dead_by_time))


def size_of(event: Event) -> int:
    """What an event takes, in bytes."""
    return len(event.body) + len(event.identity) + len(event.key) + EVENT_BYTES
