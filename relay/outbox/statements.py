"""What each call of a SQLite outbox does, as the body of one transaction; every one of them flat in cost."""

import secrets
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice
from operator import itemgetter
from typing import Any

from relay.model import (
    Attempt,
    Cause,
    Claim,
    Event,
    Lane,
    Lease,
    Ready,
    Settlement,
)
from relay.outbox import AHEAD_SECONDS
from relay.outbox.bookkeeping import SLICE, take
from relay.outbox.bulk import given, listed
from relay.outbox.database import Database
from relay.outbox.journal import note_attempts
from relay.outbox.sent import unsay
from relay.outbox.tables import (
    Letter,
    Waiting,
    bury,
    delete_events,
    drop_dead_letters,
    known_lane,
    post,
    stop_waiting,
    trim_dead_letters,
)

EXPIRED = Cause("expired")


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


_size = itemgetter(0)


def peek(database: Database, lane: Lane, *, limit: int, max_bytes: int, now: float) -> Ready:
    """What `claim` with the same arguments would find."""
    due = [*islice(_due(database, _READY, lane, limit, now), limit)]
    sizes = [*accumulate(map(_size, due))]
    fit = bisect_right(sizes, max_bytes) or len(sizes[:1])
    (next_due,) = database.execute(
        "SELECT min(due) FROM waiting WHERE lane = ? AND due > ? AND due <= ?",
        (known_lane(database, lane), now, now + AHEAD_SECONDS),
    ).fetchone()
    return Ready(fit, sizes[fit - 1] if fit else 0, min((since for _, since in due[:fit]), default=None), next_due)


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
