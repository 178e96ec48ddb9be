"""While the remote outbox is away its events wait beside it, whole and in order, and are moved over when it is back."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.errors import OutboxError, OutboxFull
from relay.model import Event, Sent
from relay.outbox import Outbox, Put
from relay.outbox.memory import MemoryOutbox
from relay.outbox.spool import TOGETHER, Spool
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import (
    NOON,
    OTHER_LANE,
    ROOMY,
    book,
    claim,
    dead_letter,
    event,
    events,
    make_outbox,
    noted,
    opened,
    sent,
    taken,
)
from tests.outbox.disks import mounted, take_room

SKIPPED = {("production", "skipped", "empty"): 2}


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[SqliteOutbox]:
    folder = tmp_path / "remote"
    folder.mkdir()
    async with opened(
        SqliteOutbox(folder / "outbox.db", max_bytes=ROOMY, dead_letter_share=0.25, journal_entries=9)
    ) as box:
        yield box


@pytest.fixture
def storage(backend: str, tmp_path: Path) -> Outbox:
    return make_outbox(backend, tmp_path)


@asynccontextmanager
async def spooling(remote: Outbox, storage: Outbox, *, patience: float = 5.0) -> AsyncIterator[Spool]:
    """A spool at work."""
    spool = Spool(remote, storage, patience=patience)
    await spool.open()
    running = asyncio.create_task(spool.run())
    try:
        yield spool
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await spool.close()


@contextmanager
def away(tmp_path: Path) -> Iterator[None]:
    """The remote's file is somewhere else meanwhile, and nothing can be made in its place."""
    file = tmp_path / "remote" / "outbox.db"
    elsewhere = [(one, one.with_name(f"away-{one.name}")) for one in file.parent.glob("outbox.db*")]
    for one, other in elsewhere:
        one.rename(other)
    file.mkdir()
    yield
    file.rmdir()
    for one, other in elsewhere:
        other.rename(one)


async def emptied(spool: Spool) -> None:
    async with asyncio.timeout(10):
        await spool.emptied()


async def fill(spool: Spool) -> list[Event]:
    """What it took until it took no more."""
    kept: list[Event] = []
    with suppress(OutboxFull):
        while put := events(5, size=1000):
            await spool.put(Put(put))
            kept += put
    assert kept
    return kept


async def keys(outbox: Outbox) -> list[str]:
    return [one.key for one in taken(await claim(outbox))]


async def test_what_the_remote_takes_is_kept_nowhere_else(remote: SqliteOutbox, storage: Outbox) -> None:
    async with spooling(remote, storage) as spool:
        await spool.put(Put(events(3), tally=SKIPPED))

        assert (await book(remote)).captured == 5
        assert await storage.levels() == []
        await emptied(spool)


async def test_events_wait_in_the_spool_while_the_remote_is_away_and_are_moved_over_in_order(
    remote: SqliteOutbox, storage: Outbox, tmp_path: Path
) -> None:
    """Keys and time stamps stay, whatever the order of their moments."""
    puts = [[event(NOON + later), event(NOON - 9)] for later in (3, 1, 2)]
    async with spooling(remote, storage) as spool:
        with away(tmp_path), capture_logs() as logs:
            for put in puts:
                await spool.put(Put(put))
            assert +spool.kept == {"production": 6}
            assert spool.size > 0
        await emptied(spool)

        assert +spool.kept == {}
        assert spool.size == 0
        assert [line["event"] for line in logs if line["event"].startswith("spool.")] == ["spool.begun"]
        moved = sorted(taken(await claim(remote, NOON + 10)), key=lambda one: one.key)
        assert moved == sorted((one for put in puts for one in put), key=lambda one: one.key)
        assert (await book(remote)).waiting == 6
        assert await storage.levels() == []


async def test_all_of_a_put_is_moved_over(remote: SqliteOutbox, storage: Outbox, tmp_path: Path) -> None:
    """The journal, what was sent last, dead letters and the counts that came along, too."""
    [one] = events(1)
    async with spooling(remote, storage) as spool:
        with away(tmp_path):
            await spool.put(Put([one], [dead_letter()], SKIPPED, [noted(one)], sent(one, state=7)))
        await emptied(spool)

        found = await book(remote)
        assert (found.captured, found.waiting, found.dead_letters, found.skipped) == (
            *(4, 1),
            {"identity_too_long": 1},
            {"empty": 2},
        )
        assert await remote.recall({("production", "ada")}) == {("production", "ada"): Sent(7, NOON)}
        [trace] = await remote.trace("ada", limit=9, now=NOON)
        assert trace.key == one.key


async def test_what_was_sent_through_the_spool_is_known_while_the_remote_is_away(
    remote: SqliteOutbox, storage: Outbox, tmp_path: Path
) -> None:
    """Otherwise each answer would be news for as long as the outage lasts."""
    before, during = event(identity="ada"), event(identity="bob")
    ada, bob, eve = (("production", name) for name in ("ada", "bob", "eve"))
    async with spooling(remote, storage) as spool:
        await spool.put(Put([before], coalescing=sent(before, state=1)))
        with away(tmp_path):
            await spool.put(Put([during], coalescing=sent(during, state=2)))

            assert await spool.recall({ada, bob, eve}) == {ada: Sent(1, NOON), bob: Sent(2, NOON)}


async def test_a_full_remote_is_one_that_is_away(storage: Outbox) -> None:
    remote = MemoryOutbox(max_bytes=2_000, dead_letter_share=0.25)
    async with spooling(remote, storage) as spool:
        first, second = events(1, size=600, lane=OTHER_LANE), events(1, size=900)
        await spool.put(Put(first))
        await spool.put(Put(second))
        assert +spool.kept == {"production": 1}

        await remote.drop_lane(OTHER_LANE, now=NOON)
        await emptied(spool)

        assert await keys(remote) == [second[0].key]


async def test_a_remote_whose_disk_is_full_is_one_that_is_away(backend: str, tmp_path: Path) -> None:
    storage = make_outbox(backend, tmp_path)
    with mounted(tmp_path / "disk", "24m") as disk:
        remote = SqliteOutbox(disk / "outbox.db", max_bytes=ROOMY, dead_letter_share=0.25)
        async with opened(remote), spooling(remote, storage) as spool:
            ballast = take_room(disk, leave=2**20)
            put = events(3)
            await spool.put(Put(put))
            assert +spool.kept == {"production": 3}

            ballast.unlink()
            await emptied(spool)

            assert await keys(remote) == [one.key for one in put]


async def test_a_remote_that_does_not_answer_in_time_is_one_that_is_away(
    remote: SqliteOutbox, storage: Outbox, tmp_path: Path
) -> None:
    """What it was asked it may do all the same, later: the keys make it one."""
    put = events(3)
    async with spooling(remote, storage, patience=0.1) as spool:
        with closing(sqlite3.connect(tmp_path / "remote" / "outbox.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await spool.put(Put(put))
            assert spool.problem == "the outbox did not answer within 0.1 s; see whether it is well"
            other.execute("ROLLBACK")
        await emptied(spool)

        assert await keys(remote) == [one.key for one in put]
        assert (await book(remote)).captured == 3


class Choosy(MemoryOutbox):
    """Fails once for each of *refused*, and remembers what it was asked to take."""

    refused: set[str]
    asked: list[str]

    async def put(self, put: Put) -> None:
        [one] = put.events
        self.asked.append(one.key)
        if one.key in self.refused:
            self.refused.remove(one.key)
            raise OutboxError("not now")
        await super().put(put)


async def test_of_several_that_are_moved_over_together_only_what_failed_goes_again(storage: Outbox) -> None:
    remote = Choosy(max_bytes=ROOMY, dead_letter_share=0.25)
    put = events(3 * TOGETHER)
    remote.refused, remote.asked = {put[TOGETHER].key}, []
    async with opened(storage), opened(remote):
        spool = Spool(remote, storage)
        for one in put:
            spool.problem = "it is away"
            await spool.put(Put([one]))

        running = asyncio.create_task(spool.run())
        await emptied(spool)
        running.cancel()
        await asyncio.wait({running})

    assert sorted(remote.asked) == sorted([*(one.key for one in put), put[TOGETHER].key])
    assert (await book(remote)).captured == len(put)


async def test_a_spool_has_its_bound(remote: SqliteOutbox, backend: str, tmp_path: Path) -> None:
    """What does not fit is refused, and told by its reason; what is kept stays."""
    storage = make_outbox(backend, tmp_path, max_bytes=400_000)
    async with spooling(remote, storage) as spool:
        with away(tmp_path):
            kept = await fill(spool)
            assert +spool.kept == {"production": len(kept)}
        await emptied(spool)

        assert await keys(remote) == [one.key for one in kept]


async def test_what_the_spool_lacks_is_not_said_of_the_outbox(
    remote: SqliteOutbox, backend: str, tmp_path: Path
) -> None:
    async with spooling(remote, make_outbox(backend, tmp_path, max_bytes=100)) as spool:
        with away(tmp_path), pytest.raises(OutboxFull, match=r"^the spool .*is full"):
            await spool.put(Put(events(1, size=1000)))


async def test_a_spool_that_cannot_be_opened_names_the_setting_to_change(remote: SqliteOutbox, tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(b"no database" * 1000)

    with pytest.raises(OutboxError, match=r"^the spool .*outbox\.db is not .* in outbox\.spool$"):
        await Spool(remote, make_outbox("sqlite", tmp_path)).open()


async def test_counts_alone_wait_in_the_capture_while_the_remote_is_away(
    remote: SqliteOutbox, storage: Outbox, tmp_path: Path
) -> None:
    """They come every second, and would fill the spool in a long outage."""
    async with spooling(remote, storage) as spool:
        with away(tmp_path):
            for _ in range(2):
                with pytest.raises(OutboxError, match="counts alone wait until the outbox is back"):
                    await spool.put(Put(tally=SKIPPED))
        await emptied(spool)

        await spool.put(Put(tally=SKIPPED))
        assert (await book(remote)).captured == 2


async def test_a_file_keeps_it_for_the_next_process(remote: SqliteOutbox, tmp_path: Path) -> None:
    put = events(3)
    with away(tmp_path):
        async with spooling(remote, make_outbox("sqlite", tmp_path)) as spool:
            await spool.put(Put(put, tally=SKIPPED))
        async with spooling(remote, make_outbox("sqlite", tmp_path)) as spool:
            assert +spool.kept == {"production": 5}
            assert spool.size > 0
    async with spooling(remote, make_outbox("sqlite", tmp_path)) as spool:
        await emptied(spool)

    assert await keys(remote) == [one.key for one in put]
    assert (await book(remote)).captured == 5


async def test_what_a_kill_left_in_the_counts_is_gone_once_the_spool_is_empty(
    remote: SqliteOutbox, tmp_path: Path
) -> None:
    """An entry and its counts go in two commits."""
    storage = make_outbox("sqlite", tmp_path)
    async with opened(storage):
        await storage.put(Put(tally={("production", "skipped", "spooled"): 7}))

    async with spooling(remote, make_outbox("sqlite", tmp_path)) as spool:
        await emptied(spool)
        assert +spool.kept == {}
    async with spooling(remote, make_outbox("sqlite", tmp_path)) as spool:
        assert +spool.kept == {}


async def test_a_spool_that_fails_at_first_is_looked_into_once_it_works(remote: SqliteOutbox, tmp_path: Path) -> None:
    file, put = tmp_path / "outbox.db", events(3)
    with away(tmp_path):
        async with spooling(remote, make_outbox("sqlite", tmp_path)) as spool:
            await spool.put(Put(put))
    file.rename(tmp_path / "elsewhere")
    file.mkdir()

    spool = Spool(remote, make_outbox("sqlite", tmp_path))
    with pytest.raises(OutboxError):
        await spool.open()
    running = asyncio.create_task(spool.run())
    file.rmdir()
    (tmp_path / "elsewhere").rename(file)
    await emptied(spool)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await spool.close()

    assert await keys(remote) == [one.key for one in put]
    assert spool.size == 0
