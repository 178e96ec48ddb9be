"""The change memory of a SQLite outbox: what was sent last for whom, a row for each identity of an environment.

Identities are kept as fingerprints only. What is taken from it is counted ("memory_removals" in meta), so that a copy
of it in some process can be told from what is true now.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from relay.core.coalesce import newest
from relay.model import Event, Repeats, Sent, Who
from relay.outbox.bookkeeping import SLICE, hour, identity_fingerprint
from relay.outbox.bulk import given, insert
from relay.outbox.database import Database

# About what a remembered identity takes, with its place in the index; measured.
ENTRY_BYTES = 65

# Which memory a copy is of: the file, and how often something was taken from it.
Edition = tuple[str, int]


# The memory's number, and the fingerprint of an identity.
_Place = tuple[int, int]


class _Row(NamedTuple):
    sent: Sent
    # Of its event.
    number: int
    # In hours.
    used: int


# Reading.


def recall(database: Database, *, whos: Collection[Who]) -> tuple[Edition, dict[Who, Sent | None]]:
    """What is remembered of each of *whos*, at least one: in a single statement, for a commit waits for it."""
    key = database.secret
    asked = [(environment, identity_fingerprint(key, identity)) for environment, identity in whos]
    rows = database.execute(_RECALL, (json.dumps(asked),)).fetchall()
    (*_, installation, removals) = rows[0]
    found = {number: Sent(mark, at) for number, mark, at, _, _ in rows if mark is not None}
    return (installation, removals), {who: found.get(number) for number, who in enumerate(whos)}


_RECALL = """
    SELECT asked.key, sent.fingerprint, sent.at,
        (SELECT value FROM meta WHERE name = 'installation'), (SELECT value FROM meta WHERE name = 'memory_removals')
    FROM json_each(?) AS asked
    LEFT JOIN memories ON memories.environment = json_extract(asked.value, '$[0]')
    LEFT JOIN sent ON sent.memory = memories.id AND sent.who = json_extract(asked.value, '$[1]')
"""


def edition(database: Database) -> Edition:
    """Which memory this is now."""
    rows = database.execute("SELECT name, value FROM meta WHERE name IN ('installation', 'memory_removals')")
    facts = dict(rows.fetchall())
    return str(facts["installation"]), int(facts["memory_removals"])


def remembered(database: Database) -> dict[str, int]:
    """How many identities are, by environment."""
    rows = database.execute("SELECT environment, entries FROM memories WHERE environment IS NOT NULL AND entries > 0")
    return dict(rows.fetchall())


def _memories(database: Database) -> dict[str, int]:
    """The number of each environment's memory."""
    return dict(database.execute("SELECT environment, id FROM memories WHERE environment IS NOT NULL").fetchall())


def _rows(database: Database, places: Iterable[_Place]) -> dict[_Place, _Row]:
    """What is remembered at *places*."""
    rows = given(
        database,
        "memory, who",
        places,
        # CROSS JOIN: each is looked up by its place (sqlite.org/optoverview.html#crossjoin).
        "SELECT sent.* FROM given CROSS JOIN sent ON sent.memory = given.memory AND sent.who = given.who",
    )
    return {(memory, who): _Row(Sent(mark, at), number, used) for memory, who, mark, at, number, used in rows}


# Writing.


def remember(database: Database, events: Mapping[int, Event], fingerprints: Mapping[str, int]) -> dict[Who, Sent]:
    """Remember *events* by number, which all have a fingerprint by key; return what is known of their identities."""
    key = database.secret
    memories = {name: _begin(database, name) for name in {event.environment for event in events.values()}}
    places = {
        number: (memories[event.environment], identity_fingerprint(key, event.identity))
        for number, event in events.items()
    }
    rows = _rows(database, places.values())
    known: dict[Who, Sent] = {}
    changed: dict[_Place, _Row] = {}
    for number, event in events.items():
        place, sent = places[number], Sent(fingerprints[event.key], event.captured_at)
        last = changed.get(place) or rows.get(place)
        known[event.environment, event.identity] = found = newest(sent, last.sent if last else None)
        if found is sent:
            changed[place] = _Row(sent, number, hour(sent.at))
    _write(database, changed)
    _count(database, Counter(memory for memory, _ in changed.keys() - rows.keys()))
    return known


def _write(database: Database, rows: Mapping[_Place, _Row]) -> None:
    insert(
        database,
        "sent (memory, who, fingerprint, at, event, used)",
        ((*place, row.sent.fingerprint, row.sent.at, row.number, row.used) for place, row in rows.items()),
        "ON CONFLICT (memory, who) DO UPDATE"
        " SET fingerprint = excluded.fingerprint, at = excluded.at, event = excluded.event, used = excluded.used",
    )


def _begin(database: Database, environment: str) -> int:
    """The number of an environment's memory, a new one where it has none."""
    row = database.execute("SELECT id FROM memories WHERE environment = ?", (environment,)).fetchone()
    if row is None:
        row = (database.execute("INSERT INTO memories (environment, entries) VALUES (?, 0)", (environment,)).lastrowid,)
    return int(row[0])


def touch(database: Database, repeats: Mapping[Who, Repeats]) -> dict[int, Repeats]:
    """Note who was used just now; return the repeats by the numbers of the events they repeat."""
    key, memories = database.secret, _memories(database)
    places = {who: (memories[who[0]], identity_fingerprint(key, who[1])) for who in repeats if who[0] in memories}
    rows = _rows(database, places.values())
    known = {who: place for who, place in places.items() if place in rows}
    used = {place: rows[place]._replace(used=hour(repeats[who].at)) for who, place in known.items()}
    _write(database, {place: row for place, row in used.items() if row != rows[place]})
    return {rows[place].number: repeats[who] for who, place in known.items()}


# Forgetting.


def trim(database: Database, limits: Mapping[str, int], *, total: int, added: int) -> None:
    """Forget who was used least lately, until each environment has at most its limit, and all together *total*.

    A call forgets a slice more than were *added*, where the bounds have become narrower.
    """
    for environment, limit in limits.items():
        row = database.execute("SELECT id, entries - ? FROM memories WHERE environment = ?", (limit, environment))
        for memory, excess in row.fetchall():
            if excess > 0:
                _evict(database, memory, min(excess, added + SLICE))
    (excess,) = database.execute("SELECT coalesce(sum(entries), 0) - ? FROM memories", (total,)).fetchone()
    if excess > 0:
        # What nobody asks for any more, else the largest one makes room.
        (memory,) = database.execute("SELECT id FROM memories ORDER BY environment NOTNULL, entries DESC").fetchone()
        _evict(database, memory, min(excess, added + SLICE))


def _evict(database: Database, memory: int, most: int) -> int:
    """Forget those of a memory that were used least lately; return how many."""
    rows = database.execute(
        "SELECT who FROM sent INDEXED BY sent_by_use WHERE memory = ? ORDER BY used LIMIT ?", (memory, most)
    ).fetchall()
    database.executemany("DELETE FROM sent WHERE memory = ? AND who = ?", ((memory, who) for (who,) in rows))
    _count(database, {memory: -len(rows)})
    return len(rows)


def end(database: Database, environments: Collection[str]) -> None:
    """Begin the memories of *environments* anew, however large they are; `clear` removes the old ones."""
    cursor = database.executemany(
        "UPDATE memories SET environment = NULL WHERE environment = ?", ((name,) for name in environments)
    )
    if cursor.rowcount > 0:
        _tell_removal(database)


def clear(database: Database) -> bool:
    """Remove a slice of what belongs to memories that ended; False where there are none."""
    row = database.execute("SELECT id FROM memories WHERE environment IS NULL").fetchone()
    if row is not None and _evict(database, row[0], SLICE) < SLICE:
        database.execute("DELETE FROM memories WHERE id = ?", row)
    return row is not None


def unsay(database: Database, numbers: Collection[int]) -> None:
    """Forget that stored events by *numbers* were sent, where nothing newer was: they will not reach Heap.

    A copy may know of them even where they had to make room here.
    """
    if numbers and _memories(database):
        withdraw(database, numbers)
        _tell_removal(database)


def withdraw(database: Database, numbers: Iterable[int]) -> list[Who]:
    """The same without telling other processes; return who is not remembered any more."""
    if not (memories := _memories(database)):
        return []
    key, whose = database.secret, []
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


def forget_sent(database: Database, *, identity: str) -> int:
    """Forget *identity*; return how many environments remembered it."""
    who = identity_fingerprint(database.secret, identity)
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


def _count(database: Database, changes: Mapping[int, int]) -> None:
    database.executemany(
        "UPDATE memories SET entries = entries + ? WHERE id = ?",
        ((change, memory) for memory, change in changes.items() if change),
    )


def _tell_removal(database: Database) -> None:
    database.execute("UPDATE meta SET value = value + 1 WHERE name = 'memory_removals'")
