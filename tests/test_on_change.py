"""Sending on change, and only the latest: in a whole relay between Flagsmith and Heap."""

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest

from relay.app import Relay
from relay.model import Book
from relay.sandbox.faults import Reply
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.cli.backlog import relay_command
from tests.conftest import APP_ID, CLIENT_KEY, StartRelay, settings, write
from tests.processes import relay_process
from tests.test_app import identify
from tests.test_process import identify as identify_at


class StartWith(Protocol):
    """Starts a relay whose only environment has *rules*."""

    def __call__(self, **rules: Any) -> AbstractAsyncContextManager[Relay]: ...


def environment(heap: StandInHeap, **rules: Any) -> dict[str, Any]:
    return {"name": "tests", "keys": [CLIENT_KEY], "heap": {"app_id": APP_ID, "url": heap.url}, **rules}


@pytest.fixture
def start_with(start_relay: StartRelay, heap: StandInHeap) -> StartWith:
    def start(**rules: Any) -> AbstractAsyncContextManager[Relay]:
        return start_relay(environments=[environment(heap, **rules)])

    return start


def answer(color: str) -> Reply:
    flag = {"feature": {"name": "color"}, "enabled": True, "feature_state_value": color}
    body = json.dumps({"identifier": "ada", "flags": [flag]}).encode()
    return Reply(200, body, (("Content-Type", "application/json"),))


async def book(relay: Relay) -> Book:
    await relay.parts.capture.drained()
    return (await relay.outbox.books())["tests"]


async def see(relay: Relay, http: aiohttp.ClientSession, flagsmith: StandInFlagsmith, *colors: str) -> None:
    """ada asks, and gets these colors one after the other."""
    for color in colors:
        flagsmith.replies.append(answer(color))
        await identify(http, relay, "ada")


async def test_heap_gets_what_changed_and_nothing_else(
    start_with: StartWith, http: aiohttp.ClientSession, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    async with start_with(send="on_change") as relay:
        await see(relay, http, flagsmith, "red", "red", "blue", "blue", "red", "red")

        stored = await heap.wait_for_events(3)
        assert [event.properties["color"] for event in stored] == ["red", "blue", "red"]
        found = await book(relay)
        assert (found.captured, found.waiting + found.delivered, found.skipped) == (6, 3, {"unchanged": 3})


async def test_a_relay_that_is_started_again_remembers(
    start_with: StartWith, http: aiohttp.ClientSession, flagsmith: StandInFlagsmith
) -> None:
    for _ in range(2):
        async with start_with(send="on_change", heartbeat="0") as relay:
            await see(relay, http, flagsmith, "red")
            found = await book(relay)

    assert (found.captured, found.skipped) == (2, {"unchanged": 1})


async def test_only_the_freshest_reaches_a_heap_that_was_away(
    start_with: StartWith, http: aiohttp.ClientSession, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    heap.fail_always(503)
    async with start_with(when_behind={"after": "0", "then": "latest"}) as relay:
        await see(relay, http, flagsmith, "red")
        await heap.wait_for_requests(1)
        for color in ("green", "blue", "white", "black"):
            await see(relay, http, flagsmith, color)
            await relay.parts.capture.drained()
        found = await book(relay)
        assert found.superseded >= 3
        assert found.captured == found.superseded + found.waiting

        heap.recover()
        stored = await heap.wait_for_events(found.waiting)
        assert stored[-1].properties["color"] == "black"


async def test_the_operator_sees_what_was_unchanged_and_has_it_sent_again_by_forgetting(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    path = write(tmp_path, settings(flagsmith, heap, environments=[environment(heap, send="on_change")]))
    async with relay_process(path) as relay:
        await relay.wait_for("relay.started")
        for _ in range(3):
            await identify_at(http, relay.url, "ada")
        await relay.wait_for("batch.delivered")

        while "2 later answers unchanged" not in (await relay_command("trace", "-c", str(path), "ada")).stdout:
            continue
        done = await relay_command("forget", "-c", str(path), "ada", "--yes")
        assert done.stdout == "erased: 0 waiting events, 0 dead letters, 1 journal line, 1 remembered state\n"

        while len(heap.stored(APP_ID)) < 2:
            await identify_at(http, relay.url, "ada")
            await relay_command("trace", "-c", str(path), "ada")
