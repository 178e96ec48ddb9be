"""The change memory of a SQLite outbox: what was sent last for whom, a row for each identity of an environment.

Identities are kept as fingerprints only. What is taken from it is counted ("memory_removals" in meta), so that a copy
of it in some process can be told from what is true now.
"""

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from relay.core.coalesce import newest
from relay.model import Event, Repeats, Sent, Who
from relay.outbox.bookkeeping import SLICE, hour, identity_fingerprint
from relay.outbox.schema import secret

# About what a remembered identity takes, with its place in the index; measured.
ENTRY_BYTES = 65

# Which memory a copy is of: the file, and how often something was taken from it.
Edition = tuple[str, int]


class _Row(NamedTuple):
    sent: Sent
    # Of its event.
    number: int
    # In hours.
    used: int


# Reading.


def recall(database: sqlite3.Connection, *, whos: Iterable[Who]) -> tuple[Edition, dict[Who, Sent | None]]:
    """What is remembered of each of *whos*."""
    key, memories = secret(database), _memories(database)
    rows = ((who, _row(database, memories.get(who[0]), identity_fingerprint(key, who[1]))) for who in whos)
    return edition(database), {who: row.sent if row else None for who, row in rows}


def edition(database: sqlite3.Connection) -> Edition:
    """Which memory this is now."""
    rows = database.execute("SELECT name, value FROM meta WHERE name IN ('installation', 'memory_removals')")
    facts = dict(rows.fetchall())
    return str(facts["installation"]), int(facts["memory_removals"])


def remembered(database: sqlite3.Connection) -> dict[str, int]:
    """How many identities are, by environment."""
    rows = database.execute("SELECT environment, entries FROM memories WHERE environment IS NOT NULL AND entries > 0")
    return dict(rows.fetchall())


def _memories(database: sqlite3.Connection) -> dict[str, int]:
    """The number of each environment's memory."""
    return dict(database.execute("SELECT environment, id FROM memories WHERE environment IS NOT NULL").fetchall())


def _row(database: sqlite3.Connection, memory: int | None, who: int) -> _Row | None:
    row = database.execute(
        "SELECT fingerprint, at, event, used FROM sent WHERE memory = ? AND who = ?", (memory, who)
    ).fetchone()
    return None if row is None else _Row(Sent(row[0], row[1]), row[2], row[3])


# Writing.


def remember(
    database: sqlite3.Connection, events: Mapping[int, Event], fingerprints: Mapping[str, int]
) -> dict[Who, Sent]:
    """Remember *events* by number, which all have a fingerprint by key; return what is known of their identities."""
    known: dict[Who, Sent] = {}
    added: Counter[int] = Counter()
    key, memories = secret(database), {}
    for environment in {event.environment for event in events.values()}:
        memories[environment] = _begin(database, environment)
    for number, event in events.items():
        memory, who = memories[event.environment], identity_fingerprint(key, event.identity)
        row = _row(database, memory, who)
        sent = Sent(fingerprints[event.key], event.captured_at)
        known[event.environment, event.identity] = found = newest(sent, row.sent if row else None)
        if found is sent:
            database.execute(
                "INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, ?, ?)",
                (memory, who, sent.fingerprint, sent.at, number, hour(sent.at)),
            )
            added[memory] += row is None
    _count(database, added)
    return known


def _begin(database: sqlite3.Connection, environment: str) -> int:
    """The number of an environment's memory, a new one where it has none."""
    database.execute("INSERT OR IGNORE INTO memories (environment, entries) VALUES (?, 0)", (environment,))
    (number,) = database.execute("SELECT id FROM memories WHERE environment = ?", (environment,)).fetchone()
    return int(number)


def touch(database: sqlite3.Connection, repeats: Mapping[Who, Repeats]) -> dict[int, Repeats]:
    """Note who was used just now; return the repeats by the numbers of the events they repeat."""
    key, memories = secret(database), _memories(database)
    by_number: dict[int, Repeats] = {}
    for (environment, identity), repeat in repeats.items():
        memory, who, used = memories.get(environment), identity_fingerprint(key, identity), hour(repeat.at)
        if row := _row(database, memory, who):
            by_number[row.number] = repeat
            if row.used != used:
                database.execute("UPDATE sent SET used = ? WHERE memory = ? AND who = ?", (used, memory, who))
    return by_number


# Forgetting.


def trim(database: sqlite3.Connection, limits: Mapping[str, int], *, total: int, added: int) -> None:
    """Forget who was used least lately, until each environment has at most its limit, and all together *total*.

    A call forgets a slice more than were *added*, where the bounds have become narrower.
    """
    for environment, limit in limits.items():
        row = database.execute("SELECT id, entries - ? FROM memories WHERE environment = ?", (limit, environment))
        for memory, excess in row.fetchall():
            _evict(database, memory, min(excess, added + SLICE))
    (excess,) = database.execute("SELECT coalesce(sum(entries), 0) - ? FROM memories", (total,)).fetchone()
    if excess > 0:
        # What nobody asks for any more, else the largest one makes room.
        (memory,) = database.execute("SELECT id FROM memories ORDER BY environment NOTNULL, entries DESC").fetchone()
        _evict(database, memory, min(excess, added + SLICE))


def _evict(database: sqlite3.Connection, memory: int, most: int) -> int:
    """Forget those of a memory that were used least lately; return how many."""
    rows = database.execute(
        "SELECT who FROM sent INDEXED BY sent_by_use WHERE memory = ? ORDER BY used LIMIT ?", (memory, max(0, most))
    ).fetchall()
    database.executemany("DELETE FROM sent WHERE memory = ? AND who = ?", ((memory, who) for (who,) in rows))
    _count(database, {memory: -len(rows)})
    return len(rows)


def end(database: sqlite3.Connection, environments: Collection[str]) -> None:
    """Begin the memories of *environments* anew, however large they are; `clear` removes the old ones."""
    cursor = database.executemany(
        "UPDATE memories SET environment = NULL WHERE environment = ?", ((name,) for name in environments)
    )
    if cursor.rowcount > 0:
        _tell_removal(database)


def clear(database: sqlite3.Connection) -> bool:
    """Remove a slice of what belongs to memories that ended; False where there are none."""
    row = database.execute("SELECT id FROM memories WHERE environment IS NULL").fetchone()
    if row is not None and _evict(database, row[0], SLICE) < SLICE:
        database.execute("DELETE FROM memories WHERE id = ?", row)
    return row is not None


def unsay(database: sqlite3.Connection, numbers: Collection[int]) -> None:
    """Forget that stored events by *numbers* were sent, where nothing newer was: they will not reach Heap.

    A copy may know of them even where they had to make room here.
    """
    if numbers and _memories(database):
        withdraw(database, numbers)
        _tell_removal(database)


def withdraw(database: sqlite3.Connection, numbers: Iterable[int]) -> list[Who]:
    """The same without telling other processes; return who is not remembered any more."""
    if not (memories := _memories(database)):
        return []
    key, whose = secret(database), []
    gone: Counter[int] = Counter()
    for number in numbers:
        (environment, identity) = database.execute(
            "SELECT environment, identity FROM events WHERE id = ?", (number,)
        ).fetchone()
        if memory := memories.get(environment):
            place = (memory, identity_fingerprint(key, identity), number)
            if database.execute("DELETE FROM sent WHERE memory = ? AND who = ? AND event = ?", place).rowcount:
                gone[memory] -= 1
                whose.append((environment, identity))
    _count(database, gone)
    return whose


def forget_sent(database: sqlite3.Connection, *, identity: str) -> int:
    """Forget *identity*; return how many environments remembered it."""
    who = identity_fingerprint(secret(database), identity)
    gone: Counter[int] = Counter()
    remembered = 0
    for memory, ended in database.execute("SELECT id, environment IS NULL FROM memories").fetchall():
        rows = database.execute("DELETE FROM sent WHERE memory = ? AND who = ?", (memory, who)).rowcount
        gone[memory] -= rows
        remembered += rows and not ended
    _count(database, gone)
    if gone:
        _tell_removal(database)
    return remembered


def _count(database: sqlite3.Connection, changes: Mapping[int, int]) -> None:
    database.executemany(
        "UPDATE memories SET entries = entries + ? WHERE id = ?",
        ((change, memory) for memory, change in changes.items() if change),
    )


def _tell_removal(database: sqlite3.Connection) -> None:
    database.execute("UPDATE meta SET value = value + 1 WHERE name = 'memory_removals'")
