"""Make and open the file of a SQLite outbox."""

import os
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

from relay.errors import OutboxError
from relay.outbox.database import Database
from relay.outbox.faults import DAMAGED_ADVICE
from relay.outbox.schema import migrate, recognise, require_current

# How long to wait for a guest's short transaction, in seconds.
BUSY_SECONDS = 5.0
# The log of changes is cut to this once it was copied into the file: one great burst must not keep the disk for ever.
LOG_BYTES = 16 * 2**20
# Pages that a reader keeps, in KiB: it looks at a few rows here and there, and goes through the rest once.
READER_KIB = 512


def make_folder(folder: Path) -> None:
    """Make *folder* and those above it where they are missing, for the relay's user alone."""
    if not folder.exists():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def open_owned(path: Path) -> Database:
    """The connection that writes; makes the file or migrates it. Never touches a file that is not an outbox."""
    _make_file(path)
    database = _connect(path)
    try:
        _log_ahead(database, path)
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def open_as_guest(path: Path, *, read_only: bool = False) -> Database:
    """A connection to an outbox that is there and up to date."""
    if not find_file(path):
        raise OutboxError("is not there; `relay run` makes it when it starts")
    _require_access(path)
    database = _connect(path)
    try:
        require_current(database)
        if read_only:
            database.execute("PRAGMA query_only = ON")
            database.execute(f"PRAGMA cache_size = -{READER_KIB}")
    except BaseException:
        database.close()
        raise
    return database


def find_file(path: Path) -> bool:
    """Whether the file is there. Raises OutboxError where the name stands for something else, OSError for nowhere."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        raise OutboxError("is not a file; name another in outbox.url")
    return True


def require_sound(database: Database) -> None:
    """Raise OutboxError unless every page is readable and in its place (sqlite.org/pragma.html#pragma_quick_check)."""
    (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise OutboxError(f"is damaged ({' '.join(str(found).split())}); {DAMAGED_ADVICE}")


def identify(path: Path) -> tuple[int, int] | None:
    """Which file the name stands for now; None where it stands for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def free_bytes(path: Path) -> int:
    """Room on the disk that holds *path*; as much as can be counted where the file system knows no bound."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize if disk.f_blocks else sys.maxsize


def _make_file(path: Path) -> None:
    """An empty file where there is none, readable by the relay's user alone; SQLite gives its helpers the same mode.

    A file that is there is never opened here: closing it would drop SQLite's own locks on it
    (sqlite.org/howtocorrupt.html, section 2.2).
    """
    if not find_file(path):
        _require_no_log(path.with_name(f"{path.name}-wal"))
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    _require_access(path)
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)


def _require_no_log(log: Path) -> None:
    """SQLite deletes the log of a file that is not there; it may hold all that was put before a kill."""
    if log.exists() and log.stat().st_size:
        raise OutboxError(f"is not there, but its log {log.name} is; bring the file back, or move the log away too")


def _require_access(path: Path) -> None:
    if not (os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):
        raise OutboxError("cannot be written; let the relay's user write the file and its folder")


def _connect(path: Path) -> Database:
    """A connection to a file that is an outbox, or empty."""
    # immutable: the file alone. With its log, SQLite would on closing copy that into a file that is not the log's own.
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, factory=Database)) as database:
        # A kill while the log was being copied leaves a file that is shorter than its first page says. With the log it
        # is whole, so this is no damage; SQLite reads such a file so (lockBtree in sqlite.org/src/file/src/btree.c).
        database.execute("PRAGMA writable_schema = ON")
        recognise(database)
    # rw: SQLite itself makes no file, ours has its mode from the start.
    database = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=BUSY_SECONDS, factory=Database
    )
    # What is deleted names people, so it is overwritten (sqlite.org/pragma.html#pragma_secure_delete). This costs about
    # one percent of the outbox's time.
    database.execute("PRAGMA secure_delete = ON")
    return database


def _log_ahead(database: Database, path: Path) -> None:
    """Readers never wait for a commit, and a commit is one flush (sqlite.org/wal.html)."""
    (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise OutboxError(f"lies on a file system that cannot share memory ({path.parent}); use a local disk")
    database.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    database.execute("PRAGMA fullfsync = ON")  # macOS: through the drive's own cache as well
