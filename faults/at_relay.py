"""Faults of the relay's own process and of the machine it runs on."""

import asyncio
import random
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

from faults.fault import EVERY, Risk
from faults.stage import Stage

# The long form shares 500 among the outboxes.
KILLS = {"short": 8, "long": 500 // len(EVERY)}
STOPS = {"short": 3, "long": 20}
# A life lasts up to so many seconds after its start.
LIFE_SECONDS = 1.5
DAY_SECONDS = 86_400
# More callers than the relay has files left for.
IDLE_CALLERS = 50
# Address space beyond what was mapped when memory ran out.
ROOM_BYTES = 2**20


@asynccontextmanager
async def killed(stage: Stage) -> AsyncIterator[None]:
    """One SIGKILL after the other, each at another moment of a life."""
    for _ in range(KILLS[stage.form]):
        await asyncio.sleep(random.uniform(0, LIFE_SECONDS))
        await stage.kill()
        await stage.relay.start()
    stage.notes.append(f"{KILLS[stage.form]} kills")
    yield


@asynccontextmanager
async def terminated(stage: Stage) -> AsyncIterator[None]:
    """Stopped in order under load, and started again, time after time."""
    for _ in range(STOPS[stage.form]):
        await asyncio.sleep(random.uniform(0, LIFE_SECONDS))
        code = await stage.relay.end()
        if code:
            stage.notes.append(f"exit code {code}")
        await stage.relay.start()
    failed = [call for call in stage.traffic.calls if call.failed and not call.refused]
    stage.notes.append(f"{STOPS[stage.form]} stops; of the calls that a relay had taken {len(failed)} failed")
    yield


@asynccontextmanager
async def paused(stage: Stage) -> AsyncIterator[None]:
    """The process stands still."""
    stage.relay.send(signal.SIGSTOP)
    yield
    stage.relay.send(signal.SIGCONT)


@asynccontextmanager
async def clock_jumps(stage: Stage, days: int) -> AsyncIterator[None]:
    """The wall clock is wrong by so many days."""
    stage.preload().set(wall_ahead=days * DAY_SECONDS)
    yield
    stage.preload().set(wall_ahead=0)


@asynccontextmanager
async def files_exhausted(stage: Stage) -> AsyncIterator[None]:
    """It may open no file more than it has, and more callers connect than it can accept."""
    pid, port = stage.relay.pid, int(stage.url.rpartition(":")[2])
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(list(Path(f"/proc/{pid}/fd").iterdir())), limits[1]))
    with ExitStack() as callers:
        for _ in range(IDLE_CALLERS):
            callers.enter_context(socket.create_connection(("127.0.0.1", port)))
        yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@asynccontextmanager
async def memory_exhausted(stage: Stage) -> AsyncIterator[None]:
    """It may map next to nothing more, while answers of 1 MB come; where it dies of that it is started again."""
    pid = stage.relay.pid
    limits = resource.prlimit(pid, resource.RLIMIT_AS)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM_BYTES, limits[1]))
    reviving = asyncio.create_task(revive(stage))
    await stage.flagsmith.tell("fail", "large")
    yield
    await stage.flagsmith.tell("recover")
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_AS, limits)
    if not stage.at_risk:
        reviving.cancel()
    with suppress(asyncio.CancelledError):
        await reviving


async def revive(stage: Stage) -> None:
    """Start the relay again once it has died, as whoever runs it does."""
    await stage.relay.ended()
    ended = time.monotonic()
    stage.at_risk.append(Risk(ended - stage.commit_seconds, ended))
    stage.notes.append("it died, and was started again")
    await stage.relay.start()


@asynccontextmanager
async def memory_limited(stage: Stage) -> AsyncIterator[None]:
    """In the bounds that its scene sets, capture is given more than it may hold."""
    await stage.heap.tell("stop")
    await stage.flagsmith.tell("fail", "large")
    yield
    await stage.flagsmith.tell("recover")
    await stage.heap.tell("start")
    if stage.group:
        stage.notes.append(f"at most {stage.group.peak / 1e6:,.0f} of {stage.scene.memory / 1e6:,.0f} MB in use")


@asynccontextmanager
async def rubbish(stage: Stage) -> AsyncIterator[None]:
    """What is written in the file's place is noticed, and later it is all that a new relay finds."""
    stage.relay.config.write_text("listen: [this, is: no\n\tYAML \0")
    await asyncio.sleep(2)  # it looks every second
    await stage.relay.end()
    await stage.relay.start()
    yield
    stage.restore_settings()
