"""A pod's life, with the configuration that the chart makes and a real process: start, change, stop, kill, again."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID, CLIENT_KEY
from tests.helm.conftest import Manifest, render
from tests.helm.kubelet import Pod
from tests.processes import RelayProcess

KEY = {"X-Environment-Key": CLIENT_KEY}


@pytest.fixture
def local(flagsmith: StandInFlagsmith, heap: StandInHeap) -> dict[str, Any]:
    """What a test changes of the chart's configuration: whom the relay talks to, and how often it looks at the file."""
    # With a part of the limits as small as the chart's twelve pods have, the first event would leave after 30 seconds.
    app = {"app_id": APP_ID, "url": heap.url, "share": 0.8}
    environment = {"name": "tests", "keys": [CLIENT_KEY], "heap": app}
    return {"upstream": {"url": flagsmith.url}, "environments": [environment], "reload": "200ms"}


@pytest.fixture
def sidecar(render_app: Callable[..., list[Manifest]], local: dict[str, Any], tmp_path: Path) -> Pod:
    """The relay in the example's pod."""
    return Pod(render_app(), tmp_path, local)


@pytest.fixture
def stateful(local: dict[str, Any], tmp_path: Path) -> Pod:
    """The relay as a service whose outbox outlives its pods."""
    return Pod(render(outbox={"persistence": {"enabled": True}}), tmp_path, local)


async def identify(http: aiohttp.ClientSession, relay: RelayProcess, identity: str) -> int:
    params = {"identifier": identity}
    async with http.get(f"{relay.url}/api/v1/identities/", params=params, headers=KEY) as answer:
        await answer.read()
        return answer.status


async def test_the_app_starts_when_the_relay_serves_whatever_heap_does(
    sidecar: Pod, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    await heap.stop()

    async with sidecar.started() as relay:
        assert await sidecar.passes(relay, "readinessProbe")
        assert await sidecar.passes(relay, "livenessProbe")
        assert await identify(http, relay, "ada") == 200


async def test_a_new_config_map_is_taken_over_without_a_restart(
    sidecar: Pod, local: dict[str, Any], heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    async with sidecar.started() as relay:
        environment = {**local["environments"][0], "event": "Flags seen"}
        sidecar.mount({**local, "environments": [environment]})
        await relay.wait_for("config.reloaded")

        await identify(http, relay, "ada")

        [stored] = await heap.wait_for_events(1)
        assert stored.event == "Flags seen"


async def test_a_broken_config_map_stops_neither_the_relay_nor_its_restart(
    sidecar: Pod, local: dict[str, Any], http: aiohttp.ClientSession
) -> None:
    async with sidecar.started() as relay:
        sidecar.mount({**local, "environments": "rubbish"})
        await relay.wait_for("config.refused")
        assert await identify(http, relay, "ada") == 200
        relay.kill()
        await relay.ended()

    async with sidecar.started() as relay:
        assert await identify(http, relay, "grace") == 200


async def test_at_sigterm_requests_in_flight_are_answered_and_an_ephemeral_outbox_is_delivered(
    sidecar: Pod, flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    async with sidecar.started() as relay:
        for identity in ("grace", "edsger"):
            await identify(http, relay, identity)
        flagsmith.delay = 1
        call = asyncio.create_task(identify(http, relay, "ada"))
        async with asyncio.timeout(10):
            while len(flagsmith.requests) < 3:
                await asyncio.sleep(0.01)

        assert await sidecar.stop(relay) == 0

        assert await call == 200
        assert {event.identity for event in heap.stored(APP_ID)} == {"grace", "edsger", "ada"}
        assert relay.lines[-1]["lost"] == 0


async def test_what_heap_cannot_take_before_an_ephemeral_volume_goes_is_counted(
    sidecar: Pod, local: dict[str, Any], heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    await heap.stop()
    sidecar.mount({**local, "shutdown": {"grace": 0, "drain": "500ms"}})
    async with sidecar.started() as relay:
        for identity in ("grace", "edsger", "ada"):
            await identify(http, relay, identity)

        assert await sidecar.stop(relay) == 0

        last = relay.lines[-1]
        assert (last["event"], last["delivered"], last["kept"], last["lost"]) == ("relay.stopped", 0, 0, 3)


async def test_while_it_stops_it_is_not_ready_and_lives(stateful: Pod, http: aiohttp.ClientSession) -> None:
    async with stateful.started() as relay:
        relay.terminate()
        await relay.wait_for("relay.stopping")

        assert not await stateful.passes(relay, "readinessProbe")
        assert await stateful.passes(relay, "livenessProbe")
        assert await identify(http, relay, "late") == 200


async def test_a_backlog_waits_on_its_volume_for_the_next_pod(
    stateful: Pod, local: dict[str, Any], heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    heap.fail_always(503)
    stateful.mount({**local, "shutdown": {"grace": 0}})  # nobody is left to call
    async with stateful.started() as relay:
        for number in range(5):
            await identify(http, relay, f"user-{number}")
        assert await stateful.stop(relay) == 0
        assert (relay.lines[-1]["kept"], relay.lines[-1]["lost"]) == (5, 0)

    heap.recover()
    async with stateful.started():
        await heap.wait_for_events(5)
    assert {event.identity for event in heap.stored(APP_ID)} == {f"user-{number}" for number in range(5)}
    assert heap.duplicates == 0


async def test_killed_at_the_end_of_its_time_it_loses_nothing_that_was_committed(
    stateful: Pod, local: dict[str, Any], heap: StandInHeap, flagsmith: StandInFlagsmith, http: aiohttp.ClientSession
) -> None:
    """An answered call is a committed event here; the kill comes while that lingers for company."""
    stateful.mount({**local, "shutdown": {"grace": "10m", "finish": "10m"}}, commit="before_answer")
    async with stateful.started() as relay:
        await identify(http, relay, "ada")

        assert await stateful.stop(relay, grace=0.5) == -9
        assert not heap.requests

    stateful.mount(local)
    async with stateful.started():
        await heap.wait_for_events(1)
    assert [event.identity for event in heap.stored(APP_ID)] == ["ada"]
