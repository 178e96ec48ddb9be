"""Many rows in one statement.

Python's sqlite3 lets go of the interpreter's lock at every execution, and `executemany` at every row. Beside a busy
event loop it takes up to half a millisecond each time to have it back.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from relay.outbox.database import Database

T = TypeVar("T")

# Rows of one statement, at most; below it powers of two, so that few texts of statements are in use.
MOST_ROWS = 128


def insert(database: Database, into: str, rows: Iterable[Sequence[object]], after: str = "") -> None:
    """Insert *rows*; *after* is what follows the VALUES, as ON CONFLICT."""
    for some in chunks([*rows]):
        row = f"({', '.join('?' * len(some[0]))})"
        values = ", ".join([row] * len(some))
        text = f"INSERT INTO {into} VALUES {values} {after}"  # noqa: S608  # of the code's own words
        database.execute(text, [*chain.from_iterable(some)])


def delete(database: Database, table: str, numbers: Iterable[int]) -> None:
    """Delete the rows with these *numbers*."""
    text = f"DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608  # of the code's own words
    database.execute(text, (listed(numbers),))


def listed(numbers: Iterable[int]) -> str:
    """*numbers* as one parameter, for json_each."""
    return json.dumps([*numbers])


def chunks(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """*rows* in pieces for one statement each."""
    start, size = 0, MOST_ROWS
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        yield rows[start : start + size]
        start += size
