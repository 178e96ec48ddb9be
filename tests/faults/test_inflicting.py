"""The faults of the system are really met: each is inflicted on a small process, or on a real file."""

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from faults.at_storage import tear
from faults.fault import NotRun
from faults.shim import Shim, build
from tests.lacking import lacking

FAR = 1_000.0


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("shim"))
    except NotRun as reason:
        lacking(str(reason))


@pytest.fixture
def shim(library: Path, tmp_path: Path) -> Shim:
    return Shim(library, tmp_path, rate=1.0)


def run(shim: Shim, code: str) -> str:
    """What a process under *shim* prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=shim.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def test_without_a_fault_nothing_is_different(shim: Shim, tmp_path: Path) -> None:
    said = run(
        shim,
        f"""
        import os, socket, time
        file = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT)
        os.pwrite(file, b"x", 0), os.fsync(file), socket.getaddrinfo("localhost", 1)
        print(abs(time.time() - os.stat(file).st_mtime) < 60)
        """,
    )

    assert said == "True"


def test_the_wall_clock_jumps_and_the_other_does_not(shim: Shim) -> None:
    code = "import time; print(time.time(), time.monotonic())"
    wall, monotonic = map(float, run(shim, code).split())

    shim.set(wall_ahead=-FAR)

    later, tick = map(float, run(shim, code).split())
    assert -FAR <= later - wall < 60 - FAR
    assert 0 <= tick - monotonic < 60


def test_a_fast_clock_is_fast_for_who_waits_as_well(library: Path, tmp_path: Path) -> None:
    shim = Shim(library, tmp_path, rate=FAR)
    code = """
        import asyncio, time
        began = time.monotonic()
        asyncio.run(asyncio.sleep(600))
        print(time.monotonic() - began)
        """

    assert float(run(shim, code)) >= 600


@pytest.mark.parametrize(
    ("fault", "act", "error"),
    [
        ("flush_fails", "os.fsync(file)", "EIO"),
        ("flush_fails", "os.fdatasync(file)", "EIO"),
        ("read_only", "os.pwrite(file, b'x', 0)", "EROFS"),
    ],
)
def test_a_disk_fails_as_told(shim: Shim, tmp_path: Path, fault: str, act: str, error: str) -> None:
    shim.set(**{fault: 1.0})

    said = run(
        shim,
        f"""
        import errno, os
        file = os.open({str(tmp_path / "file")!r}, os.O_RDWR | os.O_CREAT)
        try:
            {act}
        except OSError as failure:
            print(errno.errorcode[failure.errno])
        """,
    )

    assert said == error


def test_no_name_is_resolved(shim: Shim) -> None:
    shim.set(nameless=1.0)

    said = run(
        shim,
        """
        import socket
        try:
            socket.getaddrinfo("localhost", 1)
        except socket.gaierror as failure:
            print(failure.errno == socket.EAI_AGAIN)
        """,
    )

    assert said == "True"


def test_an_address_in_digits_needs_no_name(shim: Shim) -> None:
    shim.set(nameless=1.0)

    said = run(shim, "import socket; print(socket.getaddrinfo('127.0.0.1', 1, type=socket.SOCK_STREAM)[0][4])")

    assert said == "('127.0.0.1', 1)"


def test_a_torn_log_has_lost_its_last_commit_and_nothing_else(tmp_path: Path) -> None:
    """The log is in its second round, so that behind its last frame there are valid ones of the first."""
    path, copy = tmp_path / "a.db", tmp_path / "b.db"
    with closing(plain(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE numbers (number INTEGER)")
        for number in range(20):
            database.execute("INSERT INTO numbers VALUES (?)", (number,))
        database.execute("PRAGMA wal_checkpoint(RESTART)")
        for number in range(20, 25):
            database.execute("INSERT INTO numbers VALUES (?)", (number,))
        copy.write_bytes(path.read_bytes())
        Path(f"{copy}-wal").write_bytes(Path(f"{path}-wal").read_bytes())

    tear(Path(f"{copy}-wal"))

    with closing(plain(copy)) as database:
        assert [number for (number,) in database.execute("SELECT number FROM numbers")] == list(range(24))


def plain(path: Path) -> sqlite3.Connection:
    """Each statement is a transaction of its own."""
    return sqlite3.connect(path, isolation_level=None)
