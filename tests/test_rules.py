"""An environment's rules, in a whole relay between Flagsmith and Heap."""

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
from structlog.testing import capture_logs

from relay.app import Relay
from relay.core.identity import hashed
from relay.model import Book
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID, CLIENT_KEY, StartRelay
from tests.test_app import IDENTITIES, identify

HASH_KEY = "not-a-secret-0123456789"
HEADERS = {"X-Environment-Key": CLIENT_KEY}


class StartWith(Protocol):
    """Starts a relay whose only environment has *rules*."""

    def __call__(self, **rules: Any) -> AbstractAsyncContextManager[Relay]: ...


@pytest.fixture
def start_with(start_relay: StartRelay, heap: StandInHeap) -> StartWith:
    def start(**rules: Any) -> AbstractAsyncContextManager[Relay]:
        entry = {"name": "tests", "keys": [CLIENT_KEY], "heap": {"app_id": APP_ID, "url": heap.url}, **rules}
        return start_relay(environments=[entry], log={"level": "debug"})

    return start


async def book(relay: Relay) -> Book:
    await relay.parts.capture.drained()
    return (await relay.outbox.books())["tests"]


async def text(http: aiohttp.ClientSession, url: str) -> str:
    async with http.get(url) as answer:
        assert answer.status == 200
        return await answer.text()


def stored(folder: Path) -> bytes:
    """Every byte of every file."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_a_hashed_identity_is_nowhere_on_disk_in_the_log_or_on_the_admin_port(
    start_with: StartWith, http: aiohttp.ClientSession, heap: StandInHeap, tmp_path: Path
) -> None:
    """While its event waits, after Heap refused it, and after it was delivered; one too long for Heap, too."""
    identities = ["ada-lovelace@example.com", "grace-hopper" + "-" * 300]
    heap.fail_always(503)
    with capture_logs() as logs:
        async with start_with(identity={"mode": "hmac_sha256", "key": HASH_KEY}) as relay:
            for identity in identities:
                await identify(http, relay, identity)
            await heap.wait_for_requests(1)
            waiting = await book(relay)
            written = stored(tmp_path)
            shown = await text(http, relay.admin_url + "/metrics") + await text(http, relay.admin_url + "/status.json")
            heap.recover()
            await heap.wait_for_events(2)
        written += stored(tmp_path)

    assert waiting == Book(captured=2, waiting=2)
    assert {event.identity for event in heap.stored(APP_ID)} == {hashed(each, HASH_KEY.encode()) for each in identities}
    assert hashed(identities[0], HASH_KEY.encode()).encode() in written
    for name in ("ada-lovelace", "grace-hopper"):
        assert name.encode() not in written
        assert name not in shown + json.dumps(logs, default=str)


async def test_in_shadow_everything_is_counted_and_heap_hears_nothing(
    start_with: StartWith, http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    async with start_with(shadow=True, identities={"exclude": ["bot-*"]}) as relay:
        for identity in ("ada", "x" * 300, "bot-1"):
            await identify(http, relay, identity)

        assert await book(relay) == Book(captured=3, skipped={"shadow": 2, "filtered": 1})
        assert await relay.outbox.levels() == []
        assert await relay.outbox.trace("ada", limit=9, now=4e9) != []
    assert heap.requests == []


@pytest.mark.parametrize(
    ("query", "body", "reason"),
    [
        ("?identifier=ada&transient=true", None, "transient"),
        ("?identifier=ada&transient=false", None, "transient"),
        ("?identifier=ada&transient=", None, None),
        ("?identifier=ada", None, None),
        ("", {"identifier": "ada", "transient": True}, "transient"),
        ("", {"identifier": "ada", "transient": "true"}, "transient"),
        ("", {"identifier": "ada", "transient": False}, None),
        ("", {"identifier": "ada"}, None),
    ],
)
async def test_a_transient_identity_is_one_that_the_request_calls_so(
    start_with: StartWith, http: aiohttp.ClientSession, query: str, body: dict[str, Any] | None, reason: str | None
) -> None:
    """In a query whatever is not empty counts, as for Flagsmith."""
    method = "POST" if body else "GET"
    async with start_with(transient="skip") as relay:
        async with http.request(method, relay.url + IDENTITIES + query, json=body, headers=HEADERS) as answer:
            assert answer.status == 200

        assert (await book(relay)).skipped == ({reason: 1} if reason else {})


async def test_blocked_identities_reach_neither_heap_nor_the_disk(
    start_with: StartWith, http: aiohttp.ClientSession, heap: StandInHeap, tmp_path: Path
) -> None:
    async with start_with(identity={"block": ["email"]}) as relay:
        await identify(http, relay, "ada@example.com")
        await identify(http, relay, "user-7")
        await heap.wait_for_events(1)

        assert (await book(relay)).skipped == {"blocked": 1}
    assert [event.identity for event in heap.stored(APP_ID)] == ["user-7"]
    assert b"ada@example.com" not in stored(tmp_path)


async def test_what_heap_gets_is_filtered_and_has_variants_and_static_properties(
    start_with: StartWith, http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    rules = {"features": {"include": ["*copy*"]}, "variants": True, "extra_properties": {"team": "growth"}}
    async with start_with(**rules, event="Flags seen") as relay:
        await identify(http, relay, "ada")
        await heap.wait_for_events(1)

    [event] = heap.stored(APP_ID)
    assert event.event == "Flags seen"
    assert list(event.properties) == ["checkout_copy", "checkout_copy.variant", "team"]
