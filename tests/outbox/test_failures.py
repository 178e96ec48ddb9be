"""A storage that fails says so in one line, loses nothing, and goes on by itself once it works again."""

import asyncio
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relay.errors import OutboxError, OutboxFull
from relay.model import Book, Settlement
from relay.outbox import Put
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import LANE, NOON, ROOMY, events, fill, opened, tried
from tests.outbox.disks import mounted, take_room


def sqlite_outbox(path: Path) -> SqliteOutbox:
    return SqliteOutbox(path, max_bytes=ROOMY, dead_letter_share=0.25)


def spoil(path: Path, table: str) -> None:
    """Damage the first page of *table*."""
    with closing(sqlite3.connect(path)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


async def until_it_works(call: Callable[[], Awaitable[object]]) -> None:
    """Call until no OutboxError is raised."""
    async with asyncio.timeout(10):
        while True:
            try:
                await call()
            except OutboxError:
                await asyncio.sleep(0.05)
            else:
                return


async def count(outbox: SqliteOutbox) -> int:
    lease = await outbox.claim(LANE, limit=10**6, max_bytes=10**9, now=NOON, lease=0)
    return len(lease.claims)


async def deliver_all(outbox: SqliteOutbox) -> int:
    """Claim and settle as the sender does, each event once in vain; return how many were delivered."""
    delivered, now = 0, NOON
    while (lease := await outbox.claim(LANE, limit=1000, max_bytes=750_000, now=now, lease=60)).claims:
        again = {one.id: now + 1 for one in lease.claims if not one.attempts}
        ack = frozenset(one.id for one in lease.claims if one.attempts)
        made = {one.id: [tried()] for one in lease.claims}
        await outbox.settle(lease.token, Settlement(ack=ack, retry=again, attempts=made), now=now)
        delivered, now = delivered + len(ack), now + 1
    return delivered


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "24m") as disk:
        yield disk


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


# A full disk.


async def test_a_full_disk_refuses_new_events_and_takes_them_once_there_is_room(small_disk: Path) -> None:
    async with opened(sqlite_outbox(small_disk / "outbox.db")) as outbox:
        await outbox.put(Put(events(5)))
        ballast = take_room(small_disk, leave=2**20)

        with pytest.raises(OutboxFull, match=r"outbox\.db is full: .* are free on the disk, and .*; free some space"):
            await outbox.put(Put(events(1)))
        await outbox.put(Put(tally={("production", "refused", "outbox_full"): 1}))
        assert re.search(r"outbox\.db is full: .* are free on the disk", (await outbox.usage()).obstacle)

        ballast.unlink()
        await outbox.put(Put(events(5)))
        assert (await outbox.usage()).obstacle == ""
        assert await outbox.books() == {"production": Book(captured=11, waiting=10, refused={"outbox_full": 1})}


@pytest.mark.parametrize("size", [300, 20_000])
async def test_a_relay_that_filled_its_disk_delivers_all_of_it_and_takes_new_events_then(
    small_disk: Path, size: int
) -> None:
    """Claims and settlements are written, too."""
    async with opened(sqlite_outbox(small_disk / "outbox.db")) as outbox:
        take_room(small_disk, leave=16 * 2**20)
        with pytest.raises(OutboxFull):
            await fill(outbox, size, at_once=100)
        waiting = (await outbox.books())["production"].waiting
        assert waiting * size > 2**20

        assert await deliver_all(outbox) == waiting

        await outbox.put(Put(events(10, size=size)))
        assert (await outbox.books())["production"].waiting == 10


async def test_a_disk_without_a_bound_is_never_full(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "0") as disk:
        async with opened(sqlite_outbox(disk / "outbox.db")) as outbox:
            await outbox.put(Put(events(5)))


async def test_a_disk_that_is_full_at_the_start_is_named_and_used_once_there_is_room(small_disk: Path) -> None:
    ballast = take_room(small_disk, leave=0)
    outbox = sqlite_outbox(small_disk / "outbox.db")

    with pytest.raises(OutboxError, match=r"outbox\.db finds no room on the disk"):
        await outbox.open()

    ballast.unlink()
    await until_it_works(lambda: outbox.put(Put(events(5))))
    assert await count(outbox) == 5
    await outbox.close()


FILLS_ITS_LIMIT = """
import asyncio, resource, sys
from pathlib import Path
from relay.errors import OutboxError
from relay.outbox import Put
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import event

async def main():
    outbox = SqliteOutbox(Path(sys.argv[1]), max_bytes=2**30, dead_letter_share=0.25)
    await outbox.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    stored = 0
    try:
        while True:
            await outbox.put(Put([event(size=1000)]))
            stored += 1
    except OutboxError:
        pass
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while True:
        try:
            await outbox.put(Put([event(size=1000)]))
            break
        except OutboxError:
            await asyncio.sleep(0.1)
    print(stored + 1, (await outbox.books())["production"].waiting)
    await outbox.close()

asyncio.run(main())
"""


def test_a_write_that_the_system_refuses_loses_nothing_and_passes(tmp_path: Path) -> None:
    """A quota answers not as a full disk but as an I/O error, after which SQLite needs a new connection."""
    command = [sys.executable, "-c", FILLS_ITS_LIMIT, str(tmp_path / "outbox.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)

    stored, waiting = done.stdout.splitlines()[-1].split()
    assert stored == waiting
    assert int(stored) > 10


# A file that cannot be written.


async def test_a_read_only_disk_is_named_and_used_once_it_can_be_written(small_disk: Path) -> None:
    remount(small_disk, "ro")
    outbox = sqlite_outbox(small_disk / "outbox.db")

    with pytest.raises(OutboxError, match=r"outbox\.db cannot be written .*; let the relay's user write the file"):
        await outbox.open()

    remount(small_disk, "rw")
    await until_it_works(lambda: outbox.put(Put(events(5))))
    await outbox.close()


async def test_a_read_only_file_is_named_and_left_alone(small_disk: Path) -> None:
    path = small_disk / "outbox.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(5)))
    before = path.read_bytes()
    remount(small_disk, "ro")

    outbox = sqlite_outbox(path)
    with pytest.raises(OutboxError, match=r"outbox\.db cannot be written"):
        await outbox.open()
    await outbox.close()

    assert path.read_bytes() == before


# A file that is not what it was.


async def test_a_damaged_file_fails_calls_until_it_is_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(500, size=1000)))
    with path.open("r+b") as file:  # all but the first page, which says that this is an outbox
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))

    outbox = sqlite_outbox(path)
    with pytest.raises(OutboxError, match=r"outbox\.db is damaged .*; move it away together with its -wal file"):
        await fill(outbox, 100)
    assert b"\xa5" * 4096 in path.read_bytes()

    path.rename(tmp_path / "kept.db")
    await until_it_works(lambda: outbox.put(Put(events(1))))
    assert await outbox.books() == {"production": Book(captured=1, waiting=1)}
    await outbox.close()


async def test_a_file_that_is_damaged_while_it_is_open_takes_nothing_more_and_recovers_once_moved_away(
    tmp_path: Path,
) -> None:
    """The writer's cached pages would go on for a while, into what no reader can read."""
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(500, size=1000)))
        await outbox.forget("nobody")  # it empties the log into the file
        await asyncio.to_thread(spoil, path, "books")
        with capture_logs() as logs, pytest.raises(OutboxError, match="is damaged"):
            await outbox.books()

        with pytest.raises(OutboxError, match="is damaged"):
            await outbox.put(Put(events(1)))
        assert [line["event"] for line in logs if line["event"] == "outbox.recovered"] == []

        path.rename(tmp_path / "kept.db")
        (tmp_path / "outbox.db-wal").unlink(missing_ok=True)
        await until_it_works(lambda: outbox.put(Put(events(1))))
        assert await outbox.books() == {"production": Book(captured=1, waiting=1)}


async def test_a_file_replaced_by_rubbish_is_never_written_to_and_a_good_copy_is_taken_up(tmp_path: Path) -> None:
    path, copy, rubbish = tmp_path / "outbox.db", tmp_path / "copy.db", tmp_path / "rubbish"
    rubbish.write_bytes(b"rubbish" * 5000)
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(5)))
    shutil.copy(path, copy)

    async with opened(sqlite_outbox(path)) as outbox:
        assert await count(outbox) == 5
        rubbish.rename(path)
        with capture_logs() as logs, pytest.raises(OutboxError, match=r"outbox\.db is not a SQLite file"):
            await outbox.put(Put(events(1)))
        assert [line["event"] for line in logs] == ["outbox.replaced"]
        assert path.read_bytes() == b"rubbish" * 5000

        copy.rename(path)
        await until_it_works(lambda: outbox.put(Put(events(1))))
        assert await count(outbox) == 6
        assert (await outbox.books())["production"].waiting == 6


def remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name("away.db"))


async def test_a_file_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    """What is written to a deleted file is gone with the process, so a put must not return then."""
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(5)))
        remove(path)

        with capture_logs():
            await outbox.put(Put(events(1)))

        assert path.exists()
        assert await count(outbox) == 1


async def test_a_file_moved_away_takes_along_all_that_was_put_and_leaves_the_next_one_alone(tmp_path: Path) -> None:
    """SQLite keeps the latest changes in a log that goes by the file's name."""
    path, away = tmp_path / "outbox.db", tmp_path / "away.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(5)))
        path.rename(away)

        with capture_logs():
            await outbox.put(Put(events(1)))

        assert await count(outbox) == 1
    async with opened(sqlite_outbox(away)) as moved:
        assert await count(moved) == 5


@pytest.mark.parametrize("how", [remove, move_away])
@pytest.mark.parametrize("first", ["writer", "reader"])
async def test_what_is_put_after_a_file_was_replaced_survives_a_kill_whoever_notices_first(
    tmp_path: Path, how: Callable[[Path], object], first: str
) -> None:
    """Nobody may hold the old file still, and with it the log, when the new one is made."""
    path, killed = tmp_path / "outbox.db", tmp_path / "killed"
    killed.mkdir()
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(5)))
        await outbox.books()
        how(path)

        with capture_logs() as logs:
            if first == "reader":
                with pytest.raises(OutboxError, match="was moved away or replaced"):
                    await outbox.books()
            await outbox.put(Put(events(1)))
            assert (await outbox.books())["production"].waiting == 1
            await outbox.put(Put(events(1)))
        for name in ("outbox.db", "outbox.db-wal"):
            shutil.copy(tmp_path / name, killed)

    assert [line["event"] for line in logs] == ["outbox.replaced"]
    async with opened(sqlite_outbox(killed / "outbox.db")) as outbox:
        assert await count(outbox) == 2


async def test_a_reader_finds_a_good_copy_by_itself(tmp_path: Path) -> None:
    """There may be nothing to write until somebody has read."""
    path, copy = tmp_path / "outbox.db", tmp_path / "copy.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(5)))
    shutil.copy(path, copy)

    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(1)))
        await outbox.books()
        copy.rename(path)

        with capture_logs():
            await until_it_works(outbox.books)

        assert (await outbox.books())["production"].waiting == 5


async def test_rubbish_beside_the_log_of_a_killed_relay_is_never_written_to(tmp_path: Path) -> None:
    path, log = tmp_path / "outbox.db", tmp_path / "outbox.db-wal"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(5)))
        left_behind = log.read_bytes()
    path.write_bytes(b"rubbish" * 5000)
    log.write_bytes(left_behind)

    outbox = sqlite_outbox(path)
    with pytest.raises(OutboxError, match=r"outbox\.db is not a SQLite file"):
        await outbox.open()
    await outbox.close()

    assert path.read_bytes() == b"rubbish" * 5000
    assert log.read_bytes() == left_behind


async def test_the_log_of_a_file_that_was_moved_away_after_a_kill_is_kept(tmp_path: Path) -> None:
    path, log = tmp_path / "outbox.db", tmp_path / "outbox.db-wal"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(5)))
        left_behind = log.read_bytes()
    move_away(path)
    log.write_bytes(left_behind)

    outbox = sqlite_outbox(path)
    with pytest.raises(OutboxError, match=r"is not there, but its log outbox\.db-wal is; bring the file back"):
        await outbox.open()

    assert log.read_bytes() == left_behind
    log.rename(tmp_path / "away.db-wal")
    await until_it_works(lambda: outbox.put(Put(events(1))))
    await outbox.close()


# Waiting for a file.


async def test_a_storage_that_failed_is_not_asked_again_at_every_call(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"rubbish")
    outbox = sqlite_outbox(path)
    with pytest.raises(OutboxError) as first:
        await outbox.open()

    path.unlink()
    with pytest.raises(OutboxError) as second:
        await outbox.put(Put(events(1)))

    assert str(first.value) == str(second.value)
    await until_it_works(lambda: outbox.put(Put(events(1))))
    await outbox.close()


async def test_status_never_waits_for_a_commit(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(1)))
        guest = sqlite3.connect(path, isolation_level=None)
        guest.execute("BEGIN IMMEDIATE")
        put = asyncio.create_task(outbox.put(Put(events(1))))

        async with asyncio.timeout(1):
            await outbox.books()
            await outbox.levels()
            await outbox.usage()
            await outbox.peek(LANE, limit=1, max_bytes=1, now=NOON)

        assert not put.done()
        guest.execute("COMMIT")
        guest.close()
        await put
        assert await count(outbox) == 2
