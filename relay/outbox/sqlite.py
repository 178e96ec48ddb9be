"""The outbox in one SQLite file: a thread that writes, a thread that reads, so that status never waits for a commit."""

import asyncio
import os
from collections import Counter
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from relay.core.daily import day_of
from relay.errors import OutboxFull
from relay.model import (
    Book,
    Forgotten,
    Lane,
    Lease,
    Level,
    Ready,
    Sent,
    Settlement,
    StoredLetter,
    Trace,
    Usage,
    Which,
    Who,
)
from relay.outbox import Put, operate, putting, sent, statements, tables
from relay.outbox.alone import Alone
from relay.outbox.arrivals import Arrivals
from relay.outbox.bookkeeping import JOURNAL_SHARE, MEMORY_SHARE, SLICE, slices
from relay.outbox.database import Database
from relay.outbox.faults import explain
from relay.outbox.files import find_file, free_bytes, make_folder, open_as_guest, open_owned
from relay.outbox.journal import forget_entries, trace
from relay.outbox.owner import OwnerLock
from relay.outbox.putting import Bounds
from relay.outbox.recollection import Recollection
from relay.outbox.room import Room
from relay.outbox.sent import Edition
from relay.outbox.session import Session, Transaction, Work

T = TypeVar("T")

# Between two slices of an operator's work. Who waits for the file asks every 1 to 15 ms in the time that a slice takes.
REST_SECONDS = 0.02


class SqliteOutbox(Alone):
    """Keeps the promises of `Outbox` across crashes and power cuts.

    *dead_letter_share* is the part of *max_bytes* that dead letters may take, and *journal_entries* how many the
    journal may have. A *guest* works on a file beside the relay that owns it, in the same short transactions; it makes
    or migrates none.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        dead_letter_share: float,
        journal_entries: int = 0,
        guest: bool = False,
    ) -> None:
        path = Path(os.path.realpath(path))  # one file has one lock, whatever names lead to it
        self._path = path
        self._bounds = Bounds(
            max_bytes=max_bytes,
            dead_letter_bytes=int(max_bytes * dead_letter_share),
            journal_entries=journal_entries,
            journal_bytes=int(max_bytes * JOURNAL_SHARE),
            memory_entries=int(max_bytes * MEMORY_SHARE) // sent.ENTRY_BYTES,
        )
        self._lock = OwnerLock(Path(f"{path}.lock"))
        self._writer = Session("outbox.writer", path, partial(open_as_guest, path) if guest else self._own)
        follow = partial(open_as_guest, path, read_only=True)
        self._reader = Session("outbox.reader", path, follow, leader=self._writer)
        self._arrivals = Arrivals()
        self._recollection = Recollection()
        self._room = Room(max_bytes)

    async def open(self) -> None:
        """Own the file, or visit it; make it where it is missing."""
        await self._writer.open()

    async def close(self) -> None:
        """Commit what was called, let go of the file. Never raises."""
        await self._reader.close()
        await self._writer.close()  # the last connection: it copies SQLite's log into the file
        self._lock.release()

    async def put(self, put: Put) -> None:
        """Return once the commit was flushed to the disk."""
        if self._room.takes(put) and await self._writer.run(partial(self._keep, put=put), Transaction.ALONE):
            self._recollection.learn_kept(put)
        else:
            doubts = self._recollection.doubts
            edition, learned = await self._write(partial(self._put, put=put), Transaction.DURABLE)
            self._recollection.learn(edition, learned, doubts=doubts)
        self._arrivals.announce(put.events)

    async def recall(self, whos: Collection[Who]) -> dict[Who, Sent]:
        """Recall who was asked for lately, and read the others in one go."""
        found = self._recollection.recall(whos)
        if unknown := [who for who in whos if who not in found]:
            doubts = self._recollection.doubts
            edition, learned = await self._recall(unknown)
            self._recollection.learn(edition, learned, doubts=doubts)
            found |= {who: last for who, last in learned.items() if last is not None}
        return found

    async def _recall(self, whos: Collection[Who]) -> tuple[Edition, dict[Who, Sent | None]]:
        """Read the tables, which do not know of kept puts; but while the copy is believed, it does."""
        work = partial(sent.recall, whos=whos)
        if self._recollection.is_believed:
            found = await self._reader.run(work, Transaction.ALONE)
            if self._recollection.is_of(found[0]):
                return found
        return await self._read(work)

    def recollect(self, who: Who) -> Sent | None:
        """Recall who was asked for lately."""
        return self._recollection.recall([who]).get(who)

    async def remembered(self) -> dict[str, int]:
        """Read the counts that are kept."""
        return await self._read(sent.remembered)

    async def arrival(self, lane: Lane, timeout: float) -> None:
        """Wait for this process's own puts; what guests put is noticed by `peek`."""
        await self._arrivals.wait(lane, timeout)

    async def peek(self, lane: Lane, *, limit: int, max_bytes: int, now: float) -> Ready:
        """Look without a lease."""
        return await self._read(partial(statements.peek, lane=lane, limit=limit, max_bytes=max_bytes, now=now))

    async def claim(self, lane: Lane, *, limit: int, max_bytes: int, now: float, lease: float) -> Lease:
        """Lease in one light transaction: a power cut that undoes it ends the lease as well."""
        work = partial(statements.claim, lane=lane, limit=limit, max_bytes=max_bytes, now=now, lease=lease)
        return await self._write(work, Transaction.LIGHT)

    async def renew(self, token: str, *, until: float) -> int:
        """Renew in one light transaction."""
        return await self._write(partial(statements.renew, token=token, until=until), Transaction.LIGHT)

    async def settle(self, token: str, settlement: Settlement, *, now: float) -> frozenset[int]:
        """Settle in one durable transaction."""
        work = partial(
            statements.settle,
            token=token,
            settlement=settlement,
            now=now,
            dead_letter_bytes=self._bounds.dead_letter_bytes,
        )
        settled = await self._write(work, Transaction.DURABLE)
        if settlement.dead_letter:
            self._recollection.doubt()
        return settled

    async def sweep(self, *, expired_before: float, drop_before: float, now: float) -> Counter[str]:
        """Sweep slice by slice; whatever else waits for the writer goes in between."""
        most = self._bounds.dead_letter_bytes
        expire = partial(statements.expire, before=expired_before, now=now, dead_letter_bytes=most)
        total: Counter[str] = Counter()
        while expired := await self._write(expire, Transaction.DURABLE):
            self._recollection.doubt()
            total += expired
        while await self._write(partial(statements.drop_old, before=drop_before), Transaction.DURABLE):
            pass
        while await self._write(sent.clear, Transaction.DURABLE):
            pass
        await self._write(partial(tables.drop_days, before=day_of(now)), Transaction.LIGHT)
        return total

    async def dead_letters(self, which: Which, *, after: int = 0, limit: int) -> list[StoredLetter]:
        """Read them by their numbers."""
        return await self._read(partial(operate.dead_letters, which=which, after=after, limit=limit))

    async def count_dead_letters(self, which: Which) -> int:
        """Look through them."""
        return await self._read(partial(operate.count_dead_letters, which=which))

    async def replay(self, numbers: Iterable[int], *, now: float) -> int:
        """Replay slice by slice."""
        return sum([await self._slice(partial(operate.replay, numbers=some, now=now)) for some in slices(numbers)])

    async def drop(self, numbers: Iterable[int]) -> int:
        """Drop slice by slice."""
        return sum(
            [await self._slice(partial(operate.drop, numbers=some, reason="operator")) for some in slices(numbers)]
        )

    async def move(self, lane: Lane, to: Lane, *, now: float) -> int:
        """Move slice by slice."""
        return await self._until_done(partial(operate.move, lane=lane, to=to, now=now))

    async def drop_lane(self, lane: Lane, *, now: float) -> int:
        """Drop slice by slice."""
        dropped = await self._until_done(partial(operate.drop_lane, lane=lane, now=now))
        self._recollection.doubt()
        return dropped

    async def forget(self, identity: str) -> Forgotten:
        """Look through all events in a reader, and drop what was found; what is deleted is overwritten as well."""
        name = identity.encode(errors="surrogatepass")
        memory = await self._slice(partial(sent.forget_sent, identity=identity))
        waiting = dead_letters = 0
        after: int | None = 0
        while after is not None:
            found, after = await self._read(partial(operate.find, identity=name, after=after))
            for some in slices(found):
                forgotten = await self._slice(partial(operate.forget, identity=name, numbers=some))
                waiting, dead_letters = waiting + forgotten[0], dead_letters + forgotten[1]
        journal = await self._until_done(partial(forget_entries, identity=identity))
        self._recollection.doubt()
        await self._writer.empty_log()
        return Forgotten(waiting, dead_letters, journal, memory)

    async def _until_done(self, work: Work[int]) -> int:
        """Do slice after slice, until one is not full; return the sum of them."""
        total = 0
        while done := await self._slice(work):
            total += done
            if done < SLICE:
                break
        return total

    async def _slice(self, work: Work[T]) -> T:
        """Do one slice of a longer work, and rest: SQLite lets in who asks just then, not who has waited longest."""
        result = await self._write(work, Transaction.DURABLE)
        await asyncio.sleep(REST_SECONDS)
        return result

    async def levels(self) -> list[Level]:
        """Read the counts that are kept, and the first of each by age."""
        return await self._read(tables.levels)

    async def installation(self) -> str:
        """Read what was made up when the file was made."""
        return await self._read(tables.installation)

    async def books(self) -> dict[str, Book]:
        """Read the totals."""
        return await self._read(tables.books)

    async def days(self) -> dict[str, dict[str, int]]:
        """Read the counts."""
        return await self._read(tables.days)

    async def trace(self, identity: str, *, limit: int, now: float) -> list[Trace]:
        """Look the journal through from its end."""
        return await self._read(partial(trace, identity=identity, limit=limit, now=now))

    async def usage(self) -> Usage:
        """Measure the pages in use, and the disk."""
        return await self._read(self._measure)

    async def _read(self, work: Work[T]) -> T:
        """What *work* finds in tables that know of everything put before."""

        def look(database: Database) -> tuple[T] | None:
            return None if putting.keeps_some(database) else (work(database),)

        if (found := await self._reader.run(look, Transaction.READ)) is not None:
            return found[0]
        await self._writer.run(self._spread, Transaction.LIGHT)
        return await self._reader.run(work, Transaction.READ)

    async def _write(self, work: Work[T], transaction: Transaction) -> T:
        """Carry out *work* on tables that know of everything put before."""

        def spread_first(database: Database) -> T:
            self._spread(database)
            return work(database)

        return await self._writer.run(spread_first, transaction)

    # In the threads.

    def _keep(self, database: Database, put: Put) -> bool:
        if kept := putting.keep(database, put):
            self._room.take(put)
        return kept

    def _put(self, database: Database, put: Put) -> tuple[Edition, dict[Who, Sent | None]]:
        disk_bytes = free_bytes(self._path)
        result = putting.put(database, put, bounds=self._bounds, disk_bytes=disk_bytes)
        self._room.measure(tables.storage_in_use(database), disk_bytes)
        return result

    def _spread(self, database: Database) -> None:
        if putting.spread(database, bounds=self._bounds):
            self._room.measure(tables.storage_in_use(database), free_bytes(self._path))

    def _measure(self, database: Database) -> Usage:
        used, obstacle = tables.storage_in_use(database), ""
        try:
            putting.require_reserve(database, free_bytes(self._path))
        except OutboxFull as full:
            obstacle = str(explain(self._path, full))
        return Usage(used, self._bounds.max_bytes, obstacle)

    def _own(self) -> Database:
        find_file(self._path)  # no folder or lock is made where no file can be
        make_folder(self._path.parent)
        self._lock.take()
        return open_owned(self._path)
