"""Faults of the Redis that a fleet shares: proxies keep what comes meanwhile, and senders go on when it is back."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faults.at_relay import LIFE_SECONDS
from faults.fault import EVERYSEC, REPLICATED, Risk
from faults.redis import is_linked, is_master, until
from faults.stage import COMMIT_SECONDS, Stage

KILLS = {"short": 2, "long": 10}
# What was put in so many seconds before its end, Redis may lose with appendfsync everysec, or with a replica that was
# behind (docs/fleet.md). It was answered before that.
LAST_SECONDS = 2.0
# So long Heap is away, for something to wait.
GATHER_SECONDS = 3.0


@asynccontextmanager
async def killed(stage: Stage) -> AsyncIterator[None]:
    """Ended by SIGKILL and started again, time after time, and at last away for long."""
    server = stage.redis.master
    for number in range(KILLS[stage.form]):
        await asyncio.sleep(random.uniform(0, LIFE_SECONDS))
        await kill(stage)
        await asyncio.sleep(random.uniform(0, LIFE_SECONDS))
        if number < KILLS[stage.form] - 1:
            await server.start()
    yield
    await server.start()
    stage.notes.append(f"{KILLS[stage.form]} kills")


@asynccontextmanager
async def paused(stage: Stage) -> AsyncIterator[None]:
    """It is there and does not answer."""
    stage.redis.master.send(signal.SIGSTOP)
    yield
    stage.redis.master.send(signal.SIGCONT)


@asynccontextmanager
async def failed_over(stage: Stage) -> AsyncIterator[None]:
    """The master dies, its replica takes over, and later the old one is there again, as a replica of the new one."""
    master, replica = stage.redis.master, stage.redis.replica
    if replica is None:
        raise RuntimeError("the fault's store has no replica")
    await kill(stage)
    began = time.monotonic()
    await until(lambda: is_master(replica))
    stage.notes.append(f"the replica took over after {time.monotonic() - began:.1f} s")
    yield
    await master.start()
    await until(lambda: is_linked(master))


@asynccontextmanager
async def flushed(stage: Stage) -> AsyncIterator[None]:
    """FLUSHALL, while events wait for a Heap that is away."""
    await stage.heap.tell("stop")
    await asyncio.sleep(GATHER_SECONDS)
    keys = [key async for key in stage.redis.master.client().scan_iter("*:events")]
    async with stage.redis.master.client() as client, client.pipeline(transaction=True) as together:
        for key in keys:
            together.hlen(key)
        together.flushall()
        *held, _ = await together.execute()
    stage.at_risk.append(Risk(0.0, time.monotonic(), sum(held)))
    stage.notes.append(f"{sum(held):,} events waited in it")
    await stage.heap.tell("start")
    yield


async def kill(stage: Stage) -> None:
    """End it at once; what its store may lose by that is at risk."""
    ended = time.monotonic()
    await stage.redis.master.kill()
    if stage.store in {EVERYSEC, REPLICATED}:
        stage.at_risk.append(Risk(ended - LAST_SECONDS - COMMIT_SECONDS, ended))
