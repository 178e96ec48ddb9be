"""One thread with one connection to a SQLite file, which heals itself."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TypeVar

import structlog

from relay.errors import OutboxError
from relay.outbox.database import Database
from relay.outbox.faults import breaks_connection, explain, tells_damage
from relay.outbox.files import identify, require_sound

log = structlog.get_logger(__name__)

T = TypeVar("T")
Work = Callable[[Database], T]

# A storage that failed is tried again by the first call that comes this much later.
AGAIN_SECONDS = 1.0
# One that was found damaged this much later: to read all of a large file takes a second.
DOUBTED_AGAIN_SECONDS = 5.0


class Transaction(Enum):
    """What it is begun with, and what its commit flushes to the disk (sqlite.org/pragma.html#pragma_synchronous)."""

    READ = ("BEGIN", "FULL")
    # FULL buys the promise of `put`: the commit returns after an fsync, so it survives a power cut.
    DURABLE = ("BEGIN IMMEDIATE", "FULL")
    # No fsync: a power cut may undo it, and never harms the file. Good enough for leases, which end by themselves.
    LIGHT = ("BEGIN IMMEDIATE", "NORMAL")
    # A single statement, which is a durable transaction of its own.
    ALONE = ("", "FULL")


class Session:
    """Carries out work one by one in its own thread, each piece as one transaction.

    A connection that broke is closed, and made anew by a later call, at most once a second. So is one whose file was
    moved away or replaced: what is written to it would be gone with the process.

    A follower connects only to the file of its *leader*, and leaves it first. SQLite keeps its log under the file's
    name: with connections to two files that had the name in turn, it would take the one's log for the other's.
    """

    def __init__(
        self, name: str, path: Path, connect: Callable[[], Database], *, leader: "Session | None" = None
    ) -> None:
        self._name = name
        self._path = path
        self._connect = connect
        self._leader = leader
        self._follower: Session | None = None
        if leader is not None:
            leader._follower = self
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._database: Database | None = None
        # Which file the last connection was made to; None once that was left for another.
        self._file: tuple[int, int] | None = None
        self._failure: OutboxError | None = None
        self._failed_at = 0.0
        # Somebody found the file damaged; it is read whole before it is trusted again.
        self._doubted = False
        self._closed = False

    async def open(self) -> None:
        """Connect now. Raises OutboxError where that fails; later calls try again."""
        await self._submit(self._connection)

    async def run(self, work: Work[T], transaction: Transaction) -> T:
        """What *work* returns, once it is committed. Raises OutboxError; then nothing has changed."""
        return await self._submit(lambda: self._run(work, transaction))

    async def empty_log(self) -> None:
        """Copy SQLite's log into the file and cut it, unless somebody else keeps reading from it."""
        await self._submit(self._empty_log)

    async def close(self) -> None:
        """Close the connection and end the thread, after the work that waits for it. Never raises."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
            self._thread.shutdown(wait=False)

    async def _submit(self, call: Callable[[], T]) -> T:
        if self._closed:
            raise OutboxError(f"the outbox {self._path} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # In the thread.

    def _run(self, work: Work[T], transaction: Transaction) -> T:
        database = self._connection()
        begin, synchronous = transaction.value
        try:
            database.synchronise(synchronous)
            if begin:
                database.execute(begin)
            result = work(database)
            if begin:
                database.execute("COMMIT")
        except (sqlite3.Error, OSError, OutboxError) as failure:
            explained = explain(self._path, failure)
            if not self._undone() or breaks_connection(failure):
                self._give_up(explained)
            if tells_damage(failure):
                (self._leader or self).doubt(explained)
            raise explained from failure
        except BaseException:
            self._undone()
            raise
        if self._failure is not None:
            log.info("outbox.recovered", path=str(self._path), connection=self._name)
            self._failure = None
        return result

    def _empty_log(self) -> None:
        try:
            self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except (sqlite3.Error, OSError) as failure:
            raise explain(self._path, failure) from failure

    def _undone(self) -> bool:
        """Roll back; False where even that failed."""
        try:
            if self._database is not None and self._database.in_transaction:
                self._database.execute("ROLLBACK")
        except sqlite3.Error:
            return False
        return True

    def _give_up(self, failure: OutboxError) -> None:
        """Until a second has passed, calls fail as this one did."""
        self._drop()
        self._failure, self._failed_at = failure, time.monotonic()

    def _connection(self) -> Database:
        if self._leader is not None:
            self._leader.require()
        elif self._file is not None and not self._at_home():
            log.error("outbox.replaced", path=str(self._path), consequence="what it held is not sent from here")
            self._part()
        if self._database is not None:
            return self._database
        again = DOUBTED_AGAIN_SECONDS if self._doubted else AGAIN_SECONDS
        if self._failure is not None and time.monotonic() < self._failed_at + again:
            raise type(self._failure)(str(self._failure))
        return self._open()

    def _at_home(self) -> bool:
        """Whether the file that it is, or was last, connected to has the name still."""
        return self._file is not None and identify(self._path) == self._file

    def _open(self) -> Database:
        try:
            self._database = self._connect()
            self._file = identify(self._path)
            if self._doubted:
                require_sound(self._database)
                self._doubted = False
        except (sqlite3.Error, OSError, OutboxError) as failure:
            explained = explain(self._path, failure)
            self._give_up(explained)
            raise explained from failure
        return self._database

    def _part(self) -> None:
        """Leave a file that has another name, or none, with all that was written to it, and the follower first.

        SQLite would leave its log behind, and the file that has the name now would be taken for the log's own.
        """
        if self._follower is not None:
            self._follower.leave()
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._drop()
        self._file = None

    def _drop(self) -> None:
        """Give the connection up. Closing the last one copies the log into the file and removes it."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    # From the thread of the other one. The leader may wait for its follower, the follower never for its leader.

    def require(self) -> None:
        """Raise OutboxError unless the file that has the name is this session's own, and sound; it will try again."""
        if self._at_home() and not self._doubted:
            return
        failure = self._failure or OutboxError(
            f"the outbox {self._path} was moved away or replaced; the next try is made on what is there now"
        )
        self._thread.submit(self._connection)
        raise type(failure)(str(failure))

    def doubt(self, damage: OutboxError) -> None:
        """The file was found damaged: work on it no more, from its cached pages neither, before all of it was read.

        A writer would go on into what no reader can read, and nobody would hear of it.
        """
        self._thread.submit(self._doubt, damage)

    def _doubt(self, damage: OutboxError) -> None:
        if not self._doubted:
            self._doubted = True
            self._give_up(damage)

    def leave(self) -> None:
        """Return once the connection is closed; the next call makes another one."""
        with suppress(RuntimeError):  # the thread has ended, after it closed the connection
            self._thread.submit(self._drop).result()
