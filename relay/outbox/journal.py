"""The journal of a SQLite outbox: what was decided for whom, and what became of it.

It grows at one end and is cut at the other, so that an entry costs the same however many there are. Identities are
kept as fingerprints only.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from relay.model import Attempt, Cause, JournalEntry, Repeats, Trace, Verdict
from relay.outbox.bookkeeping import ATTEMPTS_KEPT, SLICE, fate, fingerprint, identity_fingerprint, is_leased
from relay.outbox.bulk import delete, given, insert, listed
from relay.outbox.database import Database

# About what an entry takes, and a set of properties beside its text; measured.
ENTRY_BYTES = 240
STATE_BYTES = 100
# An entry has room for its attempts from the first, so that an outage takes none of a full disk. Each is written
# equally wide, "1764000000 delivered 200", so that SQLite itself makes room for a new one at the end.
ATTEMPT_WIDTH = 24


# Writing.


def write_journal(database: Database, journal: Sequence[JournalEntry], *, since: int) -> None:
    """Note *journal*; its events and dead letters were just stored and have numbers from *since* on."""
    numbers: dict[str, int] = dict(database.execute("SELECT key, id FROM events WHERE id >= ?", (since,)))
    free = count(max(numbers.values(), default=since - 1) + 1)
    noted: dict[int, JournalEntry] = {}
    for entry in journal:
        number = numbers.pop(entry.key, None) if entry.key else next(free)
        if number is not None:
            noted[number] = entry
    noted = dict(sorted(noted.items()))
    states, size = _store_states(database, noted.values())
    key = database.secret
    insert(
        database,
        "journal (id, who, environment, at, method, send, reason, state, key)",
        (
            (
                *(number, identity_fingerprint(key, entry.identity), entry.environment, entry.at, entry.method),
                *(entry.verdict.send, entry.verdict.reason, states[entry.properties], entry.key),
            )
            for number, entry in noted.items()
        ),
    )
    _weigh(database, len(noted), len(noted) * ENTRY_BYTES + size)


def _store_states(database: Database, noted: Iterable[JournalEntry]) -> tuple[dict[bytes, int], int]:
    """Store each set of properties that is new, and count its entries; return the number of each, and added bytes."""
    entries = Counter(entry.properties for entry in noted)
    key = database.secret
    marks = {properties: fingerprint(key, properties) for properties in entries}
    known: dict[int, int] = dict(
        given(
            database,
            "mark",
            ((mark,) for mark in marks.values()),
            "SELECT mark, id FROM given CROSS JOIN states ON states.fingerprint = mark",
        )
    )
    states = {properties: known[mark] for properties, mark in marks.items() if mark in known}
    given(
        database,
        "id, more",
        ((number, entries[properties]) for properties, number in states.items()),
        "UPDATE states SET entries = entries + given.more FROM given WHERE states.id = given.id",
    )
    (free,) = database.execute("SELECT coalesce(max(id), 0) + 1 FROM properties").fetchone()
    new = dict(zip((properties for properties in marks if properties not in states), count(free), strict=False))
    insert(database, "properties (id, text)", ((number, properties) for properties, number in new.items()))
    rows = ((number, marks[properties], entries[properties]) for properties, number in new.items())
    insert(database, "states (id, fingerprint, entries)", rows)
    return states | new, sum(map(len, new)) + len(new) * STATE_BYTES


def note_attempts(
    database: Database,
    numbers: Iterable[int],
    attempts: Mapping[int, Sequence[Attempt]],
    *,
    delivered: bool,
) -> None:
    """Count the *attempts* of those *numbers* that are in the journal, and keep the last ones."""
    alike: defaultdict[tuple[Attempt, ...], list[int]] = defaultdict(list)
    for number in numbers:
        alike[tuple(attempts.get(number, ()))].append(number)
    for made, some in alike.items():
        database.execute(
            "UPDATE journal SET attempts = attempts + ?, delivered = ?, answers = substr(answers || ?, ?)"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (len(made), delivered, _written(made), -ATTEMPTS_KEPT * ATTEMPT_WIDTH, listed(some)),
        )


def _written(attempts: Sequence[Attempt]) -> str:
    return "".join(f"{one.at} {one.answer}".ljust(ATTEMPT_WIDTH)[:ATTEMPT_WIDTH] for one in attempts)


def _read(answers: str) -> tuple[Attempt, ...]:
    starts = range(0, len(answers), ATTEMPT_WIDTH)
    written = (answers[start : start + ATTEMPT_WIDTH].split(maxsplit=1) for start in starts)
    return tuple(Attempt(int(parts[0]), parts[1].rstrip()) for parts in written if parts)


def note_repeats(database: Database, repeats: Mapping[int, Repeats]) -> None:
    """Count answers that were like the entries with these numbers, those that are in the journal."""
    given(
        database,
        "id, times, at",
        ((number, repeat.times, repeat.at) for number, repeat in repeats.items()),
        "UPDATE journal SET unchanged = unchanged + given.times, unchanged_at = given.at"
        " FROM given WHERE journal.id = given.id",
    )


def note_gone(database: Database, numbers: Iterable[int], reason: str) -> None:
    """Note why the events with these *numbers* are neither stored nor delivered."""
    database.execute(
        "UPDATE journal SET gone = ? WHERE id IN (SELECT value FROM json_each(?))", (reason, listed(numbers))
    )


# Cutting.


def trim_journal(database: Database, *, entries: int, size: int, added: int) -> None:
    """Remove the oldest until there are at most *entries*, and they take at most *size* bytes.

    A call removes a slice more than were *added*, where the bounds have become narrower.
    """
    facts = dict(database.execute("SELECT name, value FROM meta WHERE name IN ('journal_entries', 'journal_bytes')"))
    have, take = facts["journal_entries"], facts["journal_bytes"]
    # By their size on average, which over a few calls comes to the same.
    excess = max(have - entries, math.ceil(have * (take - size) / take) if take > size else 0)
    if excess <= 0:
        return
    rows = database.execute("SELECT id, state FROM journal ORDER BY id LIMIT ?", (min(excess, added + SLICE),))
    _remove(database, rows.fetchall())


def forget_entries(database: Database, identity: str) -> int:
    """Remove a slice of what is noted of *identity*; return how many, 0 at the end."""
    who = identity_fingerprint(database.secret, identity)
    rows = database.execute("SELECT id, state FROM journal WHERE who = ? LIMIT ?", (who, SLICE)).fetchall()
    _remove(database, rows)
    return len(rows)


def _remove(database: Database, entries: Sequence[tuple[int, int]]) -> None:
    """Remove *entries*, each given as (number, state), and the properties that no other has."""
    delete(database, "journal", (number for number, _ in entries))
    states = Counter(state for _, state in entries)
    given(
        database,
        "id, less",
        states.items(),
        "UPDATE states SET entries = entries - given.less FROM given WHERE states.id = given.id",
    )
    unused: dict[int, int] = dict(
        database.execute(
            "SELECT id, length(text) FROM states CROSS JOIN properties USING (id)"
            " WHERE states.id IN (SELECT value FROM json_each(?)) AND entries = 0",
            (listed(states),),
        )
    )
    for table in ("states", "properties"):
        delete(database, table, unused)
    freed = len(entries) * ENTRY_BYTES + sum(unused.values()) + len(unused) * STATE_BYTES
    _weigh(database, -len(entries), -freed)


def _weigh(database: Database, entries: int, size: int) -> None:
    database.execute(
        "UPDATE meta SET value = value + iif(name = 'journal_entries', ?, ?)"
        " WHERE name IN ('journal_entries', 'journal_bytes')",
        (entries, size),
    )


# Reading.


def trace(database: Database, *, identity: str, limit: int, now: float) -> list[Trace]:
    """What is noted of *identity*, newest first."""
    rows = database.execute(
        "SELECT j.environment, j.at, j.method, j.send, j.reason, p.text, j.key, j.attempts, j.answers,"
        " j.delivered, j.unchanged, j.unchanged_at, j.gone, w.token, w.due, d.reason, d.detail"
        " FROM journal AS j CROSS JOIN properties AS p ON p.id = j.state"
        " LEFT JOIN waiting AS w ON w.id = j.id LEFT JOIN dead_letters AS d ON d.id = j.id"
        " WHERE j.who = ? ORDER BY j.id DESC LIMIT ?",
        (identity_fingerprint(database.secret, identity), limit),
    )
    return [_trace(row, now) for row in rows]


def _trace(row: tuple[Any, ...], now: float) -> Trace:
    environment, at, method, send, verdict, properties, key, attempts, answers, delivered, *rest = row
    unchanged, unchanged_at, gone, token, due, reason, detail = rest
    leased = None if due is None else is_leased(token, due, now)
    place = fate(key, leased=leased, dead=reason is not None, delivered=bool(delivered))
    return Trace(
        environment=environment,
        at=at,
        method=method,
        verdict=Verdict(bool(send), verdict),
        properties=properties,
        key=key,
        attempts=attempts,
        answers=_read(answers),
        place=place,
        due=due if place == "waiting" else None,
        cause=Cause(reason, detail) if reason is not None else Cause(gone) if place == "gone" and gone else None,
        unchanged=unchanged,
        unchanged_at=unchanged_at,
    )
