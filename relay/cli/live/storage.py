"""The outbox: whether its file can be opened or made, how fast and how large its disk is, and who runs on it."""

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from relay.build import spool_bytes
from relay.cli.live.finding import Finding, Result, failure, milliseconds
from relay.cli.live.limits import in_thread, limited
from relay.cli.live.shared import probe_redis
from relay.config import OutboxConfig
from relay.errors import OutboxError, OutboxOutdated
from relay.outbox.faults import explain
from relay.outbox.files import find_file, free_bytes, open_as_guest
from relay.outbox.owner import find_owner
from relay.outbox.putting import RESERVE_BYTES

# What is written at once: a page of SQLite's.
PAGE = bytes(4096)
# A commit waits for one flush. Slower than this, in seconds, and a burst fills `capture.memory` before it is stored.
SLOW_ABOVE = 0.1
HUNG = "see whether the disk is well"

# SQLite's locks and its log need one machine's memory (sqlite.org/useovernet.html).
OVER_THE_NETWORK = {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3"}
# What is gone sooner than a disk.
FLEETING = {"overlay": "the container's own layer, gone with it", "tmpfs": "memory, gone with the machine"}

Look = Callable[[str, Path, OutboxConfig], Finding]


async def probe_outbox(settings: OutboxConfig) -> list[Finding]:
    """Look from all sides at once at what `outbox.url` names, and `outbox.spool` beside it."""
    if settings.redis:
        found = await probe_redis(settings.redis, settings)
        spool = settings.model_copy(update={"max_bytes": spool_bytes(settings)})
        return [*found, *(await _probe_file("spool", spool, spool.spool_path) if spool.spool_path else ())]
    if settings.path is None:
        detail = "memory:// ends with the process, and with it what waits longer than shutdown.drain"
        return [Finding("outbox.file", Result.WARNING, detail, "name a file in outbox.url, unless this is for a try")]
    return await _probe_file("outbox", settings, settings.path)


async def _probe_file(part: str, settings: OutboxConfig, path: Path) -> list[Finding]:
    looks = {"file": _file, "owner": _owner, "disk": _disk, "space": _space, "file_system": _file_system}
    return await asyncio.gather(
        *(
            limited(f"{part}.{name}", in_thread(partial(_look, look, f"{part}.{name}", path, settings)), HUNG)
            for name, look in looks.items()
        )
    )


def _look(look: Look, probe: str, path: Path, settings: OutboxConfig) -> Finding:
    path = Path(os.path.realpath(path))  # as the outbox itself does
    try:
        return look(probe, path, settings)
    except (sqlite3.Error, OSError, OutboxError) as error:
        return failure(probe, explain(path, error))


def _file(probe: str, path: Path, _: OutboxConfig) -> Finding:
    if not find_file(path):
        return Finding(probe, Result.OK, f"{path} is not there yet; `relay run` makes it")
    try:
        open_as_guest(path, read_only=True).close()
    except OutboxOutdated:
        return Finding(probe, Result.OK, f"{path} is an older version's; `relay run` migrates it")
    return Finding(probe, Result.OK, f"{path} can be opened")


def _owner(probe: str, path: Path, _: OutboxConfig) -> Finding:
    owner = find_owner(path.with_name(f"{path.name}.lock"))
    return Finding(probe, Result.OK, f"{owner} runs on it" if owner else "no relay runs on it")


def _disk(probe: str, path: Path, _: OutboxConfig) -> Finding:
    folder = _folder(path)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{path.name}.check-") as file:
        began = time.monotonic()
        file.write(PAGE)
        file.flush()
        os.fsync(file.fileno())
        seconds = time.monotonic() - began
    detail = f"{folder} can be written, and a write is on the disk in {milliseconds(seconds)}"
    if seconds > SLOW_ABOVE:
        return Finding(probe, Result.WARNING, detail, "put the outbox on a faster disk: each commit waits", seconds)
    return Finding(probe, Result.OK, detail, seconds=seconds)


def _space(probe: str, path: Path, settings: OutboxConfig) -> Finding:
    taken = path.stat().st_size if find_file(path) else 0
    free, wanted = free_bytes(_folder(path)), max(0, settings.max_bytes - taken) + RESERVE_BYTES
    detail = f"{_mebibytes(free)} free, and the outbox may need {_mebibytes(wanted)} more"
    if free < wanted:
        return Finding(probe, Result.WARNING, detail, "lower outbox.max_bytes, or give it a larger disk")
    return Finding(probe, Result.OK, detail)


def _file_system(probe: str, path: Path, settings: OutboxConfig) -> Finding:
    return judge(probe, _kind(_folder(path)), ephemeral=settings.ephemeral)


def judge(probe: str, kind: str, *, ephemeral: bool) -> Finding:
    """Whether an outbox may lie on a file system of that *kind*, as Linux calls it."""
    if kind in OVER_THE_NETWORK:
        detail = f"{kind} is reached over the network, where SQLite's locks do not hold"
        return Finding(probe, Result.WARNING, detail, "put the outbox on a disk of this machine")
    if kind in FLEETING and not ephemeral:
        advice = "mount a volume for the outbox, or write outbox.ephemeral: true"
        return Finding(probe, Result.WARNING, f"{kind} is {FLEETING[kind]}", advice)
    return Finding(probe, Result.OK, kind or "not known")


def _kind(folder: Path) -> str:
    """By the device's number (proc_pid_mountinfo(5)); empty where that finds none, or the system is not Linux."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = Path("/proc/self/mountinfo")
    for line in mounts.read_text(errors="replace").splitlines() if mounts.exists() else ():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == number:
            return source.split()[0]
    return ""


def _folder(path: Path) -> Path:
    """The folder of the file, or the first above it that is there: `relay run` makes those below."""
    return next(folder for folder in path.parents if folder.exists())


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
