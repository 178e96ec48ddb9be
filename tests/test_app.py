"""The whole relay in one process: from an SDK's call to an event in Heap."""

import asyncio
import errno
import json
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from relay import config
from relay.app import Relay, reason_and_advice, running
from relay.errors import StartError
from relay.model import Clock
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID, CLIENT_KEY, StartRelay, settings, write
from tests.proxy.raw import Caller, RawFlagsmith, ask, say

IDENTITIES = "/api/v1/identities/"
KEY = f"X-Environment-Key: {CLIENT_KEY}".encode()


async def identify(http: aiohttp.ClientSession, relay: Relay, identity: str, key: str = CLIENT_KEY) -> bytes:
    headers = {"X-Environment-Key": key}
    async with http.get(relay.url + IDENTITIES, params={"identifier": identity}, headers=headers) as answer:
        assert answer.status == 200
        return await answer.read()


async def test_an_identity_call_becomes_one_event_in_heap(
    relay: Relay, http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    body = json.loads(await identify(http, relay, "ada"))

    await heap.wait_for_events(1)
    [event] = heap.stored(APP_ID)
    assert event.event == "Flagsmith Feature Flags"
    assert event.identity == "ada"
    assert event.properties == {
        flag["feature"]["name"]: flag["feature_state_value"]
        if flag["enabled"] and flag["feature_state_value"] is not None
        else flag["enabled"]
        for flag in body["flags"]
    }


async def test_a_dead_heap_never_touches_flags_and_loses_nothing(
    start_relay: StartRelay, http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    heap.fail_always(503)
    async with start_relay() as relay:
        for number in range(20):
            await identify(http, relay, f"user-{number}")
        await heap.wait_for_requests(1)

        await relay.parts.capture.drained()
        book = (await relay.outbox.books())["tests"]
        assert (book.captured, book.waiting, book.delivered) == (20, 20, 0)


async def test_events_that_waited_for_a_restart_are_delivered_once(
    start_relay: StartRelay, http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    heap.fail_always(503)
    async with start_relay() as relay:
        for number in range(5):
            await identify(http, relay, f"user-{number}")
    heap.recover()

    async with start_relay():
        await heap.wait_for_events(5)

    assert {event.identity for event in heap.stored(APP_ID)} == {f"user-{number}" for number in range(5)}
    assert heap.duplicates == 0


async def test_an_ephemeral_outbox_is_delivered_at_shutdown_without_linger(
    start_relay: StartRelay, http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    async with start_relay(outbox={"ephemeral": True}) as relay:
        await identify(http, relay, "ada")

    assert [event.identity for event in heap.stored(APP_ID)] == ["ada"]


async def test_a_relay_that_is_told_to_stop_while_it_starts_is_never_ready(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path
) -> None:
    path = write(tmp_path, settings(flagsmith, heap))
    relay = Relay(config.load(path, {}).config)
    relay.stop()

    await relay.run()

    assert not relay.parts.health.ready


async def test_an_unknown_key_is_forwarded_and_not_captured(
    relay: Relay, http: aiohttp.ClientSession, flagsmith: StandInFlagsmith
) -> None:
    headers = {"X-Environment-Key": "nobody-knows"}
    async with http.get(relay.url + IDENTITIES, params={"identifier": "ada"}, headers=headers) as answer:
        assert answer.status == 403

    assert await relay.outbox.books() == {}


async def test_a_port_in_use_is_one_clear_line(start_relay: StartRelay, relay: Relay) -> None:
    port = int(relay.url.rpartition(":")[2])

    with pytest.raises(StartError) as told:
        async with start_relay(listen={"port": port}, outbox={"url": "memory://"}):
            raise AssertionError("it started")

    line = f"cannot listen on 127.0.0.1 port {port}: Address already in use; change listen.port, or stop who holds it"
    assert str(told.value) == line


# 192.0.2.0/24 is nobody's (RFC 5737), and so is .invalid (RFC 6761).
@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
async def test_an_address_of_another_machine_is_one_clear_line(start_relay: StartRelay, host: str) -> None:
    with pytest.raises(StartError) as told:
        async with start_relay(admin={"host": host}):
            raise AssertionError("it started")

    assert str(told.value).startswith(f"cannot listen on {host} port 0: ")
    assert str(told.value).endswith("; write an address of this machine for admin.host, or 0.0.0.0 for all")


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, "Permission denied; change listen.port to 1024 or more, or give the relay the right (CAP_"),
        (errno.EADDRNOTAVAIL, "Cannot assign requested address; write an address of this machine for listen.host"),
        (None, "Cannot assign requested address; write an address of this machine for listen.host"),
        (errno.EAFNOSUPPORT, "Address family not supported by protocol; change listen.host or listen.port"),
    ],
)
def test_why_a_port_cannot_be_opened_comes_with_what_to_do(number: int | None, told: str) -> None:
    failure = OSError("in asyncio's own words")
    failure.errno = number

    assert reason_and_advice(failure, "listen").startswith(told)


async def test_a_second_relay_on_one_outbox_is_refused_by_name(start_relay: StartRelay, relay: Relay) -> None:
    with pytest.raises(StartError, match="in use"):
        async with start_relay():
            raise AssertionError("it started")


async def test_without_its_outbox_a_relay_still_forwards_flags(
    start_relay: StartRelay, http: aiohttp.ClientSession
) -> None:
    """A broken disk costs analytics, counted, and no flag."""
    async with start_relay(outbox={"url": "sqlite:////proc/no/such/outbox.db"}) as relay:
        await identify(http, relay, "ada")

        async with asyncio.timeout(10):
            while not sample(relay.registry, "relay_refused_total", environment="tests", reason="outbox_error"):
                await asyncio.sleep(0.01)


async def test_what_was_refused_or_skipped_is_not_called_lost_though_its_count_could_not_be_written(
    start_relay: StartRelay, http: aiohttp.ClientSession
) -> None:
    with capture_logs() as logs:
        async with start_relay(outbox={"url": "sqlite:////proc/no/such/outbox.db"}) as relay:
            await identify(http, relay, "ada")
            await identify(http, relay, " ")

    assert [line["lost"] for line in logs if line["event"] == "relay.stopped"] == [0]


async def test_an_answer_that_never_ends_takes_nothing_of_the_time_to_commit(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    """Counts without an event are told once a second, which a clock that stands still never brings.

    So that of the second call is told by the last commit of all, or not at all.
    """
    async with RawFlagsmith() as hanging:
        flags = say(b'{"flags": []}', b"Content-Type: application/json")
        hanging.script += [flags, flags, flags[:-1]]
        changes = {"upstream": {"url": hanging.url}, "outbox": {"url": "memory://"}}
        written = config.Config.model_validate(settings(flagsmith, heap, **changes))
        async with asyncio.timeout(20), running(written, clock=Clock(monotonic=lambda: 0.0)) as relay:
            await identify(http, relay, " ")
            while "tests" not in await relay.outbox.books():
                await asyncio.sleep(0.01)
            await identify(http, relay, " ")
            async with await Caller.at(int(relay.url.rpartition(":")[2])) as leaving:
                leaving.writer.write(ask(b"/api/v1/identities/?identifier=ada", KEY))
                await leaving.reader.readuntil(b"\r\n\r\n")

    assert (await relay.outbox.books())["tests"].skipped == {"no_identity": 2}


async def test_an_outbox_that_is_required_and_broken_stops_the_start(start_relay: StartRelay) -> None:
    with pytest.raises(StartError, match=r"outbox\.required"):
        async with start_relay(outbox={"url": "sqlite:////proc/no/such/outbox.db", "required": True}):
            raise AssertionError("it started")


async def test_the_books_balance_after_traffic(relay: Relay, http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    for number in range(30):
        await identify(http, relay, f"user-{number}")
    await heap.wait_for_events(30)

    book = (await relay.outbox.books())["tests"]
    assert book.captured == book.delivered + book.waiting == 30
    await relay.parts.figures.refresh()
    assert relay.parts.figures.reading.books["tests"].captured == 30
    assert relay.registry.get_sample_value("relay_books_difference", {"environment": "tests"}) == 0


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """A metric's value, zero where it was never touched."""
    return registry.get_sample_value(name, labels) or 0.0


async def test_two_relays_live_in_one_process(start_relay: StartRelay, relay: Relay) -> None:
    async with start_relay(outbox={"url": "memory://"}) as other:
        assert other.url != relay.url
