"""A connection to a SQLite file that knows what never changes there, so that it is asked for once."""

import sqlite3
from functools import cached_property


class Database(sqlite3.Connection):
    """One connection, for one thread."""

    # What its commits flush to the disk; nothing was said yet.
    _synchronous = ""

    @cached_property
    def secret(self) -> bytes:
        """The key of this file's fingerprints."""
        (key,) = self.execute("SELECT value FROM meta WHERE name = 'journal_key'").fetchone()
        return bytes(key)

    @cached_property
    def page_size(self) -> int:
        """Bytes of a page."""
        return int(self.execute("PRAGMA page_size").fetchone()[0])

    def synchronise(self, mode: str) -> None:
        """Let commits flush by *mode* from now on (sqlite.org/pragma.html#pragma_synchronous)."""
        if mode != self._synchronous:
            self.execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode
