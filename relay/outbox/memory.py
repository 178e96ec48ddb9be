"""The outbox in this process's memory: every promise but one, for what is put is gone with the process."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice

from msgspec.structs import replace

from relay.core.daily import day_of
from relay.core.translate import OBSTACLES
from relay.errors import OutboxFull
from relay.model import (
    Book,
    Cause,
    Claim,
    DeadLetter,
    Event,
    Forgotten,
    JournalEntry,
    Lane,
    Lease,
    Level,
    Ready,
    Sent,
    Settlement,
    StoredLetter,
    Trace,
    Usage,
    Which,
    Who,
)
from relay.outbox import AHEAD_SECONDS, Put
from relay.outbox.alone import Alone
from relay.outbox.arrivals import Arrivals
from relay.outbox.bookkeeping import JOURNAL_SHARE, MEMORY_SHARE, SLICE, by_day, compile_books, fate, slices, take
from relay.outbox.memory_journal import MemoryJournal, Noted
from relay.outbox.memory_sent import ENTRY_BYTES, MemorySent
from relay.outbox.memory_tables import Dead, Tables, Waiting, size_of

EXPIRED = Cause("expired")


class MemoryOutbox(Alone):
    """The twin of `SqliteOutbox`: passes the same tests, and survives nothing."""

    def __init__(self, *, max_bytes: int, dead_letter_share: float, journal_entries: int = 0) -> None:
        self._max_bytes = max_bytes
        self._dead_letter_bytes = int(max_bytes * dead_letter_share)
        self._journal = MemoryJournal(entries=journal_entries, max_bytes=int(max_bytes * JOURNAL_SHARE))
        self._sent = MemorySent(int(max_bytes * MEMORY_SHARE) // ENTRY_BYTES)
        self._tables = Tables(self._sent)
        self._installation = secrets.token_hex(16)
        self._arrivals = Arrivals()

    async def open(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """What was put stays as long as the object."""

    # Putting.

    async def put(self, put: Put) -> None:
        """Return at once: nothing survives a crash."""
        latest = put.coalescing.latest
        if put.entries:
            needed = sum(map(size_of, put.stored)) + len(put.coalescing.fingerprints) * ENTRY_BYTES
            self._require_room(needed + self._journal.weigh(put.journal))
            behind = self._behind(put.events, latest)
            numbers = self._put_events(put.events, latest)
            self._note(put.journal, {**numbers, **self._put_dead_letters(put.dead_letters)})
            self._coalesce(put, numbers.values(), behind)
            self._tables.trim_dead_letters(self._dead_letter_bytes)
        self._journal.note_repeats(self._sent.touch(put.coalescing.repeats))
        for (environment, book, reason), count in put.tally.items():
            self._tables.post(environment, "captured", count)
            self._tables.post(environment, book, count, reason)
        self._arrivals.announce(put.events)

    def _require_room(self, needed: int) -> None:
        used = self._used()
        if used + needed > self._max_bytes:
            raise OutboxFull(
                f"the outbox in memory is full: {used:,} of {self._max_bytes:,} bytes are in use,"
                f" and {needed:,} more do not fit"
            )

    def _used(self) -> int:
        return self._tables.size + self._journal.size + self._sent.size

    def _put_events(self, events: Sequence[Event], replaceable: Collection[str]) -> dict[str, int]:
        """Store them; return the numbers of those that are new, by their keys."""
        numbers: dict[str, int] = {}
        for event in events:
            if number := self._tables.store(event):
                at, may_go = event.captured_at, event.environment in replaceable
                self._tables.start_waiting(Waiting(number, event, since=at, due=at, replaceable=may_go))
                self._tables.totals.update(by_day([(event.environment, at)]))
                numbers[event.key] = number
        return numbers

    def _behind(self, events: Sequence[Event], latest: Mapping[str, int]) -> set[Lane]:
        """The lanes of *events* where more waits than *latest* tolerates, by environment."""
        places = {(event.lane, latest[event.environment]) for event in events if event.environment in latest}
        return {lane for lane, tolerated in places if self._tables.waiting_in(lane) > tolerated}

    def _coalesce(self, put: Put, numbers: Iterable[int], behind: Collection[Lane]) -> None:
        """Remember those events of *put* that were stored under *numbers*, and let them replace what waits."""
        coalescing, forgetful = put.coalescing, put.forgetful
        self._sent.end(forgetful)
        stored = {number: self._tables.waiting[number].event for number in numbers}
        for number, event in stored.items():
            if event.environment not in forgetful:
                self._sent.remember(number, event, coalescing.fingerprints[event.key])
        for event in stored.values():
            if event.environment in coalescing.latest and event.lane in behind:
                for number in self._tables.supersede((event.lane, event.environment, event.identity)):
                    self._journal.note_gone(number, "superseded")
        self._sent.trim(coalescing.remember)

    def _put_dead_letters(self, letters: Sequence[DeadLetter]) -> dict[str, int]:
        numbers: dict[str, int] = {}
        for letter in letters:
            if number := self._tables.store(letter.event):
                self._tables.bury(number, letter, letter.event.captured_at)
                numbers[letter.event.key] = number
        return numbers

    def _note(self, journal: Sequence[JournalEntry], numbers: dict[str, int]) -> None:
        """Note the entries of new events, and those without one."""
        noted: dict[int, JournalEntry] = {}
        for entry in journal:
            if number := numbers.pop(entry.key, None) if entry.key else self._tables.next_number():
                noted[number] = entry
        for number, entry in sorted(noted.items()):
            self._journal.add(number, entry)

    async def recall(self, whos: Collection[Who]) -> dict[Who, Sent]:
        """Look them up."""
        return self._sent.recall(whos)

    def recollect(self, who: Who) -> Sent | None:
        """Look it up."""
        return self._sent.recall([who]).get(who)

    async def remembered(self) -> dict[str, int]:
        """Count them."""
        return self._sent.remembered()

    async def arrival(self, lane: Lane, timeout: float) -> None:
        """Wait for this process's own puts; there are no others."""
        await self._arrivals.wait(lane, timeout)

    # Claiming.

    async def peek(self, lane: Lane, *, limit: int, max_bytes: int, now: float) -> Ready:
        """Look without a lease."""
        ready = self._take(lane, limit, max_bytes, now)
        later = self._tables.by_due[lane].after(now)
        next_due = next((due for due, _ in later if due <= now + AHEAD_SECONDS), None)
        size = sum(len(waiting.event.body) for waiting in ready)
        return Ready(len(ready), size, min((waiting.since for waiting in ready), default=None), next_due)

    async def claim(self, lane: Lane, *, limit: int, max_bytes: int, now: float, lease: float) -> Lease:
        """Lease under a new token."""
        token = secrets.token_hex(8)
        taken = self._take(lane, limit, max_bytes, now)
        for waiting in taken:
            self._tables.hold(waiting, now + lease, token)
        return Lease(token, tuple(Claim(waiting.number, waiting.event, waiting.attempts) for waiting in taken))

    def _take(self, lane: Lane, limit: int, max_bytes: int, now: float) -> list[Waiting]:
        order = self._tables.by_due[lane]
        due = chain(order.up_to(now), order.after(now + AHEAD_SECONDS))
        waiting = (self._tables.waiting[number] for _, number in due)
        return take(waiting, lambda one: len(one.event.body), limit=limit, max_bytes=max_bytes)

    async def renew(self, token: str, *, until: float) -> int:
        """Move the end of the lease."""
        held = self._tables.held(token)
        for waiting in held.values():
            self._tables.put_off(waiting, until)
        return len(held)

    # Settling.

    async def settle(self, token: str, settlement: Settlement, *, now: float) -> frozenset[int]:
        """Settle what the token still holds."""
        tables, held = self._tables, self._tables.held(token)
        acked = {number: held.pop(number) for number in held.keys() & settlement.ack}
        died = {number: held.pop(number) for number in held.keys() & settlement.dead_letter.keys()}
        retried = {number: held.pop(number) for number in held.keys() & settlement.retry.keys()}
        for waiting in acked.values():
            tables.stop_waiting(waiting)
            tables.delete(waiting.event)
            tables.post(waiting.event.environment, "delivered", 1)
        tables.dead_letter(died, settlement.dead_letter, now, settlement.attempts)
        tables.trim_dead_letters(self._dead_letter_bytes)
        for number, waiting in retried.items():
            waiting.attempts += len(settlement.attempts.get(number, ()))
            tables.hold(waiting, settlement.retry[number], None)
        self._journal.note_attempts(acked, settlement.attempts, delivered=True)
        self._journal.note_attempts(chain(died, retried), settlement.attempts, delivered=False)
        return frozenset(chain(acked, died, retried))

    async def sweep(self, *, expired_before: float, drop_before: float, now: float) -> Counter[str]:
        """Sweep slice by slice; whatever else is ready goes in between."""
        total: Counter[str] = Counter()
        while old := list(islice(self._tables.old(expired_before, now), SLICE)):
            died = {waiting.number: waiting for waiting in old}
            self._tables.dead_letter(died, dict.fromkeys(died, EXPIRED), now, {})
            self._tables.trim_dead_letters(self._dead_letter_bytes)
            total.update(waiting.event.environment for waiting in old)
            await asyncio.sleep(0)
        while letters := list(islice(self._tables.made_before(drop_before), SLICE)):
            for number in letters:
                self._tables.drop_dead_letter(number, "dead_letter_expired")
            await asyncio.sleep(0)
        self._tables.drop_days(day_of(now))
        return total

    # Operating.

    async def dead_letters(self, which: Which, *, after: int = 0, limit: int) -> list[StoredLetter]:
        """Sort them by their numbers."""
        chosen = sorted(number for number, _ in self._chosen(which) if number > after)[:limit]
        dead = self._tables.dead
        return [StoredLetter(one, dead[one].letter, dead[one].made_at, dead[one].attempts) for one in chosen]

    async def count_dead_letters(self, which: Which) -> int:
        """Look through them."""
        return sum(1 for _ in self._chosen(which))

    def _chosen(self, which: Which) -> Iterator[tuple[int, Dead]]:
        for number, dead in self._tables.dead.items():
            if (
                which.environment in {None, dead.letter.event.environment}
                and which.reason in {None, dead.letter.cause.reason}
                and (which.since is None or which.since <= dead.made_at)
                and (which.until is None or dead.made_at < which.until)
            ):
                yield number, dead

    async def replay(self, numbers: Iterable[int], *, now: float) -> int:
        """Replay slice by slice; senders of this process need no announcement to look again soon."""
        replayed = 0
        for some in slices(numbers):
            for number in some:
                dead = self._tables.dead.get(number)
                if dead and dead.letter.cause.reason not in OBSTACLES:
                    event = self._tables.take_dead_letter(number)
                    self._tables.start_waiting(Waiting(number, event, since=now, due=now))
                    replayed += 1
            await asyncio.sleep(0)
        return replayed

    async def drop(self, numbers: Iterable[int]) -> int:
        """Drop slice by slice."""
        dropped = 0
        for some in slices(numbers):
            dropped += self._drop(some, "operator")
            await asyncio.sleep(0)
        return dropped

    def _drop(self, numbers: Iterable[int], reason: str) -> int:
        there = [number for number in numbers if number in self._tables.dead]
        for number in there:
            self._tables.drop_dead_letter(number, reason)
        return len(there)

    async def move(self, lane: Lane, to: Lane, *, now: float) -> int:
        """Move slice by slice."""
        moved = 0
        while lane != to and (some := self._unclaimed(lane, now)):
            for waiting in some:
                self._tables.stop_waiting(waiting)
                self._tables.start_waiting(replace(waiting, event=replace(waiting.event, lane=to)))
            moved += len(some)
            await asyncio.sleep(0)
        return moved

    async def drop_lane(self, lane: Lane, *, now: float) -> int:
        """Drop slice by slice."""
        dropped = 0
        while some := self._unclaimed(lane, now):
            for waiting in some:
                self._tables.drop_waiting(waiting, "orphaned")
            dropped += len(some)
            await asyncio.sleep(0)
        return dropped

    def _unclaimed(self, lane: Lane, now: float) -> list[Waiting]:
        waiting = (self._tables.waiting[number] for _, number in self._tables.by_due[lane])
        return list(islice((one for one in waiting if not one.is_leased(now)), SLICE))

    async def forget(self, identity: str) -> Forgotten:
        """Look through all of it at once."""
        memory = self._sent.forget(identity)
        waiting = [one for one in self._tables.waiting.values() if one.event.identity == identity]
        dead = [number for number, one in self._tables.dead.items() if one.letter.event.identity == identity]
        for one in waiting:
            self._tables.drop_waiting(one, "forgotten")
        dropped = self._drop(dead, "forgotten")
        return Forgotten(len(waiting), dropped, self._journal.forget(identity), memory)

    # Reading.

    async def levels(self) -> list[Level]:
        """Read the counts that are kept, and the first of each by age."""
        return self._tables.levels()

    async def installation(self) -> str:
        """Another one for each process."""
        return self._installation

    async def books(self) -> dict[str, Book]:
        """Read the totals."""
        return compile_books(self._tables.totals.items())

    async def days(self) -> dict[str, dict[str, int]]:
        """Read the counts."""
        return self._tables.days()

    async def trace(self, identity: str, *, limit: int, now: float) -> list[Trace]:
        """Read what is noted, and look where its events are."""
        return [self._trace(noted, now) for noted in islice(self._journal.trace(identity), limit)]

    def _trace(self, noted: Noted, now: float) -> Trace:
        entry = noted.entry
        waiting, dead = self._tables.waiting.get(noted.number), self._tables.dead.get(noted.number)
        leased = None if waiting is None else waiting.is_leased(now)
        return Trace(
            environment=entry.environment,
            at=entry.at,
            method=entry.method,
            verdict=entry.verdict,
            properties=entry.properties,
            key=entry.key,
            attempts=noted.attempts,
            answers=noted.answers,
            place=fate(entry.key, leased=leased, dead=dead is not None, delivered=noted.delivered),
            due=waiting.due if waiting and not leased else None,
            cause=dead.letter.cause if dead else Cause(noted.gone) if noted.gone else None,
            unchanged=noted.unchanged,
            unchanged_at=noted.unchanged_at,
        )

    async def usage(self) -> Usage:
        """Add up texts and a measured surcharge for each event."""
        return Usage(self._used(), self._max_bytes)
