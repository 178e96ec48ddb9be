"""An environment's daily cap, in a whole relay between Flagsmith and Heap."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
from structlog.testing import capture_logs

from relay.app import Relay, running
from relay.last_good import open_file
from relay.model import Book, Clock
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID, settings, write
from tests.test_app import identify

# 2026-11-24 12:00 UTC
NOON = 1_795_521_600.0
DAY = 86400.0
CONSEQUENCES = {"stop": "events are skipped until midnight UTC", "alert": "none, daily_cap.then is alert"}


class Today:
    """A clock that goes on from a noon, so that no test runs over midnight; it may be put forward and back."""

    def __init__(self) -> None:
        self._ahead = NOON - time.time()

    def wall(self) -> float:
        return time.time() + self._ahead

    def turn(self, seconds: float) -> None:
        self._ahead += seconds


@pytest.fixture
def today() -> Today:
    return Today()


class StartCapped(Protocol):
    """Starts a relay whose only environment may bring so many *events* a day, and has *more* rules."""

    def __call__(
        self, events: int, then: str = "stop", *, more: dict[str, Any] | None = None, **changes: Any
    ) -> AbstractAsyncContextManager[Relay]: ...


@pytest.fixture
def start_capped(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path, today: Today) -> StartCapped:
    @asynccontextmanager
    async def start(
        events: int, then: str = "stop", *, more: dict[str, Any] | None = None, **changes: Any
    ) -> AsyncIterator[Relay]:
        rules = {"daily_cap": {"events": events, "then": then}, **(more or {})}
        content = settings(flagsmith, heap, defaults=rules, **changes)
        file = open_file(write(tmp_path, content), {})
        async with running(file.loaded.config, file=file, clock=Clock(today.wall)) as relay:
            yield relay

    return start


async def ask(http: aiohttp.ClientSession, relay: Relay, times: int) -> Book:
    """The books after so many calls, each committed before the next."""
    for number in range(times):
        await identify(http, relay, f"user-{number}")
        await relay.parts.capture.drained()
    return (await relay.outbox.books())["tests"]


async def test_a_cap_that_stops_lets_so_many_events_through_and_every_flag(
    start_capped: StartCapped, http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    async with start_capped(3) as relay:
        book = await ask(http, relay, 5)
        await heap.wait_for_events(3)
        [trace] = await relay.outbox.trace("user-4", limit=9, now=NOON)

    assert (book.captured, book.skipped) == (5, {"over_cap": 2})
    assert [event.identity for event in heap.stored(APP_ID)] == ["user-0", "user-1", "user-2"]
    assert (trace.verdict.send, trace.verdict.reason, trace.key) == (False, "over_cap", "")


async def test_a_cap_that_alerts_skips_nothing(
    start_capped: StartCapped, http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    async with start_capped(3, "alert") as relay:
        book = await ask(http, relay, 5)
        await heap.wait_for_events(5)

    assert book.skipped == {}


@pytest.mark.parametrize("then", ["stop", "alert"])
async def test_it_is_said_once_before_the_cap_and_once_at_it(
    start_capped: StartCapped, http: aiohttp.ClientSession, then: str
) -> None:
    with capture_logs() as logs:
        async with start_capped(5, then) as relay:
            await ask(http, relay, 7)

    said = [line for line in logs if line["event"].startswith("cap.")]
    assert [(line["event"], line["events"]) for line in said] == [("cap.approached", 4), ("cap.reached", 5)]
    assert said[1] == {
        "event": "cap.reached",
        "log_level": "warning",
        "environment": "tests",
        "day": "2026-11-24",
        "events": 5,
        "cap": 5,
        "consequence": CONSEQUENCES[then],
    }


async def test_the_next_day_begins_at_nothing_and_tells_what_the_last_one_skipped(
    start_capped: StartCapped, http: aiohttp.ClientSession, today: Today
) -> None:
    async with start_capped(2) as relay:
        await ask(http, relay, 5)
        today.turn(DAY)
        with capture_logs() as logs:
            relay.parts.capture.commits.daily_cap.look()
        book = await ask(http, relay, 3)

    [lifted] = [line for line in logs if line["event"] == "cap.lifted"]
    assert (lifted["day"], lifted["skipped"]) == ("2026-11-24", 3)
    assert book.skipped == {"over_cap": 4}


async def test_a_clock_that_goes_back_gives_no_day_a_second_cap(
    start_capped: StartCapped, http: aiohttp.ClientSession, today: Today
) -> None:
    async with start_capped(2) as relay:
        await ask(http, relay, 2)
        today.turn(-DAY)
        await ask(http, relay, 2)
        today.turn(DAY)
        book = await ask(http, relay, 1)

    assert book.skipped == {"over_cap": 1}


async def test_the_count_goes_on_after_a_restart(start_capped: StartCapped, http: aiohttp.ClientSession) -> None:
    async with start_capped(3) as relay:
        await ask(http, relay, 2)

    async with start_capped(3) as relay:
        book = await ask(http, relay, 2)

    assert book.skipped == {"over_cap": 1}


async def test_another_cap_holds_at_once(
    start_capped: StartCapped,
    http: aiohttp.ClientSession,
    flagsmith: StandInFlagsmith,
    heap: StandInHeap,
    tmp_path: Path,
) -> None:
    async with start_capped(1) as relay:
        await ask(http, relay, 2)
        before = relay.config_state

        write(tmp_path, settings(flagsmith, heap, defaults={"daily_cap": {"events": 3, "then": "stop"}}))
        relay.look_at_file()
        async with asyncio.timeout(10):
            while relay.config_state == before:
                await asyncio.sleep(0.01)
        book = await ask(http, relay, 3)

    assert book.skipped == {"over_cap": 2}


async def test_events_that_could_not_be_stored_do_not_count(
    start_capped: StartCapped, http: aiohttp.ClientSession
) -> None:
    """An empty outbox of this size has no room for one."""
    async with start_capped(1, outbox={"url": "memory://", "max_bytes": "1KiB"}) as relay:
        book = await ask(http, relay, 3)

    assert book.refused == {"outbox_full": 3}


async def test_how_near_it_is_stands_on_the_admin_port(start_capped: StartCapped, http: aiohttp.ClientSession) -> None:
    async with start_capped(4) as relay:
        await ask(http, relay, 3)
        await relay.parts.figures.refresh()
        async with http.get(relay.admin_url + "/status.json") as answer:
            status = await answer.json()
        async with http.get(relay.admin_url + "/status.txt") as answer:
            text = await answer.text()

    assert status["environments"][0]["daily_cap"] == {"events": 4, "then": "stop", "today": 3}
    assert "  cap     3 of 4 events today (75%), then the rest of the day is skipped" in text
    assert relay.registry.get_sample_value("relay_daily_cap_ratio", {"environment": "tests"}) == 0.75


async def test_a_change_that_a_cap_kept_back_is_still_news_afterwards(
    start_capped: StartCapped, http: aiohttp.ClientSession, today: Today
) -> None:
    """Also where the same answer came twice."""
    async with start_capped(1, more={"send": "on_change"}) as relay:
        await ask(http, relay, 2)
        book = await ask(http, relay, 2)
        today.turn(DAY)
        await identify(http, relay, "user-1")
        await relay.parts.capture.drained()
        [newest, *_] = await relay.outbox.trace("user-1", limit=9, now=NOON)

    assert book.skipped == {"over_cap": 2, "unchanged": 1}
    assert newest.verdict.reason == "first_seen"
