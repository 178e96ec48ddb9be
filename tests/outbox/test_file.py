"""The SQLite file: made privately, owned by one relay, visited by guests, migrated, and never taken from others."""

import os
import re
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from relay.errors import OutboxError, OutboxInUse, OutboxOutdated
from relay.model import Book
from relay.outbox.owner import find_owner
from relay.outbox.schema import MIGRATIONS, migrate, recognise
from relay.outbox.sqlite import SqliteOutbox
from tests.lacking import lacking
from tests.outbox.boxes import LANE, NOON, ROOMY, events, opened


def sqlite_outbox(path: Path, *, guest: bool = False) -> SqliteOutbox:
    return SqliteOutbox(path, max_bytes=ROOMY, dead_letter_share=0.25, guest=guest)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def refusal(path: Path, *, guest: bool = False) -> str:
    """What `open` says about the file."""
    outbox = sqlite_outbox(path, guest=guest)
    with pytest.raises(OutboxError) as refused:
        await outbox.open()
    await outbox.close()
    return str(refused.value)


# Making it.


async def test_the_folder_and_every_file_are_for_the_relays_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "here" / "outbox.db"

    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(events(1), [], {})

        assert mode(path.parent) == mode(path.parent.parent) == 0o700
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == ["outbox.db", "outbox.db-shm", "outbox.db-wal", "outbox.db.lock"]
        assert {mode(file) for file in files} == {0o600}


async def test_a_file_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.touch(mode=0o644)

    async with opened(sqlite_outbox(path)):
        assert mode(path) == 0o600


async def test_what_was_put_is_there_after_closing_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(put := events(3), [], {})
    assert not path.with_name("outbox.db-wal").exists()

    async with opened(sqlite_outbox(path)) as outbox:
        lease = await outbox.claim(LANE, limit=9, max_bytes=9999, now=NOON, lease=60)

    assert [one.event for one in lease.claims] == put


async def test_an_installation_keeps_its_identity_and_its_key(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    facts = []
    for _ in range(2):
        async with opened(sqlite_outbox(path)):
            with closing(sqlite3.connect(path)) as database:
                facts.append(dict(database.execute("SELECT name, value FROM meta")))

    assert facts[0] == facts[1]
    assert re.fullmatch("[0-9a-f]{32}", facts[0]["installation"])
    assert len(facts[0]["journal_key"]) == 32


async def test_a_closed_outbox_says_so_and_closes_again(tmp_path: Path) -> None:
    outbox = sqlite_outbox(tmp_path / "outbox.db")
    await outbox.open()
    await outbox.close()
    await outbox.close()

    with pytest.raises(OutboxError, match=r"outbox\.db is closed"):
        await outbox.books()


# Owning it.


async def test_a_second_relay_is_told_who_owns_the_file(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)):
        second = sqlite_outbox(path)
        with pytest.raises(OutboxInUse) as refused:
            await second.open()
        await second.close()

    owner = (
        rf"process id {os.getpid()} on host {re.escape(socket.gethostname())} since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    )
    expected = rf"the outbox {re.escape(str(path))} is in use by the relay with {owner}; give each relay its own file"
    assert re.fullmatch(expected, str(refused.value))


async def test_a_second_relay_is_found_by_another_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)):
        (tmp_path / "other").symlink_to(tmp_path)

        assert "is in use" in await refusal(tmp_path / "other" / "outbox.db")


async def test_a_file_is_free_once_its_owner_closed_it(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    for _ in range(2):
        async with opened(sqlite_outbox(path)) as outbox:
            await outbox.put(events(1), [], {})


async def test_the_owner_can_be_asked_for_without_becoming_it(tmp_path: Path) -> None:
    lock = tmp_path / "outbox.db.lock"
    assert find_owner(lock) is None
    async with opened(sqlite_outbox(tmp_path / "outbox.db")):
        assert f"process id {os.getpid()} on host" in str(find_owner(lock))

    assert find_owner(lock) is None
    async with opened(sqlite_outbox(tmp_path / "outbox.db")):
        pass


# Visiting it.


async def test_a_guest_works_beside_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as owner, opened(sqlite_outbox(path, guest=True)) as guest:
        await owner.put(events(1), [], {})
        await guest.put(events(1), [], {})

        assert await owner.books() == await guest.books() == {"production": Book(captured=2, waiting=2)}


async def test_a_guest_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "outbox.db"

    assert await refusal(path, guest=True) == f"the outbox {path} is not there; `relay run` makes it when it starts"
    assert not path.parent.exists()


async def test_a_guest_migrates_no_file(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.touch()

    guest = sqlite_outbox(path, guest=True)
    with pytest.raises(OutboxOutdated, match="is not of this version yet"):
        await guest.open()
    await guest.close()
    assert path.read_bytes() == b""


# Its version.


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)):
        pass
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()

    for guest in (False, True):
        said = await refusal(path, guest=guest)
        assert re.search(r"outbox\.db was written by a newer relay \(its version is 2, this relay knows 1\)", said)

    assert path.read_bytes() == before


async def test_a_file_of_an_older_version_is_migrated_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(events(2), [], {})

    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate(database, [*MIGRATIONS, "ALTER TABLE events ADD COLUMN mood TEXT DEFAULT 'calm'"])

        assert recognise(database) == len(MIGRATIONS) + 1
        assert database.execute("SELECT mood FROM events").fetchall() == [("calm",), ("calm",)]


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as database:
        migrate(database)

        with pytest.raises(sqlite3.OperationalError):
            migrate(database, [*MIGRATIONS, "CREATE TABLE moods (mood TEXT); SELECT * FROM nowhere"])

        assert recognise(database) == len(MIGRATIONS)
        assert not database.execute("SELECT * FROM sqlite_master WHERE name = 'moods'").fetchall()


# What is not an outbox.


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs (value TEXT)")
    before = path.read_bytes()

    said = await refusal(path)

    assert said == f"the outbox {path} is another program's database; name another file in outbox.url"
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(b"rubbish" * 5000)

    said = await refusal(path)

    advice = "move it away, or name another file in outbox.url"
    assert said == f"the outbox {path} is not a SQLite file (file is not a database); {advice}"
    assert path.read_bytes() == b"rubbish" * 5000


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert await refusal(tmp_path) == f"the outbox {tmp_path} is not a file; name another in outbox.url"


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "folder" / "outbox.db"

    assert re.match(
        rf"the outbox {re.escape(str(path))} cannot be opened \(.*\); check outbox\.url", await refusal(path)
    )


# Crashing.

PUTS_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import event

async def main():
    outbox = SqliteOutbox(Path(sys.argv[1]), max_bytes=2**30, dead_letter_share=0.25)
    await outbox.open()
    number = 0
    while True:
        await outbox.put([event(key=f"{number:036x}"), event(key=f"{number + 1:036x}")], [], {})
        number += 2
        print(number, flush=True)

asyncio.run(main())
"""


def put_until_killed(path: Path, after: int) -> int:
    """Kill a process that puts events once *after* puts returned; return how many events it had put by then."""
    with subprocess.Popen([sys.executable, "-c", PUTS_FOR_EVER, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(after)]
        process.kill()
        said += process.stdout.readlines()
    return max(int(line) for line in said if line.endswith(b"\n"))


@pytest.mark.parametrize("after", [1, 20, 200])
async def test_what_was_put_survives_a_kill(tmp_path: Path, after: int) -> None:
    """Everything whose put returned is there, nothing is there in half, and the lock is free."""
    path = tmp_path / "outbox.db"
    returned = put_until_killed(path, after)

    async with opened(sqlite_outbox(path)) as outbox:
        lease = await outbox.claim(LANE, limit=10**6, max_bytes=10**9, now=NOON, lease=60)
        books = await outbox.books()

    stored = [int(one.event.key, 16) for one in lease.claims]
    assert stored == list(range(len(stored)))
    assert len(stored) in {returned, returned + 2}
    assert books == {"production": Book(captured=len(stored), waiting=len(stored))}


# Power cuts.

PUTS_AND_CLAIMS = """
import asyncio, os, sys
from pathlib import Path
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import LANE, NOON, events

async def main():
    outbox = SqliteOutbox(Path(sys.argv[1]), max_bytes=2**30, dead_letter_share=0.25)
    await outbox.open()
    for _ in range(3):
        os.write(1, b"PUT")
        await outbox.put(events(2), [], {})
        os.write(1, b"CLAIM")
        await outbox.claim(LANE, limit=9, max_bytes=10**6, now=NOON, lease=60)
    os.write(1, b"END")
    await outbox.close()

asyncio.run(main())
"""


def test_a_put_is_flushed_to_the_disk_before_it_returns_and_a_claim_need_not_be(tmp_path: Path) -> None:
    """Seen from the outside: which system calls are made between the marks."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=fdatasync,fsync,write", "-o", str(trace)]
    program = [sys.executable, "-c", PUTS_AND_CLAIMS, str(tmp_path / "outbox.db")]
    try:
        traced = subprocess.run([*command, *program], capture_output=True, check=False)
    except FileNotFoundError:
        lacking("strace is not installed")
    if traced.returncode:
        lacking("this user may not trace")

    calls = re.findall(r'"(PUT|CLAIM|END)"|(f(?:data)?sync)\(', trace.read_text())
    words = "".join("." if sync else word[0] for word, sync in calls)
    assert re.search(r"P\.+CP\.+CP\.+CE", words), words
