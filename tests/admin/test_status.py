"""The status is made from a reading, and tells nobody's name and opens no door."""

import asyncio
import json
from typing import Any

import aiohttp

from relay.admin.status import status_of
from relay.core.settle import Answer, Kind
from relay.core.status import ErrorStatus
from relay.model import Lane
from relay.outbox import Put
from relay.sandbox.heap import Reply, StandInHeap
from relay.sender import LaneState
from tests.admin.conftest import LANE, Watched, event
from tests.conftest import APP_ID, CLIENT_KEY, StartRelay
from tests.test_app import identify

OTHER = Lane("https://c.eu.heap-api.com", "22")
PATHS = ("/", "/status.json", "/status.txt", "/metrics")


async def test_books_lane_and_history_of_an_environment(watched: Watched) -> None:
    answer = Answer(Kind.BUSY, 503, at=999.0)
    watched.lanes.append(LaneState(LANE, "paused", 990.0, 1040.0, answer, answer, 3, 0.25))
    await watched.figures.refresh()
    await watched.outbox.put(Put([event(1, 900.0), event(2, 950.0)], tally={("tests", "skipped", "empty"): 3}))
    watched.capture.counts.captured["tests"], watched.capture.counts.in_hand["tests"] = 6, 1
    await watched.figures.refresh()

    [found] = status_of(watched.figures.reading, now=1000.0, kind="memory").environments

    assert (found.captured, found.waiting, found.in_hand, found.difference) == (6, 2, 1, 0)
    assert (found.skipped, found.oldest) == ({"empty": 3}, 900.0)
    assert found.history.captured[-1] == 5
    assert found.lane is not None
    assert (found.lane.standing, found.lane.status, found.lane.kind, found.lane.failures) == ("paused", 503, "busy", 3)
    assert found.lane.sentence == "Heap answers 503 since 00:16 UTC, 2 events waiting, next try in 40 s"


async def test_the_last_error_is_told_after_heap_recovered(watched: Watched) -> None:
    good, bad = Answer(Kind.DELIVERED, 200, at=999.0), Answer(Kind.REFUSED, 400, path="events[0].identity", at=990.0)
    watched.lanes.append(LaneState(LANE, "open", None, None, good, bad, 0, 0.25))
    await watched.figures.refresh()

    [found] = status_of(watched.figures.reading, now=1000.0, kind="memory").environments

    assert found.lane is not None
    assert (found.lane.kind, found.lane.answered_at) == ("delivered", 999.0)
    assert found.lane.last_error == ErrorStatus(400, "refused", "events[0].identity", 990.0)


async def test_events_of_an_app_that_nobody_names_are_orphans(watched: Watched) -> None:
    await watched.outbox.put(Put([event(1), event(2, 800.0, "old", OTHER), event(3, 900.0, "older", OTHER)]))
    await watched.figures.refresh()

    found = status_of(watched.figures.reading, now=1000.0, kind="memory")

    [orphan] = found.orphans
    assert (orphan.heap, orphan.events, orphan.oldest, orphan.environments) == (OTHER.url, 2, 800.0, ["old", "older"])
    assert [each.name for each in found.environments] == ["tests", "old", "older"]


async def test_a_lane_does_not_count_what_waits_for_the_app_that_the_environment_had_before(watched: Watched) -> None:
    """It is no trouble of this lane's, and goes nowhere until somebody moves it."""
    watched.lanes.append(LaneState(LANE, "open", None, None, None, None, 0, 0.0))
    await watched.outbox.put(Put([event(1, lane=OTHER), event(2, lane=OTHER)]))
    await watched.figures.refresh()

    [found] = status_of(watched.figures.reading, now=1000.0, kind="memory").environments

    assert found.lane is not None
    assert (found.waiting, found.lane.sentence) == (2, "nothing waits; 2 events left for an app it had before")


async def test_an_environment_that_is_gone_is_told_while_something_of_it_is_left(watched: Watched) -> None:
    watched.figures.environments = {}
    await watched.outbox.put(Put([event(1)], tally={("empty", "skipped", "empty"): 3}))
    await watched.figures.refresh()

    [found] = status_of(watched.figures.reading, now=1000.0, kind="memory").environments

    assert (found.name, found.lane) == ("tests", None)


async def test_the_json_has_the_documented_shape(
    start_relay: StartRelay, http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    async with start_relay() as relay:
        await identify(http, relay, "ada")
        await heap.wait_for_events(1)
        async with asyncio.timeout(10):
            while (told := await get(http, relay.admin_url))["totals"]["delivered"] == 0:
                await asyncio.sleep(0.05)

    assert list(told) == [
        *("version", "started_at", "now", "ready", "config", "outbox", "environments", "orphans", "totals"),
        *("role", "members"),
    ]
    assert list(told["config"]) == ["digest", "loaded_at", "stale", "mistakes", "needs_restart", "last_good"]
    assert list(told["outbox"]) == ["kind", "bytes", "capacity", "oldest", "problem", "read_at"]
    [environment] = told["environments"]
    assert list(environment) == [
        *("name", "captured", "delivered", "superseded", "waiting", "in_hand", "difference"),
        *("skipped", "refused", "dropped", "dead_letters", "oldest", "history", "lane", "daily_cap", "forecast"),
    ]
    assert [len(minutes) for minutes in environment["history"].values()] == [60, 60]
    assert list(environment["forecast"]) == ["send", "observed", "at_most", "every_call", "on_change", "verdicts"]
    assert list(environment["forecast"]["on_change"]) == [
        *("a_day", "a_month", "busiest_minute", "of_limit", "of_share"),
    ]
    assert list(environment["lane"]) == [
        *("heap", "standing", "sentence", "since", "until", "status", "kind", "at", "answered_at", "used", "failures"),
        "last_error",
    ]


async def get(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(f"{url}/status.json") as answer:
        assert answer.status == 200
        return await answer.json()


async def test_nobodys_name_no_key_and_no_app_is_on_the_admin_port(
    start_relay: StartRelay, http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    """Not even where Heap's own words repeat one."""
    heap.fail_always(Reply(403, f"app {APP_ID} may not tell of ada-lovelace".encode()))
    async with start_relay() as relay:
        await identify(http, relay, "ada-lovelace")
        async with asyncio.timeout(10):
            while "held" not in await text(http, f"{relay.admin_url}/status.txt"):
                await asyncio.sleep(0.05)
        said = {path: await text(http, relay.admin_url + path) for path in PATHS}

    assert "held" in said["/status.json"]
    for path, words in said.items():
        assert not [secret for secret in ("ada-lovelace", CLIENT_KEY, APP_ID, "may not tell") if secret in words], path


async def text(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as answer:
        return await answer.text()


async def test_a_broken_outbox_is_told_and_delays_nobody(start_relay: StartRelay, http: aiohttp.ClientSession) -> None:
    async with start_relay(outbox={"url": "sqlite:////proc/no/such/outbox.db"}) as relay, asyncio.timeout(10):
        while not (problem := json.loads(await text(http, f"{relay.admin_url}/status.json"))["outbox"]["problem"]):
            await asyncio.sleep(0.05)

        assert "/proc/no/such" in problem
        assert "relay_outbox_failing 1.0" in await text(http, f"{relay.admin_url}/metrics")
