"""How puts come into a SQLite outbox.

To store one event takes thirty statements and a dozen pages, as bytes it takes one of each. So a small put is kept as
bytes, until the tables are looked at or enough of them are there to be stored together.
"""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec

from relay.errors import OutboxError, OutboxFull
from relay.model import DeadLetter, Event, Lane, Sent, Who
from relay.outbox import Put
from relay.outbox.bookkeeping import Total, by_day
from relay.outbox.database import Database
from relay.outbox.faults import DAMAGED_ADVICE
from relay.outbox.journal import note_repeats, trim_journal, write_journal
from relay.outbox.latest import lanes_behind, mark, supersede
from relay.outbox.puts import decode, encode, joined
from relay.outbox.sent import Edition, edition, end, remember, touch, trim
from relay.outbox.tables import (
    Waiting,
    bury,
    count_waiting,
    insert_events,
    next_number,
    post,
    reusable,
    storage_in_use,
    trim_dead_letters,
)

# Room on the disk that new events may not take, for claiming and settling need some, too: a full batch 1.3 MB of log,
# measured; and SQLite copies the log into the file, which may grow by it, from 4 MB on (sqlite.org/wal.html#ckpt).
RESERVE_BYTES = 8 * 2**20


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


def put(database: Database, put: Put, *, bounds: Bounds, disk_bytes: int) -> tuple[Edition, dict[Who, Sent | None]]:
    """Store all of it, where *disk_bytes* are free on the disk; return what was learned. Raises OutboxFull."""
    if put.entries:
        require_reserve(database, disk_bytes, put.stored)
    learned = _store(database, put, bounds)
    if put.entries:
        _require_room(database, bounds.max_bytes)
    return edition(database), learned


def _store(database: Database, put: Put, bounds: Bounds) -> dict[Who, Sent | None]:
    learned: dict[Who, Sent | None] = {}
    if put.entries:
        first = next_number(database)
        behind = lanes_behind(database, put.events, put.coalescing.latest)
        _put_events(database, put.events, first)
        _put_dead_letters(database, put.dead_letters, first + len(put.events))
        if bounds.journal_entries:
            write_journal(database, put.journal, since=first)
        learned = _coalesce(database, put, first=first, behind=behind)
        trim(database, put.coalescing.remember, total=bounds.memory_entries, added=len(put.events))
        trim_journal(database, entries=bounds.journal_entries, size=bounds.journal_bytes, added=len(put.journal))
        trim_dead_letters(database, bounds.dead_letter_bytes)
    if put.coalescing.repeats:
        note_repeats(database, touch(database, put.coalescing.repeats))
    counts: Counter[Total] = Counter(put.tally)
    for (environment, _, _), count in put.tally.items():
        counts[environment, "captured", ""] += count
    post(database, counts)
    return learned


def keep(database: Database, put: Put) -> bool:
    """Store it as bytes, for `spread` to let the tables know, in one statement; not where they have one of its keys."""
    keys = json.dumps([event.key for event in put.events])
    return database.execute(_KEEP, (encode(put), keys)).rowcount == 1


_KEEP = """
    INSERT INTO kept (put) SELECT ?
    WHERE NOT EXISTS (SELECT 1 FROM json_each(?) AS new JOIN events ON events.key = new.value)
"""


def keeps_some(database: Database) -> bool:
    """Whether there are puts that the tables do not know."""
    return database.execute("SELECT 1 FROM kept LIMIT 1").fetchone() is not None


def spread(database: Database, *, bounds: Bounds) -> bool:
    """Store what was kept where it belongs; return whether anything was. Room was made sure of when it was put."""
    kept = database.execute("SELECT put FROM kept ORDER BY id").fetchall()
    if not kept:
        return False
    try:
        puts = [decode(data) for (data,) in kept]
    except msgspec.MsgspecError as failure:
        raise OutboxError(f"is damaged (a put: {failure}); {DAMAGED_ADVICE}") from failure
    for put in joined(puts):
        _store(database, put, bounds)
    database.execute("DELETE FROM kept")
    return True


def _coalesce(database: Database, put: Put, *, first: int, behind: Collection[Lane]) -> dict[Who, Sent | None]:
    """Remember events, stored from number *first* on, and let them replace what waits; return what was learned.

    An environment that got an event without a fingerprint does not know any more what was sent last.
    """
    coalescing, forgetful = put.coalescing, put.forgetful
    end(database, forgetful)
    if not (coalescing.fingerprints or coalescing.latest):
        return {}
    stored = _stored(database, put.events, first)
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
