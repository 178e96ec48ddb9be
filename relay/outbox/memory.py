"""The outbox in this process's memory: every promise but one, for what is put is gone with the process."""

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile

from relay.errors import OutboxFull
from relay.model import (
    Book,
    Cause,
    Claim,
    DeadLetter,
    Event,
    JournalEntry,
    Lane,
    Lease,
    Level,
    Ready,
    Settlement,
    Trace,
    Usage,
)
from relay.outbox import AHEAD_SECONDS, Tally
from relay.outbox.arrivals import Arrivals
from relay.outbox.bookkeeping import JOURNAL_SHARE, Total, compile_books, fate, is_leased, take
from relay.outbox.memory_journal import MemoryJournal, Noted
from relay.outbox.order import Order

# What an event takes beside its own texts: objects, tables and their entries, measured.
EVENT_BYTES = 650
# What a sweep does before others get their turn.
SLICE = 500
EXPIRED = Cause("expired")


@dataclass(slots=True)
class _Waiting:
    number: int
    event: Event
    # Seconds since 1970, like *due*: when it was captured, or replayed.
    since: float
    due: float
    attempts: int = 0
    token: str | None = None


@dataclass(frozen=True, slots=True)
class _Dead:
    letter: DeadLetter
    made_at: float


@dataclass(slots=True)
class _Level:
    """The waiting events of one lane and environment."""

    by_age: Order = field(default_factory=Order)
    events: int = 0
    size: int = 0


class MemoryOutbox:
    """The twin of `SqliteOutbox`: passes the same tests, and survives nothing."""

    def __init__(self, *, max_bytes: int, dead_letter_share: float, journal_entries: int = 0) -> None:
        self._max_bytes = max_bytes
        self._journal = MemoryJournal(entries=journal_entries, max_bytes=int(max_bytes * JOURNAL_SHARE))
        self._dead_letter_bytes = int(max_bytes * dead_letter_share)
        self._number = 0
        self._keys: set[str] = set()
        self._waiting: dict[int, _Waiting] = {}
        self._by_due: defaultdict[Lane, Order] = defaultdict(Order)
        self._levels: defaultdict[tuple[Lane, str], _Level] = defaultdict(_Level)
        self._leases: defaultdict[str, set[int]] = defaultdict(set)
        self._dead: dict[int, _Dead] = {}
        self._dead_by_time = Order()
        self._totals: Counter[Total] = Counter()
        self._size = 0
        self._dead_size = 0
        self._arrivals = Arrivals()

    async def open(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """What was put stays as long as the object."""

    # Putting.

    async def put(
        self,
        events: Sequence[Event],
        dead_letters: Sequence[DeadLetter],
        tally: Tally,
        journal: Sequence[JournalEntry] = (),
    ) -> None:
        """Return at once: nothing survives a crash."""
        if events or dead_letters or journal:
            put = chain(events, (letter.event for letter in dead_letters))
            self._require_room(sum(map(_size, put)) + self._journal.weigh(journal))
        numbers: dict[str, int] = {}
        for event in events:
            self._put_event(event, numbers)
        for letter in dead_letters:
            self._put_dead_letter(letter, numbers)
        self._note(journal, numbers)
        self._trim_dead_letters()
        for (environment, book, reason), count in tally.items():
            self._post(environment, "captured", count)
            self._post(environment, book, count, reason)
        self._arrivals.announce(events)

    def _require_room(self, needed: int) -> None:
        used = self._size + self._journal.size
        if used + needed > self._max_bytes:
            raise OutboxFull(
                f"the outbox in memory is full: {used:,} of {self._max_bytes:,} bytes are in use,"
                f" and {needed:,} more do not fit"
            )

    def _put_event(self, event: Event, numbers: dict[str, int]) -> None:
        if self._store(event, numbers):
            self._start_waiting(self._number, event, event.captured_at)

    def _start_waiting(self, number: int, event: Event, since: float) -> None:
        self._waiting[number] = _Waiting(number, event, since, due=since)
        self._by_due[event.lane].add(since, number)
        level = self._levels[event.lane, event.environment]
        level.by_age.add(since, number)
        level.events += 1
        level.size += len(event.body)
        self._post(event.environment, "waiting", 1)

    def _put_dead_letter(self, letter: DeadLetter, numbers: dict[str, int]) -> None:
        if self._store(letter.event, numbers):
            self._bury(self._number, letter, letter.event.captured_at)

    def _store(self, event: Event, numbers: dict[str, int]) -> bool:
        """Give *event* a number, and note it in *numbers*, unless its key has one."""
        if event.key in self._keys:
            return False
        self._number += 1
        self._keys.add(event.key)
        numbers[event.key] = self._number
        self._size += _size(event)
        self._post(event.environment, "captured", 1)
        return True

    def _note(self, journal: Sequence[JournalEntry], numbers: dict[str, int]) -> None:
        noted: dict[int, JournalEntry] = {}
        for entry in journal:
            if not entry.key:
                self._number += 1
            number = numbers.pop(entry.key, None) if entry.key else self._number
            if number is not None:
                noted[number] = entry
        for number, entry in sorted(noted.items()):
            self._journal.add(number, entry)

    async def arrival(self, lane: Lane, timeout: float) -> None:
        """Wait for this process's own puts; there are no others."""
        await self._arrivals.wait(lane, timeout)

    # Claiming.

    async def peek(self, lane: Lane, *, limit: int, max_bytes: int, now: float) -> Ready:
        """Look without a lease."""
        ready = self._take(lane, limit, max_bytes, now)
        next_due = next((due for due, _ in self._by_due[lane].after(now) if due <= now + AHEAD_SECONDS), None)
        size = sum(len(waiting.event.body) for waiting in ready)
        return Ready(len(ready), size, min((waiting.since for waiting in ready), default=None), next_due)

    async def claim(self, lane: Lane, *, limit: int, max_bytes: int, now: float, lease: float) -> Lease:
        """Lease under a new token."""
        token = secrets.token_hex(8)
        taken = self._take(lane, limit, max_bytes, now)
        for waiting in taken:
            self._hold(waiting, now + lease, token)
        return Lease(token, tuple(Claim(waiting.number, waiting.event, waiting.attempts) for waiting in taken))

    def _take(self, lane: Lane, limit: int, max_bytes: int, now: float) -> list[_Waiting]:
        queue = self._by_due[lane]
        due = chain(queue.up_to(now), queue.after(now + AHEAD_SECONDS))
        waiting = (self._waiting[number] for _, number in due)
        return take(waiting, lambda one: len(one.event.body), limit=limit, max_bytes=max_bytes)

    def _hold(self, waiting: _Waiting, due: float, token: str | None) -> None:
        """Make it due at another time, held by *token* or by nobody."""
        self._move(waiting, due)
        self._let_go(waiting)
        waiting.token = token
        if token is not None:
            self._leases[token].add(waiting.number)

    def _move(self, waiting: _Waiting, due: float) -> None:
        queue = self._by_due[waiting.event.lane]
        queue.remove(waiting.due, waiting.number)
        waiting.due = due
        queue.add(due, waiting.number)

    def _let_go(self, waiting: _Waiting) -> None:
        if waiting.token is None:
            return
        held = self._leases[waiting.token]
        held.discard(waiting.number)
        if not held:
            del self._leases[waiting.token]

    async def renew(self, token: str, *, until: float) -> int:
        """Move the end of the lease."""
        held = self._held(token)
        for waiting in held.values():
            self._move(waiting, until)
        return len(held)

    def _held(self, token: str) -> dict[int, _Waiting]:
        return {number: self._waiting[number] for number in self._leases.get(token, ())}

    # Settling.

    async def settle(self, token: str, settlement: Settlement, *, now: float) -> frozenset[int]:
        """Settle what the token still holds."""
        held = self._held(token)
        acked = {number: held.pop(number) for number in held.keys() & settlement.ack}
        died = {number: held.pop(number) for number in held.keys() & settlement.dead_letter.keys()}
        self._acknowledge(acked)
        self._dead_letter(died, settlement.dead_letter, now)
        retried = {number: held.pop(number) for number in held.keys() & settlement.retry.keys()}
        released = {number: held.pop(number) for number in held.keys() & settlement.release.keys()}
        for number, waiting in retried.items():
            waiting.attempts += 1
            self._hold(waiting, settlement.retry[number], None)
        for number, waiting in released.items():
            self._hold(waiting, settlement.release[number], None)
        self._journal.note_answers(acked, settlement.answers, now, delivered=True)
        self._journal.note_answers(chain(died, retried), settlement.answers, now, delivered=False)
        return frozenset(chain(acked, died, retried, released))

    def _acknowledge(self, acked: Mapping[int, _Waiting]) -> None:
        for waiting in acked.values():
            self._stop_waiting(waiting)
            self._delete(waiting.event)
            self._post(waiting.event.environment, "delivered", 1)

    def _dead_letter(self, died: Mapping[int, _Waiting], causes: Mapping[int, Cause], now: float) -> None:
        for number, waiting in died.items():
            self._stop_waiting(waiting)
            self._bury(number, DeadLetter(waiting.event, causes[number]), now)
        self._trim_dead_letters()

    def _stop_waiting(self, waiting: _Waiting) -> None:
        event = waiting.event
        self._let_go(waiting)
        del self._waiting[waiting.number]
        self._by_due[event.lane].remove(waiting.due, waiting.number)
        level = self._levels[event.lane, event.environment]
        level.by_age.remove(waiting.since, waiting.number)
        level.events -= 1
        level.size -= len(event.body)
        self._post(event.environment, "waiting", -1)

    def _delete(self, event: Event) -> None:
        self._keys.remove(event.key)
        self._size -= _size(event)

    # Dead letters.

    def _bury(self, number: int, letter: DeadLetter, made_at: float) -> None:
        self._dead[number] = _Dead(letter, made_at)
        self._dead_by_time.add(made_at, number)
        self._dead_size += _size(letter.event)
        self._post(letter.event.environment, "dead_letters", 1, letter.cause.reason)

    def _trim_dead_letters(self) -> None:
        while self._dead_size > self._dead_letter_bytes:
            _, oldest = next(iter(self._dead_by_time))
            self._drop(oldest, "dead_letters_full")

    def _drop(self, number: int, reason: str) -> None:
        dead = self._dead.pop(number)
        event = dead.letter.event
        self._dead_by_time.remove(dead.made_at, number)
        self._dead_size -= _size(event)
        self._delete(event)
        self._post(event.environment, "dead_letters", -1, dead.letter.cause.reason)
        self._post(event.environment, "dropped", 1, reason)

    async def sweep(self, *, expired_before: float, forget_before: float, now: float) -> Counter[str]:
        """Sweep slice by slice; whatever else is ready goes in between."""
        total: Counter[str] = Counter()
        while old := list(islice(self._old(expired_before, now), SLICE)):
            died = {waiting.number: waiting for waiting in old}
            self._dead_letter(died, dict.fromkeys(died, EXPIRED), now)
            total.update(waiting.event.environment for waiting in old)
            await asyncio.sleep(0)
        while forgotten := list(islice(self._made_before(forget_before), SLICE)):
            for number in forgotten:
                self._drop(number, "dead_letter_expired")
            await asyncio.sleep(0)
        return total

    def _old(self, moment: float, now: float) -> Iterator[_Waiting]:
        for level in self._levels.values():
            for _, number in takewhile(lambda entry: entry[0] < moment, level.by_age):
                waiting = self._waiting[number]
                if not is_leased(waiting.token, waiting.due, now):
                    yield waiting

    def _made_before(self, moment: float) -> Iterator[int]:
        return (number for _, number in takewhile(lambda entry: entry[0] < moment, self._dead_by_time))

    # Reading.

    async def levels(self) -> list[Level]:
        """Read the counts that are kept, and the first of each by age."""
        return [
            Level(lane, environment, level.events, level.size, oldest=next(since for since, _ in level.by_age))
            for (lane, environment), level in self._levels.items()
            if level.events
        ]

    async def books(self) -> dict[str, Book]:
        """Read the totals."""
        return compile_books(self._totals.items())

    async def trace(self, identity: str, *, limit: int, now: float) -> list[Trace]:
        """Read what is noted, and look where its events are."""
        return [self._trace(noted, now) for noted in islice(self._journal.trace(identity), limit)]

    def _trace(self, noted: Noted, now: float) -> Trace:
        waiting, dead = self._waiting.get(noted.number), self._dead.get(noted.number)
        leased = None if waiting is None else is_leased(waiting.token, waiting.due, now)
        entry = noted.entry
        return Trace(
            environment=entry.environment,
            at=entry.at,
            method=entry.method,
            verdict=entry.verdict,
            properties=entry.properties,
            key=entry.key,
            attempts=noted.attempts,
            answer=noted.answer,
            answered_at=noted.answered_at,
            place=fate(entry.key, leased=leased, dead=dead is not None, delivered=noted.delivered),
            due=waiting.due if waiting and not leased else None,
            cause=dead.letter.cause if dead else None,
        )

    async def usage(self) -> Usage:
        """Add up texts and a measured surcharge for each event."""
        return Usage(self._size + self._journal.size, self._max_bytes)

    def _post(self, environment: str, book: str, count: int, reason: str = "") -> None:
        self._totals[environment, book, reason] += count


def _size(event: Event) -> int:
    return len(event.body) + len(event.identity) + len(event.key) + EVENT_BYTES
