"""Relays and Redis are killed at random moments: what was answered is in Heap, and each event is there once."""

import asyncio
import random
from collections.abc import Iterable
from contextlib import AsyncExitStack
from time import monotonic

import aiohttp

from tests.conftest import APP_ID
from tests.fleet.conftest import Fleet
from tests.fleet.members import Members
from tests.fleet.traffic import Traffic

PROXIES = ("one", "two", "three")
# Of relays, one after the other; and how long each then has to do something, in seconds.
KILLS = 6
LIFE = 0.7
# What a Redis may lose that flushes every second (redis.io/docs/latest/operate/oss_and_stack/management/persistence).
LOST_SECONDS = 2.0


async def delivered(fleet: Fleet, answered: Iterable[str]) -> None:
    """Return once Heap has all that was answered: half a lease is enough, as nothing waits for the end of one."""
    async with asyncio.timeout(30):
        while missing := set(answered) - {event.identity for event in fleet.heap.stored(APP_ID)}:
            assert missing
            await asyncio.sleep(0.1)


async def test_kills_lose_nothing_and_repeat_nothing(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    """Redis has on its disk what it answered for (appendfsync always); what it cannot take waits in files."""
    async with AsyncExitStack() as stack, fleet.member("sender", "sender"):
        proxies = Members(fleet, "proxy", PROXIES, stack, spool="sqlite:///spool.db")
        for name in PROXIES:
            await proxies.start(name)
        traffic = Traffic(http, proxies.urls)
        async with traffic.flowing():
            for number in range(KILLS):
                await asyncio.sleep(random.uniform(0, LIFE))
                if number % 3 == 2:
                    fleet.redis.kill()
                    await asyncio.sleep(random.uniform(0, LIFE))
                    fleet.redis.start()
                else:
                    await proxies.kill(PROXIES[number % 3])
                    await proxies.start(PROXIES[number % 3])
        await delivered(fleet, traffic.answered)

    stored = [event.identity for event in fleet.heap.stored(APP_ID)]
    assert len(traffic.answered) > 100
    assert len(stored) == len(set(stored))
    assert fleet.heap.violations == []


async def test_a_killed_redis_that_flushes_every_second_loses_its_last_two_at_most(
    fleet: Fleet, http: aiohttp.ClientSession
) -> None:
    """And repeats nothing: what it forgot to have been delivered goes again under the same key."""
    with fleet.redis.client() as operator:
        operator.config_set("appendfsync", "everysec")
    async with fleet.member("one") as relay:
        traffic = Traffic(http, lambda: [relay.url])
        async with traffic.flowing():
            began = monotonic()
            while monotonic() < began + 2 * LOST_SECONDS:
                await asyncio.sleep(random.uniform(0, LIFE))
            killed = monotonic()
            fleet.redis.kill()
            await asyncio.sleep(random.uniform(0, LIFE))
            fleet.redis.start()
            await asyncio.sleep(random.uniform(0, LIFE))
        safe = [name for name, at in traffic.answered.items() if not killed - LOST_SECONDS <= at <= killed]
        await delivered(fleet, safe)

    stored = [event.identity for event in fleet.heap.stored(APP_ID)]
    assert len(safe) > 50
    assert len(stored) == len(set(stored))
