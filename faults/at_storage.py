"""Faults of the disk that holds the outbox's file."""

import asyncio
import os
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from faults.fault import Risk
from faults.stage import COMMIT_SECONDS, Stage, run

# Bytes of SQLite's log before its first frame, and of each frame before its page
# (sqlite.org/fileformat2.html#the_write_ahead_log).
WAL_HEADER, FRAME_HEADER = 32, 24
HANG_SECONDS = 1.0
BLOCK = bytes(2**16)


@asynccontextmanager
async def disk_full(stage: Stage) -> AsyncIterator[None]:
    """Somebody else takes all that is left."""
    ballast = stage.data / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:  # until the disk takes no more
        while file.write(BLOCK):
            pass
    yield
    ballast.unlink()


@asynccontextmanager
async def read_only(stage: Stage) -> AsyncIterator[None]:
    """Every write into the open files fails, as after the system's own remount of a disk with errors."""
    stage.preload().set(read_only=1)
    yield
    stage.preload().set(read_only=0)


@asynccontextmanager
async def started_read_only(stage: Stage) -> AsyncIterator[None]:
    """The relay dies, its disk is remounted, and a new relay starts; later the disk is writable again."""
    await stage.kill()
    run("mount", "-o", "remount,ro", str(stage.data))
    await stage.relay.start()
    yield
    run("mount", "-o", "remount,rw", str(stage.data))


@asynccontextmanager
async def flush_fails(stage: Stage) -> AsyncIterator[None]:
    """No fsync succeeds."""
    stage.preload().set(flush_fails=1)
    yield
    stage.preload().set(flush_fails=0)


@asynccontextmanager
async def torn(stage: Stage) -> AsyncIterator[None]:
    """A flush hangs, then power goes, and of the commit that it was for half a page is on the disk."""
    began = time.monotonic()
    stage.preload().set(flush_hangs=1)
    await asyncio.sleep(HANG_SECONDS)
    await stage.kill()
    stage.at_risk.append(Risk(began - COMMIT_SECONDS, stage.at_risk[-1].ended))
    stage.preload().set(flush_hangs=0)
    stage.notes.append(tear(stage.data / "outbox.db-wal"))
    await stage.relay.start()
    yield


def tear(log: Path) -> str:
    """Cut SQLite's log in the middle of its last written frame; say what was done.

    A log is written from its start again once it was copied into the file: what lies behind the frames that bear the
    header's salt is of a former round.
    """
    content = log.read_bytes()
    page = struct.unpack_from(">I", content, 8)[0]
    salt, size = content[16:24], FRAME_HEADER + page
    frames = 0
    while content[(at := WAL_HEADER + frames * size) + 8 : at + 16] == salt and at + size <= len(content):
        frames += 1
    os.truncate(log, WAL_HEADER + max(0, frames - 1) * size + FRAME_HEADER + page // 2)
    return f"the log was cut in its frame {frames:,}"
