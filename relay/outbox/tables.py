"""Changes to the tables of a SQLite outbox that several calls share; each keeps the books with what it does."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from relay.core.daily import DAYS_KEPT
from relay.model import Book, Cause, Event, Lane, Level
from relay.outbox.bookkeeping import DAY, Total, compile_books
from relay.outbox.bulk import delete, insert
from relay.outbox.database import Database
from relay.outbox.sent import unsay


class Waiting(NamedTuple):
    """A waiting event, as far as it counts."""

    environment: str
    # The lane's number.
    lane: int
    # Its body's bytes.
    size: int
    # Requests to Heap that carried it.
    attempts: int


class Letter(NamedTuple):
    """A dead letter, as far as it counts."""

    number: int
    environment: str
    reason: str
    # What it takes of the dead letters' share, in bytes.
    size: int


# About what a dead letter takes beside its texts: its rows in two tables and their indexes, measured with small bodies.
ROW_BYTES = 150


def installation(database: Database) -> str:
    """Which file this is, whatever its name."""
    return str(database.execute("SELECT value FROM meta WHERE name = 'installation'").fetchone()[0])


def storage_in_use(database: Database) -> int:
    """Bytes of the file that hold something."""
    (pages, free) = database.execute("SELECT * FROM pragma_page_count, pragma_freelist_count").fetchone()
    return int(pages - free) * database.page_size


def reusable(database: Database) -> int:
    """Bytes of the file that were freed, and are filled again before it grows."""
    return int(database.execute("PRAGMA freelist_count").fetchone()[0]) * database.page_size


# The books.


def post(database: Database, changes: Mapping[Total, int]) -> None:
    """Add *changes* to the totals."""
    insert(
        database,
        "books",
        ((*total, count) for total, count in changes.items()),
        "ON CONFLICT (environment, book, reason) DO UPDATE SET count = count + excluded.count",
    )


def books(database: Database) -> dict[str, Book]:
    """The totals by environment name."""
    rows = database.execute("SELECT environment, book, reason, count FROM books WHERE book <> ?", (DAY,))
    return compile_books(((environment, book, reason), count) for environment, book, reason, count in rows)


def days(database: Database) -> dict[str, dict[str, int]]:
    """Events by environment and UTC day."""
    found: dict[str, dict[str, int]] = {}
    for environment, day, events in database.execute(
        "SELECT environment, reason, count FROM books WHERE book = ?", (DAY,)
    ):
        found.setdefault(environment, {})[day] = events
    return found


def drop_days(database: Database, before: str) -> None:
    """Forget the days before the one named, but for each environment's last few."""
    database.execute(
        "DELETE FROM books WHERE book = :day AND reason < :before AND :kept <= (SELECT count(*) FROM books AS later"
        " WHERE later.environment = books.environment AND later.book = :day AND later.reason > books.reason)",
        {"day": DAY, "before": before, "kept": DAYS_KEPT},
    )


# Lanes.


def known_lane(database: Database, lane: Lane) -> int | None:
    """The number of a lane, None for one that never had an event."""
    row = database.execute("SELECT id FROM lanes WHERE url = ? AND app_id = ?", (lane.url, lane.app_id)).fetchone()
    return None if row is None else int(row[0])


def levels(database: Database) -> list[Level]:
    """What waits, by lane and environment."""
    rows = database.execute(
        "SELECT url, app_id, environment, events, size,"
        " (SELECT min(since) FROM waiting AS w WHERE w.lane = levels.lane AND w.environment = levels.environment)"
        " FROM levels JOIN lanes ON lanes.id = levels.lane WHERE events > 0"
    )
    return [Level(Lane(url, app_id), *level) for url, app_id, *level in rows]


def count_waiting(database: Database, waiting: Iterable[Waiting], sign: int) -> Counter[str]:
    """Count events that began to wait, or with a *sign* of -1 ended; return how many of each environment."""
    events: Counter[tuple[int, str]] = Counter()
    sizes: Counter[tuple[int, str]] = Counter()
    for environment, lane, size, _ in waiting:
        events[lane, environment] += 1
        sizes[lane, environment] += size
    insert(
        database,
        "levels",
        ((*level, sign * count, sign * sizes[level]) for level, count in events.items()),
        "ON CONFLICT (lane, environment) DO UPDATE SET events = events + excluded.events, size = size + excluded.size",
    )
    counts: Counter[str] = Counter()
    for (_, environment), count in events.items():
        counts[environment] += count
    post(database, {(environment, "waiting", ""): sign * count for environment, count in counts.items()})
    return counts


def number_lane(database: Database, lane: Lane) -> int:
    """The number of a lane, a new one for one that never had an event."""
    if (number := known_lane(database, lane)) is not None:
        return number
    inserted = database.execute("INSERT INTO lanes (url, app_id) VALUES (?, ?)", (lane.url, lane.app_id))
    return int(inserted.lastrowid or 0)


# Events.


def next_number(database: Database) -> int:
    """The first free number; events and journal entries are counted together."""
    (number,) = database.execute(
        "SELECT max(coalesce((SELECT max(id) FROM events), 0), coalesce((SELECT max(id) FROM journal), 0)) + 1"
    ).fetchone()
    return int(number)


def insert_events(database: Database, events: Sequence[Event], first: int) -> None:
    """Store those *events* whose keys are new, under numbers from *first* on, in their order."""
    lanes = {lane: number_lane(database, lane) for lane in {event.lane for event in events}}
    insert(
        database,
        "events (id, key, environment, lane, identity, captured_at, body)",
        (
            (number, event.key, event.environment, lanes[event.lane], event.identity, event.captured_at, event.body)
            for number, event in enumerate(events, first)
        ),
        "ON CONFLICT (key) DO NOTHING",
    )


def delete_events(database: Database, numbers: Iterable[int]) -> None:
    """Remove what is neither waiting nor dead any more."""
    delete(database, "events", numbers)


def stop_waiting(database: Database, waiting: Mapping[int, Waiting]) -> Counter[str]:
    """Let events wait no more; return how many of each environment. They are still stored."""
    delete(database, "waiting", waiting)
    return count_waiting(database, waiting.values(), -1)


def drop_waiting(database: Database, waiting: Mapping[int, Waiting], reason: str) -> None:
    """Drop waiting events and count them under *reason*."""
    unsay(database, waiting)
    dropped = stop_waiting(database, waiting)
    delete_events(database, waiting)
    post(database, {(environment, "dropped", reason): count for environment, count in dropped.items()})


# Dead letters.


def bury(database: Database, causes: Mapping[int, Cause], made_at: float, attempts: Mapping[int, int]) -> Counter[str]:
    """Make dead letters of stored events by number, those that are stored; return how many of each environment.

    *attempts* were made for those it names.
    """
    made: Counter[tuple[str, str]] = Counter()
    total = 0
    for number, cause in causes.items():
        row = database.execute(
            "SELECT environment, length(body) + length(identity) + 2 * length(key) FROM events WHERE id = ?", (number,)
        ).fetchone()
        if row is None:
            continue
        environment, detail = row[0], _storable(cause.detail)
        size = row[1] + len(detail) + ROW_BYTES
        letter = (number, environment, made_at, cause.reason, detail, size, attempts.get(number, 0))
        database.execute("INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?)", letter)
        made[environment, cause.reason] += 1
        total += size
    _weigh_dead_letters(database, total)
    post(database, {(environment, "dead_letters", reason): count for (environment, reason), count in made.items()})
    return Counter(environment for environment, _ in made.elements())


def trim_dead_letters(database: Database, dead_letter_bytes: int) -> None:
    """Drop the oldest dead letters until the others take at most *dead_letter_bytes*."""
    (used,) = database.execute("SELECT value FROM meta WHERE name = 'dead_letter_bytes'").fetchone()
    excess = used - dead_letter_bytes
    if excess <= 0:
        return
    dropped: list[Letter] = []
    for row in database.execute("SELECT id, environment, reason, size FROM dead_letters ORDER BY made_at, id"):
        dropped.append(letter := Letter(*row))
        excess -= letter.size
        if excess <= 0:
            break
    drop_dead_letters(database, dropped, "dead_letters_full")


def drop_dead_letters(database: Database, letters: Sequence[Letter], reason: str) -> None:
    """Drop *letters* and count them under *reason*."""
    take_dead_letters(database, letters)
    delete_events(database, [letter.number for letter in letters])
    dropped = Counter(letter.environment for letter in letters)
    post(database, {(environment, "dropped", reason): count for environment, count in dropped.items()})


def take_dead_letters(database: Database, letters: Sequence[Letter]) -> None:
    """Let *letters* be none any more. Their events are still stored."""
    delete(database, "dead_letters", (letter.number for letter in letters))
    _weigh_dead_letters(database, -sum(letter.size for letter in letters))
    taken = Counter((letter.environment, letter.reason) for letter in letters)
    post(database, {(environment, "dead_letters", reason): -count for (environment, reason), count in taken.items()})


def _weigh_dead_letters(database: Database, size: int) -> None:
    if size:
        database.execute("UPDATE meta SET value = value + ? WHERE name = 'dead_letter_bytes'", (size,))


def _storable(detail: str) -> str:
    """*detail* without halves of surrogate pairs: it is somebody else's text, and SQLite takes only UTF-8."""
    return detail.encode(errors="replace").decode()
