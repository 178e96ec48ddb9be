"""The admin port: for probes and scrapers, never for a page that was rebound to our address."""

import asyncio
import socket
import threading
import time

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from prometheus_client.parser import text_string_to_metric_families

from relay.admin.server import Rendering, is_own_name
from relay.app import Relay, running
from relay.config import Config
from relay.model import Clock
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import StartRelay, settings


async def test_a_running_relay_is_live_and_ready(relay: Relay, http: aiohttp.ClientSession) -> None:
    for path in ("/healthz", "/readyz"):
        async with http.get(relay.admin_url + path) as answer:
            assert answer.status == 200


async def test_a_relay_that_stops_is_live_and_not_ready(start_relay: StartRelay, http: aiohttp.ClientSession) -> None:
    """While the grace lasts, the load balancer looks elsewhere and every probe and call is still answered."""
    async with start_relay(shutdown={"grace": "1s"}) as relay:
        relay.stop()

        async with http.get(relay.admin_url + "/readyz") as answer:
            assert answer.status == 503
        async with http.get(relay.admin_url + "/healthz") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(("seconds", "status"), [(3, 200), (6, 503)])
async def test_a_loop_that_did_not_turn_for_five_seconds_is_not_live_until_it_turns_in_time(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, seconds: float, status: int
) -> None:
    """The probe comes while this coroutine holds the loop, and is answered once that turns again."""
    passed = 0.0
    clock = Clock(monotonic=lambda: time.monotonic() + passed)
    written = settings(flagsmith, heap, outbox={"url": "memory://"})
    async with running(Config.model_validate(written), clock=clock) as relay:
        port = int(relay.admin_url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as probe:
            probe.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            passed = seconds
            answer = await asyncio.to_thread(probe.recv, 100)

        assert answer.startswith(b"HTTP/1.0 %d " % status)
        async with asyncio.timeout(10):
            while not await is_live(http, relay):
                await asyncio.sleep(0.01)


async def is_live(http: aiohttp.ClientSession, relay: Relay) -> bool:
    async with http.get(relay.admin_url + "/healthz") as answer:
        return answer.status == 200


async def test_a_scraper_that_keeps_its_connection_does_not_delay_the_end(
    start_relay: StartRelay, http: aiohttp.ClientSession
) -> None:
    async with asyncio.timeout(5), start_relay() as relay, http.get(relay.admin_url + "/metrics") as answer:
        await answer.read()  # the connection is idle now, and stays open for as long as the relay lets it


async def test_metrics_parse_and_carry_the_promised_names(relay: Relay, http: aiohttp.ClientSession) -> None:
    async with http.get(relay.admin_url + "/metrics") as answer:
        text = await answer.text()

    families = {family.name for family in text_string_to_metric_families(text)}
    assert {
        *("relay_requests", "relay_upstream_seconds", "relay_added_seconds", "relay_captured", "relay_skipped"),
        *("relay_refused", "relay_superseded", "relay_dropped", "relay_delivered", "relay_dead_letters"),
        *("relay_attempts", "relay_outbox_events", "relay_outbox_bytes", "relay_outbox_oldest_seconds"),
        *("relay_books_difference", "relay_config_reloads", "relay_task_restarts"),
    } <= families
    assert "# TYPE relay_dead_letters_total counter" in text
    assert "# TYPE relay_dead_letters gauge" in text


@pytest.mark.parametrize("path", ["/", "/status.json", "/status.txt", "/metrics", "/healthz", "/nothing"])
async def test_nothing_is_kept_framed_or_sniffed(relay: Relay, http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(relay.admin_url + path) as answer:
        headers = answer.headers

    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_it_is_read_only(relay: Relay, http: aiohttp.ClientSession, method: str) -> None:
    for path in ("/", "/status.json", "/metrics"):
        async with http.request(method, relay.admin_url + path) as answer:
            assert answer.status == 405


async def test_what_is_being_made_is_made_once_for_all_who_ask() -> None:
    made: list[int] = []
    go_on = threading.Event()

    def make() -> bytes:
        made.append(1)
        go_on.wait(10)
        return b"made"

    rendering = Rendering(make, "text/plain")
    request = make_mocked_request("GET", "/")
    asking = [asyncio.create_task(rendering.answer(request)) for _ in range(5)]
    await asyncio.sleep(0)
    go_on.set()

    assert [(await each).body for each in asking] == [b"made"] * 5
    assert len(made) == 1


async def test_a_foreign_host_name_is_refused(relay: Relay, http: aiohttp.ClientSession) -> None:
    for path in ("/metrics", "/status.json", "/status.txt", "/"):
        async with http.get(relay.admin_url + path, headers={"Host": "attacker.example"}) as answer:
            assert answer.status == 421
            assert await answer.text() == "this name is not in admin.hosts\n"


async def test_a_named_host_is_answered(start_relay: StartRelay, http: aiohttp.ClientSession) -> None:
    async with (
        start_relay(admin={"hosts": ["relay.internal"]}) as relay,
        http.get(relay.admin_url + "/metrics", headers={"Host": "Relay.Internal:19090"}) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:19090", True),
        ("10.1.2.3", True),
        ("[::1]:19090", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("relay.svc", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("[evil", False),
        ("127.0.0.1:evil", False),
        ("127.0.0.1:99999", False),
        ("127.0.0.1:80/evil", False),
        ("evil@127.0.0.1", False),
        ("[127.0.0.1]", False),
        ("[127.0.0.1].evil.example", False),
        ("[::1].evil.example", False),
        ("[::1]evil.example:80", False),
        ("[relay.svc]", False),
        ("::1", False),
    ],
)
def test_only_addresses_localhost_and_listed_names_are_ours(host: str, own: bool) -> None:
    assert is_own_name(host, frozenset({"relay.svc"})) is own
