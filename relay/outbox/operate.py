"""What an operator asks of a SQLite outbox, as the bodies of short transactions: each does one slice."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import asdict

from relay.core.translate import OBSTACLES
from relay.model import Cause, DeadLetter, Event, Lane, StoredLetter, Which
from relay.outbox import AHEAD_SECONDS
from relay.outbox.bookkeeping import SLICE
from relay.outbox.database import Database
from relay.outbox.tables import (
    Letter,
    Waiting,
    count_waiting,
    drop_dead_letters,
    drop_waiting,
    known_lane,
    number_lane,
    take_dead_letters,
)

# So many events are looked through for an identity in one go; tens of milliseconds, and nobody waits for a reader.
STRIDE = 10_000


# Dead letters.

_CHOSEN = (
    "SELECT {columns} FROM dead_letters AS d {events} WHERE d.id > :after"
    " AND (:environment IS NULL OR d.environment = :environment) AND (:reason IS NULL OR d.reason = :reason)"
    " AND (:since IS NULL OR d.made_at >= :since) AND (:until IS NULL OR d.made_at < :until) {order}"
)
_COUNT = {"columns": "count(*)", "events": "", "order": ""}
_READ = {
    "columns": "d.id, e.key, d.environment, l.url, l.app_id, e.identity, e.captured_at, e.body, d.reason, d.detail,"
    " d.made_at, d.attempts",
    # CROSS JOIN: in this order, as in a claim.
    "events": "CROSS JOIN events AS e ON e.id = d.id CROSS JOIN lanes AS l ON l.id = e.lane",
    "order": "ORDER BY d.id LIMIT :limit",
}


def dead_letters(database: Database, which: Which, *, after: int, limit: int) -> list[StoredLetter]:
    """Those chosen, by their numbers."""
    rows = database.execute(_CHOSEN.format(**_READ), {**asdict(which), "after": after, "limit": limit})
    return [_stored_letter(row) for row in rows]


def count_dead_letters(database: Database, which: Which) -> int:
    """How many are chosen."""
    (count,) = database.execute(_CHOSEN.format(**_COUNT), {**asdict(which), "after": 0}).fetchone()
    return int(count)


def _stored_letter(row: tuple[Any, ...]) -> StoredLetter:
    number, key, environment, url, app_id, identity, captured_at, body, reason, detail, made_at, attempts = row
    event = Event(key, environment, Lane(url, app_id), identity, captured_at, body)
    return StoredLetter(number, DeadLetter(event, Cause(reason, detail)), made_at, attempts)


def replay(database: Database, numbers: Sequence[int], now: float) -> int:
    """Let dead letters wait again, but for those that can never be sent."""
    letters = [letter for letter in _letters(database, numbers) if letter.reason not in OBSTACLES]
    replayed = [letter.number for letter in letters]
    take_dead_letters(database, letters)
    database.executemany(
        "INSERT INTO waiting (id, lane, environment, since, size, due)"
        " SELECT id, lane, environment, ?, length(body), ? FROM events WHERE id = ?",
        ((now, now, number) for number in replayed),
    )
    count_waiting(database, _waiting(database, replayed).values(), 1)
    return len(replayed)


def drop(database: Database, numbers: Iterable[int], reason: str) -> int:
    """Drop dead letters and count them under *reason*."""
    letters = _letters(database, numbers)
    drop_dead_letters(database, letters, reason)
    return len(letters)


def _letters(database: Database, numbers: Iterable[int]) -> list[Letter]:
    rows = (
        database.execute("SELECT id, environment, reason, size FROM dead_letters WHERE id = ?", (number,)).fetchone()
        for number in numbers
    )
    return [Letter(*row) for row in rows if row is not None]


def _waiting(database: Database, numbers: Iterable[int]) -> dict[int, Waiting]:
    rows = (
        database.execute("SELECT id, environment, lane, size, attempts FROM waiting WHERE id = ?", (number,)).fetchone()
        for number in numbers
    )
    return {row[0]: Waiting(*row[1:]) for row in rows if row is not None}


# Lanes.


def move(database: Database, lane: Lane, to: Lane, now: float) -> int:
    """Move what is not leased to another lane; 0 at the end."""
    moved = _unclaimed(database, lane, now)
    target = number_lane(database, to)
    if target == known_lane(database, lane):
        return 0
    numbers = [(target, number) for number in moved]
    database.executemany("UPDATE waiting SET lane = ?, token = NULL WHERE id = ?", numbers)
    database.executemany("UPDATE events SET lane = ? WHERE id = ?", numbers)
    count_waiting(database, moved.values(), -1)
    count_waiting(database, (one._replace(lane=target) for one in moved.values()), 1)
    return len(moved)


def drop_lane(database: Database, lane: Lane, now: float) -> int:
    """Drop what is not leased; 0 at the end."""
    dropped = _unclaimed(database, lane, now)
    drop_waiting(database, dropped, "orphaned")
    return len(dropped)


def _unclaimed(database: Database, lane: Lane, now: float) -> dict[int, Waiting]:
    """A slice of what waits in a lane without a lease."""
    rows = database.execute(
        "SELECT id, environment, lane, size, attempts FROM waiting INDEXED BY waiting_by_due"
        " WHERE lane = ? AND NOT (token IS NOT NULL AND due > ? AND due <= ?) LIMIT ?",
        (known_lane(database, lane), now, now + AHEAD_SECONDS, SLICE),
    )
    return {number: Waiting(*one) for number, *one in rows}


# Identities. They have no index: it would cost every event, and is needed once in a blue moon.


def find(database: Database, identity: bytes, after: int) -> tuple[list[int], int | None]:
    """Look through one stride: the numbers of the identity's events, and where to go on, None at the end."""
    (last,) = database.execute(
        "SELECT max(id) FROM (SELECT id FROM events WHERE id > ? ORDER BY id LIMIT ?)", (after, STRIDE)
    ).fetchone()
    rows = database.execute(
        "SELECT id FROM events WHERE id > ? AND id <= ? AND CAST(identity AS BLOB) = ?", (after, last, identity)
    )
    return [number for (number,) in rows], last


def forget(database: Database, identity: bytes, numbers: Sequence[int]) -> tuple[int, int]:
    """Drop those of *numbers* that are still the identity's; return how many were waiting, and how many dead."""
    theirs = [
        number
        for number in numbers
        if database.execute(
            "SELECT 1 FROM events WHERE id = ? AND CAST(identity AS BLOB) = ?", (number, identity)
        ).fetchone()
    ]
    waiting = _waiting(database, theirs)
    drop_waiting(database, waiting, "forgotten")
    return len(waiting), drop(database, theirs, "forgotten")
