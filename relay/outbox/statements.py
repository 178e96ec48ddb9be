"""What each call of a SQLite outbox does, as the body of one transaction; every one of them flat in cost."""

import secrets
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.errors import OutboxFull
from relay.model import (
    Attempt,
    Cause,
    Claim,
    Coalescing,
    DeadLetter,
    Event,
    JournalEntry,
    Lane,
    Lease,
    Ready,
    Sent,
    Settlement,
    Who,
)
from relay.outbox import AHEAD_SECONDS, Tally
from relay.outbox.bookkeeping import SLICE, Total, by_day, take
from relay.outbox.bulk import given, listed
from relay.outbox.database import Database
from relay.outbox.journal import note_attempts, note_repeats, trim_journal, write_journal
from relay.outbox.latest import lanes_behind, mark, supersede
from relay.outbox.sent import Edition, edition, end, remember, touch, trim, unsay
from relay.outbox.tables import (
    Letter,
    Waiting,
    bury,
    count_waiting,
    delete_events,
    drop_dead_letters,
    insert_events,
    known_lane,
    next_number,
    post,
    reusable,
    stop_waiting,
    storage_in_use,
    trim_dead_letters,
)

# Room on the disk that new events may not take, for claiming and settling need some, too: a full batch 1.3 MB of log,
# measured; and SQLite copies the log into the file, which may grow by it, from 4 MB on (sqlite.org/wal.html#ckpt).
RESERVE_BYTES = 8 * 2**20
EXPIRED = Cause("expired")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of what the storage may hold."""

    # Of all together.
    max_bytes: int
    dead_letter_bytes: int
    journal_entries: int
    journal_bytes: int
    # Remembered identities, of all environments together.
    memory_entries: int


# Putting.


def put(
    database: Database,
    events: Sequence[Event],
    dead_letters: Sequence[DeadLetter],
    tally: Tally,
    journal: Sequence[JournalEntry],
    coalescing: Coalescing,
    *,
    bounds: Bounds,
    disk_bytes: int,
) -> tuple[Edition, dict[Who, Sent | None]]:
    """Store all of it, where *disk_bytes* are free on the disk; return what was learned. Raises OutboxFull."""
    learned: dict[Who, Sent | None] = {}
    if events or dead_letters or journal:
        require_reserve(database, disk_bytes, [*events, *(letter.event for letter in dead_letters)])
        first = next_number(database)
        behind = lanes_behind(database, events, coalescing.latest)
        _put_events(database, events, first)
        _put_dead_letters(database, dead_letters, first + len(events))
        if bounds.journal_entries:
            write_journal(database, journal, since=first)
        learned = _coalesce(database, events, coalescing, first=first, behind=behind)
        trim(database, coalescing.remember, total=bounds.memory_entries, added=len(events))
        trim_journal(database, entries=bounds.journal_entries, size=bounds.journal_bytes, added=len(journal))
        trim_dead_letters(database, bounds.dead_letter_bytes)
        _require_room(database, bounds.max_bytes)
    if coalescing.repeats:
        note_repeats(database, touch(database, coalescing.repeats))
    counts: Counter[Total] = Counter(tally)
    for (environment, _, _), count in tally.items():
        counts[environment, "captured", ""] += count
    post(database, counts)
    return edition(database), learned


def _coalesce(
    database: Database,
    events: Sequence[Event],
    coalescing: Coalescing,
    *,
    first: int,
    behind: Collection[Lane],
) -> dict[Who, Sent | None]:
    """Remember *events*, stored from number *first* on, and let them replace what waits; return what was learned.

    An environment that got an event without a fingerprint does not know any more what was sent last.
    """
    forgetful = {event.environment for event in events if event.key not in coalescing.fingerprints}
    end(database, forgetful)
    if not (coalescing.fingerprints or coalescing.latest):
        return {}
    stored = _stored(database, events, first)
    lasting = {number: event for number, event in stored.items() if event.environment not in forgetful}
    learned: dict[Who, Sent | None] = {**remember(database, lasting, coalescing.fingerprints)}
    replacing = {number: event for number, event in stored.items() if event.environment in coalescing.latest}
    mark(database, replacing)
    for who in supersede(database, replacing, behind):
        learned[who] = None
    return learned


def _stored(database: Database, events: Sequence[Event], first: int) -> dict[int, Event]:
    """Those of *events* whose keys were new, by their numbers from *first* on."""
    rows = database.execute(
        "SELECT key, id FROM waiting CROSS JOIN events USING (id) WHERE waiting.id >= ?", (first,)
    ).fetchall()
    numbers = dict(rows)
    return {numbers.pop(event.key): event for event in events if event.key in numbers}


def _require_room(database: Database, max_bytes: int) -> None:
    """Undo by an error what did not fit: only once it is stored is it known what it takes."""
    if (used := storage_in_use(database)) > max_bytes:
        raise OutboxFull(f"is full: {used:,} bytes would be in use, of {max_bytes:,}")


def require_reserve(database: Database, disk_bytes: int, events: Sequence[Event] = ()) -> None:
    """Raise OutboxFull where *events* would take what of *disk_bytes* is kept for delivering.

    Bodies are written twice: to the log, then to the file, which fills its own free pages before it grows.
    """
    needed = 2 * sum(len(event.body) for event in events)
    if disk_bytes + reusable(database) < RESERVE_BYTES + needed:
        raise OutboxFull(
            f"is full: {disk_bytes:,} bytes are free on the disk, and {RESERVE_BYTES:,} are kept for delivering"
            " what waits; free some space"
        )


def _put_events(database: Database, events: Sequence[Event], first: int) -> None:
    insert_events(database, events, first)
    database.execute(
        "INSERT INTO waiting (id, lane, environment, since, size, due)"
        " SELECT id, lane, environment, captured_at, length(body), captured_at FROM events WHERE id >= ?",
        (first,),
    )
    rows = database.execute("SELECT since, environment, lane, size, attempts FROM waiting WHERE id >= ?", (first,))
    new = [(since, Waiting(*row)) for since, *row in rows]
    put = count_waiting(database, (waiting for _, waiting in new), 1)
    days = by_day((waiting.environment, captured_at) for captured_at, waiting in new)
    post(database, {(environment, "captured", ""): count for environment, count in put.items()} | days)


def _put_dead_letters(database: Database, letters: Sequence[DeadLetter], first: int) -> None:
    if not letters:
        return
    insert_events(database, [letter.event for letter in letters], first)
    made: Counter[str] = Counter()
    for number, letter in enumerate(letters, first):
        made += bury(database, {number: letter.cause}, letter.event.captured_at, {})
    post(database, {(environment, "captured", ""): count for environment, count in made.items()})


# Claiming. Due are two stretches of one index: what was reached, and what lies too far ahead to be true.

_DUE = (
    "SELECT {columns} FROM waiting AS w INDEXED BY waiting_by_due {events}"
    " WHERE w.lane = ? AND w.due {since} ? ORDER BY w.due, w.id LIMIT ?"
)
_READY = {"columns": "w.size, w.since", "events": ""}
_CLAIM = {
    "columns": "w.size, w.id, w.attempts, e.key, e.environment, e.identity, e.captured_at, e.body",
    # CROSS JOIN: in this order, whatever the planner thinks of the tables (sqlite.org/optoverview.html#crossjoin).
    "events": "CROSS JOIN events AS e ON e.id = w.id",
}


def _due(
    database: Database, wanted: Mapping[str, str], lane: Lane, limit: int, now: float
) -> Iterator[tuple[Any, ...]]:
    """Rows of due events, longest due first, read one by one."""
    if (number := known_lane(database, lane)) is None:
        return
    for since, moment in (("<=", now), (">", now + AHEAD_SECONDS)):
        yield from database.execute(_DUE.format(**wanted, since=since), (number, moment, limit))


def _size(row: tuple[Any, ...]) -> int:
    return int(row[0])


def peek(database: Database, lane: Lane, *, limit: int, max_bytes: int, now: float) -> Ready:
    """What `claim` with the same arguments would find."""
    rows = take(_due(database, _READY, lane, limit, now), _size, limit=limit, max_bytes=max_bytes)
    (next_due,) = database.execute(
        "SELECT min(due) FROM waiting WHERE lane = ? AND due > ? AND due <= ?",
        (known_lane(database, lane), now, now + AHEAD_SECONDS),
    ).fetchone()
    return Ready(len(rows), sum(map(_size, rows)), min((since for _, since in rows), default=None), next_due)


def claim(database: Database, lane: Lane, *, limit: int, max_bytes: int, now: float, lease: float) -> Lease:
    """Lease due events under a new token."""
    rows = take(_due(database, _CLAIM, lane, limit, now), _size, limit=limit, max_bytes=max_bytes)
    token = secrets.token_hex(8)
    database.execute(
        "UPDATE waiting SET due = ?, token = ? WHERE id IN (SELECT value FROM json_each(?))",
        (now + lease, token, listed(row[1] for row in rows)),
    )
    return Lease(token, tuple(_claim(lane, row) for row in rows))


def _claim(lane: Lane, row: tuple[Any, ...]) -> Claim:
    _, number, attempts, key, environment, identity, captured_at, body = row
    return Claim(number, Event(key, environment, lane, identity, captured_at, body), attempts)


def renew(database: Database, token: str, until: float) -> int:
    """How many claims the token still holds; their lease ends at *until*."""
    return database.execute("UPDATE waiting SET due = ? WHERE token = ?", (until, token)).rowcount


# Settling.


def settle(
    database: Database, token: str, settlement: Settlement, *, now: float, dead_letter_bytes: int
) -> frozenset[int]:
    """Carry it out for what the token still holds; return the ids of that."""
    rows = database.execute("SELECT id, environment, lane, size, attempts FROM waiting WHERE token = ?", (token,))
    held = {number: Waiting(*one) for number, *one in rows}
    acked = {number: held.pop(number) for number in held.keys() & settlement.ack}
    died = {number: held.pop(number) for number in held.keys() & settlement.dead_letter.keys()}
    _acknowledge(database, acked)
    _dead_letter(database, died, settlement.dead_letter, now, settlement.attempts)
    trim_dead_letters(database, dead_letter_bytes)
    retried = held.keys() & settlement.retry.keys()
    _let_go(database, {number: settlement.retry[number] for number in retried}, settlement.attempts)
    note_attempts(database, acked, settlement.attempts, delivered=True)
    note_attempts(database, died.keys() | retried, settlement.attempts, delivered=False)
    return frozenset(acked.keys() | died.keys() | retried)


def _acknowledge(database: Database, acked: Mapping[int, Waiting]) -> None:
    delivered = stop_waiting(database, acked)
    delete_events(database, acked)
    post(database, {(environment, "delivered", ""): count for environment, count in delivered.items()})


def _dead_letter(
    database: Database,
    died: Mapping[int, Waiting],
    causes: Mapping[int, Cause],
    now: float,
    attempts: Mapping[int, Sequence[Attempt]],
) -> None:
    unsay(database, died)
    stop_waiting(database, died)
    made = {number: one.attempts + len(attempts.get(number, ())) for number, one in died.items()}
    bury(database, {number: causes[number] for number in died}, now, made)


def _let_go(database: Database, due: Mapping[int, float], attempts: Mapping[int, Sequence[Attempt]]) -> None:
    given(
        database,
        "id, due, more",
        ((number, moment, len(attempts.get(number, ()))) for number, moment in due.items()),
        "UPDATE waiting SET due = given.due, token = NULL, attempts = attempts + given.more"
        " FROM given WHERE waiting.id = given.id",
    )


# Sweeping.


def expire(database: Database, *, before: float, now: float, dead_letter_bytes: int) -> Counter[str]:
    """Dead-letter a slice of what waits since before *before* and is not leased; return how many by environment."""
    levels = database.execute("SELECT lane, environment FROM levels WHERE events > 0").fetchall()
    expired: dict[int, Waiting] = {}
    for lane, environment in levels:
        rows = database.execute(
            "SELECT id, size, attempts FROM waiting INDEXED BY waiting_by_age"
            " WHERE lane = ? AND environment = ? AND since < ?"
            " AND NOT (token IS NOT NULL AND due > ? AND due <= ?) ORDER BY since LIMIT ?",
            (lane, environment, before, now, now + AHEAD_SECONDS, SLICE - len(expired)),
        )
        expired |= {number: Waiting(environment, lane, *one) for number, *one in rows}
    _dead_letter(database, expired, dict.fromkeys(expired, EXPIRED), now, {})
    trim_dead_letters(database, dead_letter_bytes)
    return Counter(one.environment for one in expired.values())


def drop_old(database: Database, *, before: float) -> int:
    """Drop a slice of the dead letters made before *before*; return how many, 0 at the end."""
    rows = database.execute(
        "SELECT id, environment, reason, size FROM dead_letters WHERE made_at < ? ORDER BY made_at, id LIMIT ?",
        (before, SLICE),
    )
    letters = [Letter(*row) for row in rows]
    drop_dead_letters(database, letters, "dead_letter_expired")
    return len(letters)
