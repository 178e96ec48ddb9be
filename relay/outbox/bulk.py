"""Many rows in one statement.

Python's sqlite3 lets go of the interpreter's lock at every execution, and `executemany` at every row. Beside a busy
event loop it takes up to half a millisecond each time to have it back.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec

from relay.outbox.database import Database

# Rows of one statement, at most; below it powers of two, so that few texts of statements are in use.
MOST_ROWS = 128


def insert(database: Database, into: str, rows: Iterable[Sequence[object]], after: str = "") -> None:
    """Insert *rows*; *after* is what follows the VALUES, as ON CONFLICT."""
    for values, parameters in _values(rows):
        text = f"INSERT INTO {into} VALUES {values} {after}"  # noqa: S608  # nosec B608  # of the code's own words
        database.execute(text, parameters)


def given(database: Database, columns: str, rows: Iterable[Sequence[object]], statement: str) -> list[Any]:
    """Execute *statement*, to which `given` is a table of *rows* with these *columns*; return what it selects."""
    found = []
    for values, parameters in _values(rows):
        found += database.execute(f"WITH given ({columns}) AS (VALUES {values}) {statement}", parameters).fetchall()
    return found


def delete(database: Database, table: str, numbers: Iterable[int]) -> None:
    """Delete the rows with these *numbers*."""
    # Of the code's own words.
    text = f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608  # nosec B608
    database.execute(text, (listed(numbers),))


def listed(numbers: Iterable[int]) -> str:
    """*numbers* as one parameter, for json_each."""
    return msgspec.json.encode([*numbers]).decode()


def _values(rows: Iterable[Sequence[object]]) -> Iterator[tuple[str, list[object]]]:
    """The text after VALUES, and its parameters, for some of *rows* at a time."""
    waiting, size = [*rows], MOST_ROWS
    while waiting:
        while size > len(waiting):
            size //= 2
        some, waiting = waiting[:size], waiting[size:]
        row = f"({', '.join('?' * len(some[0]))})"
        yield ", ".join([row] * size), [*chain.from_iterable(some)]
