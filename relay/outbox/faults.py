"""Say in one line what is wrong with an outbox's file and what to do about it."""

import errno
import sqlite3
from pathlib import Path

from relay.errors import OutboxError

# What SQLite (sqlite.org/rescode.html) and the system call the same thing: (what is wrong, what to do).
_HELD = ("is held by another program for too long", "find out who else has it open")
_NOT_WRITABLE = ("cannot be written", "let the relay's user write the file and its folder")
_UNREADABLE = ("cannot be read or written", "check the disk")
DAMAGED_ADVICE = "move it away together with its -wal file, or put a good copy in the place of both"
_DAMAGED = ("is damaged", DAMAGED_ADVICE)
_NO_ROOM = ("finds no room on the disk", "free some space")
_NOT_THERE = ("cannot be opened", "check outbox.url, and that its folder is there and the relay's user may enter it")
_NOT_SQLITE = (
    "is not a SQLite file",
    "move it away together with its -wal file, if it has one, or name another file in outbox.url",
)

_BY_CODE = {
    sqlite3.SQLITE_BUSY: _HELD,
    sqlite3.SQLITE_LOCKED: _HELD,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_IOERR: _UNREADABLE,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_FULL: _NO_ROOM,
    sqlite3.SQLITE_CANTOPEN: _NOT_THERE,
    sqlite3.SQLITE_NOTADB: _NOT_SQLITE,
}
_BY_ERRNO = {
    errno.EACCES: _NOT_WRITABLE,
    errno.EPERM: _NOT_WRITABLE,
    errno.EROFS: _NOT_WRITABLE,
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EIO: _UNREADABLE,
}

# After these the connection is given up. A full disk or a busy file leaves it as good as before.
_LEAVES_CONNECTION = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CONSTRAINT}


def explain(path: Path, failure: sqlite3.Error | OSError | OutboxError) -> OutboxError:
    """*failure* as an error whose text names the file and what to do."""
    if isinstance(failure, OutboxError):
        return type(failure)(f"the outbox {path} {failure}")
    if isinstance(failure, OSError):
        what, advice = _BY_ERRNO.get(failure.errno or 0, _NOT_THERE)
        detail = failure.strerror or str(failure)
    else:
        what, advice = _BY_CODE.get(_code(failure), _UNREADABLE)
        detail = str(failure)
    return OutboxError(f"the outbox {path} {what} ({detail}); {advice}")


def breaks_connection(failure: sqlite3.Error | OSError | OutboxError) -> bool:
    """Whether only a new connection can help."""
    if isinstance(failure, sqlite3.Error):
        return _code(failure) not in _LEAVES_CONNECTION
    return isinstance(failure, OSError)


def tells_damage(failure: sqlite3.Error | OSError | OutboxError) -> bool:
    """Whether the file itself is not what it should be."""
    return isinstance(failure, sqlite3.Error) and _code(failure) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _code(failure: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for what Python's module says by itself."""
    return int(getattr(failure, "sqlite_errorcode", 0)) & 0xFF
