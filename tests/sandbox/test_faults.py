"""Bad answers on demand: what the caller sees, and whether Heap had the events by then."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from relay.sandbox.faults import Fault, Raw, Reply, Scripted
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.sandbox.asking import APP_ID, body, event, post

SHORT = aiohttp.ClientTimeout(total=0.3)


async def outcome(heap: StandInHeap) -> object:
    """What a new caller with little patience makes of one call: the status of a whole answer, or the error."""
    try:
        async with aiohttp.ClientSession(timeout=SHORT) as http:
            return (await post(http, heap, body(event())))[0]
    except (aiohttp.ClientError, TimeoutError) as exc:
        return type(exc)


@pytest.mark.parametrize(
    ("scripted", "seen", "written_down", "stored"),
    [
        (Fault.STORE_THEN_DROP, aiohttp.ServerDisconnectedError, 0, 1),
        (Fault.STORE_THEN_502, 502, 502, 1),
        (Fault.STORE_THEN_HANG, TimeoutError, 0, 1),
        (Fault.TRUNCATE, aiohttp.ClientPayloadError, 200, 1),
        (Fault.HTML_200, 200, 200, 1),
        (Fault.SLOW_DRIP, TimeoutError, 200, 1),
        (Fault.CLOSE_AFTER, 200, 200, 1),
        (Fault.HANG, TimeoutError, 0, 0),
        (Fault.RESET, aiohttp.ClientOSError, 0, 0),
        (Fault.DROP, aiohttp.ServerDisconnectedError, 0, 0),
        (200, 200, 200, 1),
        (204, 204, 204, 1),
        (503, 503, 503, 0),
        (Reply(301, headers=(("Location", "/elsewhere"),)), 404, 301, 0),
        (Reply(200, b"<html>", store=False), 200, 200, 0),
        (Reply(500, store=True), 500, 500, 1),
        (Raw(b"SSH-2.0\r\n"), aiohttp.ClientResponseError, 0, 0),
    ],
)
async def test_a_scripted_answer_takes_one_request(
    heap: StandInHeap, scripted: Scripted, seen: object, written_down: int, stored: int
) -> None:
    heap.replies.append(scripted)

    assert await outcome(heap) == seen
    assert (heap.requests[0].status, len(heap.stored(APP_ID))) == (written_down, stored)
    assert await outcome(heap) == 200
    assert len(heap.stored(APP_ID)) == 1


async def test_a_failure_lasts_until_recovery(heap: StandInHeap) -> None:
    heap.replies.append(429)
    heap.fail_always(503)
    failed = [await outcome(heap) for _ in range(3)]

    heap.recover()

    assert failed == [429, 503, 503]
    assert await outcome(heap) == 200


async def test_a_fault_stores_only_what_would_pass(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    heap.replies.append(Fault.STORE_THEN_502)

    status, _ = await post(http, heap, body(event(identity="")))

    assert (status, heap.stored(APP_ID)) == (502, [])


async def test_a_connection_closed_after_its_answer_is_not_announced(
    http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    heap.replies.append(Fault.CLOSE_AFTER)

    async with http.post(f"{heap.url}/api/track", json={"app_id": APP_ID, "events": [event()]}) as answer:
        assert (answer.status, answer.headers.get("Connection")) == (200, None)


async def test_stopping_lets_go_of_whoever_is_kept_waiting(http: aiohttp.ClientSession) -> None:
    async with StandInHeap() as heap:
        heap.fail_always(Fault.HANG)
        waiting = asyncio.create_task(post(http, heap, body(event())))
        await heap.wait_for_requests(1)

    with pytest.raises(aiohttp.ClientError):
        await waiting


async def stream(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: {}\n\n")
    return response


@pytest.mark.parametrize(
    ("scripted", "seen"),
    [
        (Reply(201, b"{}", (("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))), (201, ["a=1", "b=2"], b"{}")),
        (Raw(b"HTTP/1.1 202 Fine\r\n\r\nraw"), (202, [], b"raw")),
        (stream, (200, [], b"data: {}\n\n")),
        (503, (503, [], b"")),
        (200, (403, [], b'{"detail":"Invalid or missing Environment key"}')),
        (Fault.CLOSE_AFTER, (403, [], b'{"detail":"Invalid or missing Environment key"}')),
    ],
)
async def test_flagsmith_answers_by_script_too(
    http: aiohttp.ClientSession, flagsmith: StandInFlagsmith, scripted: Scripted, seen: tuple[int, list[str], bytes]
) -> None:
    flagsmith.replies.append(scripted)

    async with http.get(f"{flagsmith.url}/api/v1/flags/") as answer:
        assert (answer.status, answer.headers.getall("Set-Cookie", []), await answer.read()) == seen


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.DROP, Fault.TRUNCATE])
async def test_flagsmith_breaks_off_by_script(
    http: aiohttp.ClientSession, flagsmith: StandInFlagsmith, fault: Fault
) -> None:
    flagsmith.replies.append(fault)

    # A POST: aiohttp's client asks again by itself when a GET breaks off.
    with pytest.raises(aiohttp.ClientError):
        async with http.post(f"{flagsmith.url}/api/v1/identities/") as answer:
            await answer.read()
