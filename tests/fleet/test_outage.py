"""Redis goes away and comes back: flags go on, and every event reaches Heap once."""

import asyncio
import os
import re
import signal
from time import time

import aiohttp
import pytest
from structlog.testing import capture_logs

from relay.app import OPEN_SECONDS, Relay
from tests.conftest import APP_ID
from tests.fleet.conftest import Fleet
from tests.test_app import identify

SPOOLS = pytest.mark.parametrize("spool", [None, "sqlite:///spool.db"], ids=["memory", "sqlite"])


async def until_all_are_delivered(fleet: Fleet, names: list[str]) -> None:
    """Each of them once."""
    await fleet.heap.wait_for_events(len(names), within=30)
    assert sorted(str(event.identity) for event in fleet.heap.stored(APP_ID)) == sorted(names)


def spooled(relay: Relay) -> int:
    assert relay.parts.spool
    return relay.parts.spool.kept.total()


@SPOOLS
async def test_a_redis_that_was_killed_costs_nothing(
    fleet: Fleet, http: aiohttp.ClientSession, spool: str | None
) -> None:
    async with fleet.member("one", spool=spool) as relay:
        await identify(http, relay, "before")
        fleet.redis.kill()
        for number in range(20):
            await identify(http, relay, f"during-{number}")
        assert spooled(relay) == 20

        fleet.redis.start()
        await identify(http, relay, "after")
        await until_all_are_delivered(fleet, ["before", *(f"during-{number}" for number in range(20)), "after"])

        assert spooled(relay) == 0
        await relay.parts.capture.drained()
        book = (await relay.outbox.books())["tests"]
        assert (book.captured, book.refused) == (22, {})


async def test_a_redis_that_hangs_costs_nothing(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    async with fleet.member("one") as relay:
        await identify(http, relay, "before")
        os.kill(fleet.redis.process.pid, signal.SIGSTOP)
        try:
            for number in range(5):
                await identify(http, relay, f"during-{number}")
            assert spooled(relay) == 5
        finally:
            os.kill(fleet.redis.process.pid, signal.SIGCONT)

        await until_all_are_delivered(fleet, ["before", *(f"during-{number}" for number in range(5))])


async def test_flags_do_not_wait_for_a_redis_that_hangs(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    """The answer after the commit waits for nothing; what waits is the capture."""
    async with fleet.member("one", commit="after_answer") as relay:
        await identify(http, relay, "before")
        os.kill(fleet.redis.process.pid, signal.SIGSTOP)
        try:
            await asyncio.gather(*(identify(http, relay, f"during-{number}") for number in range(20)))
            assert relay.parts.capture.counts.at_risk >= 20
        finally:
            os.kill(fleet.redis.process.pid, signal.SIGCONT)


async def test_a_relay_starts_while_redis_is_away(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    fleet.redis.kill()
    async with fleet.member("one") as relay:
        await identify(http, relay, "ada")
        assert spooled(relay) == 1

        fleet.redis.start()
        await until_all_are_delivered(fleet, ["ada"])


async def test_a_relay_that_starts_while_redis_hangs_answers_before_that_does(
    fleet: Fleet, http: aiohttp.ClientSession
) -> None:
    os.kill(fleet.redis.process.pid, signal.SIGSTOP)
    try:
        with capture_logs() as logs:
            async with fleet.member("one") as relay:
                await identify(http, relay, "ada")
                assert spooled(relay) == 1
    finally:
        os.kill(fleet.redis.process.pid, signal.SIGCONT)

    [unavailable] = [line for line in logs if line["event"] == "outbox.unavailable"]
    assert unavailable["detail"] == f"no answer within {OPEN_SECONDS:g} s; see whether it is well"


async def test_a_spool_in_a_file_outlives_its_relay(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    fleet.redis.kill()
    async with fleet.member("one", spool="sqlite:///spool.db") as relay:
        await identify(http, relay, "ada")

    fleet.redis.start()
    async with fleet.member("one", spool="sqlite:///spool.db"):
        await until_all_are_delivered(fleet, ["ada"])


async def test_a_spool_in_memory_is_emptied_before_its_relay_ends(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    """As far as shutdown.drain allows."""
    fleet.redis.kill()
    async with fleet.member("one", "proxy") as relay:
        await identify(http, relay, "ada")
        relay.stop()
        fleet.redis.start()

    async with fleet.member("two", "sender"):
        await until_all_are_delivered(fleet, ["ada"])


async def test_a_spool_that_cannot_be_opened_costs_nothing_while_redis_is_there(
    fleet: Fleet, http: aiohttp.ClientSession
) -> None:
    with capture_logs() as logs:
        async with fleet.member("one", spool="sqlite:////proc/no/spool.db") as relay:
            await identify(http, relay, "ada")
            await until_all_are_delivered(fleet, ["ada"])

    [unavailable] = [line for line in logs if line["event"] == "outbox.unavailable"]
    assert unavailable["consequence"] == "events are lost while the outbox is away"
    assert "check outbox.spool" in unavailable["detail"]


async def test_a_redis_without_memory_is_one_that_is_away(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    async with fleet.member("one") as relay:
        await identify(http, relay, "before")
        with fleet.redis.client() as operator:
            operator.config_set("maxmemory", "1mb")
            await identify(http, relay, "during")
            assert spooled(relay) == 1
            operator.config_set("maxmemory", "0")

        await until_all_are_delivered(fleet, ["before", "during"])


async def test_a_sender_tells_why_its_redis_takes_no_writes(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    async with fleet.member("sender", "sender") as sender:
        with fleet.redis.client() as operator:
            operator.replicaof("127.0.0.1", "1")
        async with asyncio.timeout(10):
            while "FAILING" not in (told := await status_text(http, sender)):
                await asyncio.sleep(0.1)
        with fleet.redis.client() as operator:
            operator.replicaof("NO", "ONE")

    assert re.search(r"FAILING: Redis at .* is a replica, which takes no writes", told)


async def status_text(http: aiohttp.ClientSession, relay: Relay) -> str:
    async with http.get(f"{relay.admin_url}/status.txt") as answer:
        return await answer.text()


async def test_who_was_forgotten_does_not_come_back_out_of_a_spool(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    fleet.redis.kill()
    async with fleet.member("one", spool="sqlite:///spool.db") as relay:
        for name in ("ada", "bob"):
            await identify(http, relay, name)
    fleet.redis.start()
    async with fleet.member("other") as other:
        await other.outbox.forget("ada")

    async with fleet.member("one", spool="sqlite:///spool.db") as relay:
        await until_all_are_delivered(fleet, ["bob"])
        await identify(http, relay, "ada")
        await until_all_are_delivered(fleet, ["ada", "bob"])

        await relay.parts.capture.drained()
        book = (await relay.outbox.books())["tests"]
        assert (book.captured, book.dropped) == (3, {"forgotten": 1})
        assert len(await relay.outbox.trace("ada", limit=9, now=time())) == 1
