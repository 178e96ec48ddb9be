"""The published SDKs, each in a process of its own, get from the relay what they get from Flagsmith."""

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID, CLIENT_KEY, StartRelay
from tests.lacking import lacking

HERE = Path(__file__).parent
SDKS = {
    "python": (sys.executable, HERE / "python.py"),
    "javascript": ("node", HERE / "javascript.mjs"),
    "nodejs": ("node", HERE / "nodejs.mjs"),
}
FALLBACK = {"dark_mode": {"enabled": True, "value": "what the app does without Flagsmith"}}

every_sdk = pytest.mark.parametrize("sdk", SDKS)
every_server_sdk = pytest.mark.parametrize("sdk", ["python", "nodejs"])


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not shutil.which("node") or not (HERE / "node_modules").is_dir():
        lacking("the JavaScript SDKs are not installed: run `make test`")


async def flags(sdk: str, url: str, identity: str, traits: dict[str, Any], key: str = CLIENT_KEY) -> dict[str, Any]:
    """What an app that uses *sdk* is given, by feature."""
    program, driver = SDKS[sdk]
    process = await asyncio.create_subprocess_exec(
        *(program, driver, url, key, identity, json.dumps(traits), json.dumps(FALLBACK)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    given: dict[str, Any] = json.loads(out)
    return given


async def built_in_properties(http: aiohttp.ClientSession, flagsmith: StandInFlagsmith, identity: str) -> str:
    """What Flagsmith's own Heap integration sends for a call, as JSON: a value where a flag is on and has one."""
    url = f"{flagsmith.url}/api/v1/identities/"
    async with http.get(url, params={"identifier": identity}, headers={"X-Environment-Key": CLIENT_KEY}) as answer:
        served = [(flag, flag["feature_state_value"]) for flag in (await answer.json())["flags"]]
    return json.dumps(
        {
            flag["feature"]["name"]: value if flag["enabled"] and value is not None else flag["enabled"]
            for flag, value in served
        }
    )


@every_sdk
async def test_an_app_is_given_the_same_flags_and_heap_one_event_for_each_call(
    sdk: str, start_relay: StartRelay, flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    """Without traits and with them: the browser SDK asks by GET in the one case, by POST in the other."""
    calls: list[tuple[str, dict[str, Any]]] = [("ada+tag@example.com", {}), ("Grüße 7", {"plan": "pro", "seats": 3})]
    direct = [await flags(sdk, flagsmith.url, identity, traits) for identity, traits in calls]

    # The end of a relay whose outbox is in memory delivers everything, so nothing can come later.
    async with start_relay(outbox={"url": "memory://"}) as relay:
        relayed = [await flags(sdk, relay.url, identity, traits) for identity, traits in calls]

    assert relayed == direct
    assert len(direct[0]) > 5
    events = [(event.event, event.identity, json.dumps(event.properties)) for event in heap.stored(APP_ID)]
    assert events == [
        ("Flagsmith Feature Flags", identity, await built_in_properties(http, flagsmith, identity))
        for identity, _ in calls
    ]


@every_sdk
async def test_without_flagsmith_an_app_goes_on_with_its_own_defaults(
    sdk: str, start_relay: StartRelay, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    """The relay's 502 is to an SDK what a Flagsmith that is away is."""
    await flagsmith.stop()

    async with start_relay(outbox={"url": "memory://"}) as relay:
        given = await flags(sdk, relay.url, "ada", {})

    assert given == FALLBACK
    assert heap.requests == []


@every_server_sdk
async def test_local_evaluation_works_through_the_relay_and_makes_no_event(
    sdk: str, start_relay: StartRelay, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    """The SDK decides by itself from the environment's document: there is no identity call to capture."""
    direct = await flags(sdk, flagsmith.url, "ada", {}, flagsmith.server_key)

    async with start_relay(outbox={"url": "memory://"}) as relay:
        relayed = await flags(sdk, relay.url, "ada", {}, flagsmith.server_key)

    assert relayed == direct
    assert len(direct) > 5
    assert heap.requests == []
    assert all("/environment-document" in request.target for request in flagsmith.requests)
