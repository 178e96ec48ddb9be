"""The SQLite file: made privately, owned by one relay, visited by guests, migrated, and never taken from others."""

import asyncio
import fcntl
import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from relay.errors import OutboxError, OutboxInUse, OutboxOutdated
from relay.model import Attempt, Book, Lane, Level
from relay.outbox import Put
from relay.outbox.bookkeeping import identity_fingerprint
from relay.outbox.owner import find_owner
from relay.outbox.schema import MIGRATIONS, migrate, recognise
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import LANE, NOON, ROOMY, events, opened
from tests.tracing import traced


def sqlite_outbox(path: Path, *, guest: bool = False) -> SqliteOutbox:
    return SqliteOutbox(path, max_bytes=ROOMY, dead_letter_share=0.25, guest=guest)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


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
        await outbox.put(Put(events(1)))

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
        await outbox.put(Put(put := events(3)))
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
            await outbox.put(Put(events(1)))


async def test_the_owner_can_be_asked_for_without_becoming_it(tmp_path: Path) -> None:
    lock = tmp_path / "outbox.db.lock"
    assert find_owner(lock) is None
    async with opened(sqlite_outbox(tmp_path / "outbox.db")):
        assert f"process id {os.getpid()} on host" in str(find_owner(lock))

    assert find_owner(lock) is None
    async with opened(sqlite_outbox(tmp_path / "outbox.db")):
        pass


async def test_a_relay_that_starts_while_somebody_looks_for_the_owner_is_not_refused(tmp_path: Path) -> None:
    lock, outbox = tmp_path / "outbox.db.lock", sqlite_outbox(tmp_path / "outbox.db")
    with lock.open("w") as guest:
        fcntl.flock(guest, fcntl.LOCK_SH)
        opening = asyncio.create_task(outbox.open())
        while opened_times(lock) < 2 and not opening.done():  # until the relay has it open, too
            await asyncio.sleep(0)

    await opening
    await outbox.close()


def opened_times(path: Path) -> int:
    """How often this process has the file open."""
    return sum(os.path.realpath(each) == str(path) for each in Path("/proc/self/fd").iterdir())


# Visiting it.


async def test_a_guest_works_beside_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as owner, opened(sqlite_outbox(path, guest=True)) as guest:
        await owner.put(Put(events(1)))
        await guest.put(Put(events(1)))

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
        assert re.search(r"outbox\.db was written by a newer relay \(its version is 6, this relay knows 5\)", said)

    assert path.read_bytes() == before


async def test_a_file_of_an_older_version_is_migrated_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(2)))

    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate(database, [*MIGRATIONS, "ALTER TABLE events ADD COLUMN mood TEXT DEFAULT 'calm'"])

        assert recognise(database) == len(MIGRATIONS) + 1
        assert database.execute("SELECT mood FROM events").fetchall() == [("calm",), ("calm",)]


VERSION_1 = """
INSERT INTO lanes VALUES (7, 'https://heapanalytics.com', '1111111111', 3), (8, 'https://heapanalytics.com', '2', 1);
INSERT INTO events VALUES
    (1, '1', 'production', 7, 'ada', 1800000000.0, X'7B7D'),
    (2, '2', 'production', 7, 'bob', 1799999999.0, X'7B207D'),
    (3, '3', 'staging', 7, 'ada', 1800000000.0, X'7B7D'),
    (4, '4', 'production', 8, 'ada', 1800000000.0, X'7B7D'),
    (5, '5', 'production', 7, 'ada', 1800000000.0, X'7B7D'),
    (6, '6', 'production', 7, 'ada', 1800000000.0, X'7B7D');
INSERT INTO waiting SELECT id, lane, environment, captured_at, length(body), id, captured_at, NULL FROM events
    WHERE id < 5;
INSERT INTO dead_letters VALUES
    (5, 'production', 1800000000.0, 'refused_by_heap', 'no', 150), (6, 'production', 1800000000.0, 'expired', '', 150);
INSERT INTO books VALUES
    ('production', 'captured', '', 9), ('production', 'delivered', '', 4), ('production', 'waiting', '', 3),
    ('production', 'dead_letters', '', 2), ('staging', 'captured', '', 1), ('staging', 'waiting', '', 1);
"""


async def test_all_that_a_file_of_version_1_holds_is_there_after_its_migration(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate(database, MIGRATIONS[:1])
        database.executescript(VERSION_1)

    async with opened(sqlite_outbox(path)) as outbox:
        assert await outbox.books() == {
            "production": Book(9, delivered=4, waiting=3, dead_letters={"refused_by_heap": 1, "expired": 1}),
            "staging": Book(1, waiting=1),
        }
        assert set(await outbox.levels()) == {
            Level(LANE, "production", 2, 5, NOON - 1),
            Level(LANE, "staging", 1, 2, NOON),
            Level(Lane("https://heapanalytics.com", "2"), "production", 1, 2, NOON),
        }
        lease = await outbox.claim(LANE, limit=9, max_bytes=9999, now=NOON, lease=60)
        assert [(one.event.identity, one.event.body, one.attempts) for one in lease.claims] == [
            ("bob", b"{ }", 2),
            ("ada", b"{}", 1),
            ("ada", b"{}", 3),
        ]


VERSION_2 = """
INSERT INTO lanes VALUES (7, 'https://heapanalytics.com', '1111111111');
INSERT INTO events VALUES (4, '4', 'production', 7, 'ada', 1800000000.0, X'7B7D');
INSERT INTO waiting VALUES (4, 7, 'production', 1800000000.0, 2, 3, 1800000005.0, NULL);
INSERT INTO levels VALUES (7, 'production', 1, 2);
INSERT INTO books VALUES ('production', 'captured', '', 1), ('production', 'waiting', '', 1);
INSERT INTO properties VALUES (1, '{}');
INSERT INTO states VALUES (1, 99, 1);
INSERT INTO meta VALUES ('journal_key', X'00'), ('installation', 'ours');
INSERT INTO journal (id, who, environment, at, method, send, reason, state, key) VALUES
    (4, -1, 'production', 1800000000.0, 'GET', 1, 'every_call', 1, '4');
"""


async def test_all_that_a_file_of_version_2_holds_is_there_after_its_migration(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate(database, MIGRATIONS[:2])
        database.execute("DELETE FROM meta WHERE name IN ('journal_key', 'installation')")
        database.executescript(VERSION_2)
        database.execute("UPDATE journal SET who = ?", (identity_fingerprint(b"\0", "ada"),))

    async with opened(sqlite_outbox(path)) as outbox:
        assert await outbox.remembered() == {}
        (found,) = await outbox.trace("ada", limit=9, now=NOON)
        assert (found.place, found.due, found.unchanged, found.unchanged_at) == ("waiting", NOON + 5, 0, None)
        lease = await outbox.claim(LANE, limit=9, max_bytes=9999, now=NOON + 5, lease=60)
        assert [(one.event.identity, one.event.body, one.attempts) for one in lease.claims] == [("ada", b"{}", 3)]


async def test_a_file_of_version_3_keeps_the_last_answer_to_each_event(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        migrate(database, MIGRATIONS[:2])
        database.execute("DELETE FROM meta WHERE name IN ('journal_key', 'installation')")
        database.executescript(VERSION_2)
        migrate(database, MIGRATIONS[:3])
        who = identity_fingerprint(b"\0", "ada")
        database.execute("UPDATE journal SET who = ?, attempts = 7, unchanged = 2", (who,))
        database.execute("UPDATE journal SET answer = 'busy 503', answered_at = ?", (NOON + 0.25,))
        database.execute(
            "INSERT INTO journal (id, who, environment, at, method, send, reason, state, key)"
            " SELECT 5, who, environment, at, method, send, reason, state, '5' FROM journal"
        )

    async with opened(sqlite_outbox(path)) as outbox:
        newer, older = await outbox.trace("ada", limit=9, now=NOON)

    assert (newer.attempts, newer.answers, newer.unchanged) == (0, (), 0)
    assert (older.attempts, older.answers, older.unchanged) == (7, (Attempt(int(NOON), "busy 503"),), 2)


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

    advice = "move it away together with its -wal file, if it has one, or name another file in outbox.url"
    assert said == f"the outbox {path} is not a SQLite file (file is not a database); {advice}"
    assert path.read_bytes() == b"rubbish" * 5000


@pytest.mark.parametrize("guest", [False, True])
@pytest.mark.parametrize("path", [Path("/"), Path("/dev/full"), Path("/proc")])
async def test_what_is_no_file_is_refused_and_nothing_is_left_beside_it(path: Path, guest: bool) -> None:
    before = names(path.parent)

    assert await refusal(path, guest=guest) == f"the outbox {path} is not a file; name another in outbox.url"
    assert f"{path.name}.lock" not in names(path.parent) - before


@pytest.mark.parametrize("guest", [False, True])
@pytest.mark.parametrize("name", ["circle", "circle/outbox.db"])
async def test_a_link_that_leads_in_a_circle_is_named(tmp_path: Path, name: str, guest: bool) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")

    said = await refusal(tmp_path / name, guest=guest)

    assert re.match(r"the outbox .* cannot be opened \(Too many levels of symbolic links\); check outbox\.url", said)
    assert names(tmp_path) == {"circle"}


async def test_a_guest_names_a_path_that_no_file_can_have(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    said = await refusal(tmp_path / "file" / "outbox.db", guest=True)

    assert re.search(r"outbox\.db cannot be opened \(Not a directory\); check outbox\.url", said)


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
from relay.outbox import Put
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import event

async def main():
    outbox = SqliteOutbox(Path(sys.argv[1]), max_bytes=2**30, dead_letter_share=0.25)
    await outbox.open()
    number = 0
    while True:
        await outbox.put(Put([event(key=f"{number:036x}"), event(key=f"{number + 1:036x}")]))
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


def copy_as_killed(path: Path, folder: Path, copied: int) -> Path:
    """What a kill leaves after *copied* bytes of the log were copied into the file: SQLite copies in order of pages."""
    folder.mkdir()
    shutil.copy(path.with_name("outbox.db-wal"), folder)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint")
    (folder / path.name).write_bytes(path.read_bytes()[:copied])
    return folder / path.name


@pytest.mark.parametrize("copied", [4096, 8192, 65536])
@pytest.mark.parametrize("guest", [False, True])
async def test_a_file_that_a_kill_left_half_copied_is_whole_again_with_its_log(
    tmp_path: Path, copied: int, guest: bool
) -> None:
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(events(50, size=1000)))
        killed = copy_as_killed(path, tmp_path / "killed", copied)

    async with opened(sqlite_outbox(killed, guest=guest)) as outbox:
        assert await outbox.books() == {"production": Book(captured=50, waiting=50)}


async def test_another_programs_database_is_left_alone_when_it_is_half_copied_too(tmp_path: Path) -> None:
    made = tmp_path / "outbox.db"
    with closing(sqlite3.connect(made, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA user_version = 7")
        database.execute("CREATE TABLE theirs (value TEXT)")
        database.execute("INSERT INTO theirs VALUES (hex(zeroblob(50000)))")
        path = copy_as_killed(made, tmp_path / "killed", 4096)
    log = path.with_name("outbox.db-wal")
    before = path.read_bytes(), log.read_bytes()

    said = await refusal(path)

    assert said == f"the outbox {path} is another program's database; name another file in outbox.url"
    assert (path.read_bytes(), log.read_bytes()) == before


# Power cuts.

PUTS_AND_CLAIMS = """
import asyncio, os, sys
from pathlib import Path
from relay.outbox import Put
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import LANE, NOON, events

async def main():
    outbox = SqliteOutbox(Path(sys.argv[1]), max_bytes=2**30, dead_letter_share=0.25)
    await outbox.open()
    for _ in range(3):
        os.write(1, b"PUT")
        await outbox.put(Put(events(2)))
        os.write(1, b"CLAIM")
        await outbox.claim(LANE, limit=9, max_bytes=10**6, now=NOON, lease=60)
    os.write(1, b"END")
    await outbox.close()

asyncio.run(main())
"""


def test_a_put_is_flushed_to_the_disk_before_it_returns_and_a_claim_need_not_be(tmp_path: Path) -> None:
    """Seen from the outside: which system calls are made between the marks."""
    trace = traced(tmp_path, "fdatasync,fsync,write", PUTS_AND_CLAIMS, str(tmp_path / "outbox.db"))

    calls = re.findall(r'"(PUT|CLAIM|END)"|(f(?:data)?sync)\(', trace)
    words = "".join("." if sync else word[0] for word, sync in calls)
    assert re.search(r"P\.+CP\.+CP\.+CE", words), words
