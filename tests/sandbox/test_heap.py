"""The strict Heap as its callers meet it: the order of its checks, its knobs, its memory."""

import json
import ssl
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import trustme

from relay.model import Clock
from relay.sandbox.heap import Knobs, StandInHeap, StoredEvent
from tests.sandbox.asking import APP_ID, WALL, body, event, post

OK = (200, "{}")
BAD = event(identity="")
BAD_TEXT = "postBody.events[0].identity should NOT be shorter than 1 characters"


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(wall=lambda: WALL + self.now, monotonic=lambda: self.now)


async def test_a_batch_is_stored_whole(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    answer = await post(http, heap, body(event(1), event(2, identity=..., user_id="42", timestamp=...)))

    assert answer == OK
    first, second = heap.stored(APP_ID)
    assert first == StoredEvent(
        app_id=APP_ID,
        event="Flagsmith Feature Flags",
        identity="ada",
        user_id=None,
        properties={"dark_mode": "true", "max_upload_mb": 25},
        timestamp="2026-02-03T04:05:06.000Z",
        idempotency_key=f"key-{1:028}",
        received_at=first.received_at,
    )
    assert (second.identity, second.user_id, second.timestamp) == (None, "42", None)


async def test_a_single_track_call_is_a_batch_of_one(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    good = await post(http, heap, json.dumps({"app_id": APP_ID, **event()}).encode())
    bad = await post(http, heap, json.dumps({"app_id": APP_ID, **event(properties=[])}).encode())

    assert (good, bad) == (OK, (400, "postBody.events[0].properties should be object"))
    assert [request.events for request in heap.requests] == [1, 1]


HUGE = event(properties={f"key-{number}": "v" * 1000 for number in range(1000)})


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        ({"path": "/api/track/", "Content_Type": "text/plain", "data": b"{"}, 404, "Not Found"),
        ({"method": "PUT", "data": b"{"}, 404, "Not Found"),
        ({"method": "GET", "data": b""}, 404, "Not Found"),
        ({"Content_Type": "text/plain", "data": body(HUGE)}, 415, "Unsupported Media Type"),
        ({"Content_Encoding": "gzip", "data": body(HUGE)}, 415, "Unsupported Media Type"),
        ({"data": body(HUGE) + b"}"}, 413, "Payload Too Large"),
        ({"data": body(BAD, app_id="x") + b"}"}, 400, "Unexpected token in JSON: Extra data"),
        ({"data": body(BAD, app_id="x")}, 400, "Bad Request"),
        ({"data": body(BAD, app_id="999")}, 200, "{}"),
        ({"data": body(BAD, event="e")}, 400, "postBody should match exactly one schema in oneOf"),
        ({"data": body(*[BAD] * 1001)}, 400, "postBody.events should NOT have more than 1000 items"),
        ({"data": body(*[BAD] * 1000)}, 400, BAD_TEXT),
        ({"data": body("text")}, 400, "postBody.events[0] should be object"),
    ],
)
async def test_the_first_failing_check_answers(
    http: aiohttp.ClientSession, request_: dict[str, Any], status: int, text: str
) -> None:
    """Each row breaks a later rule too, which must not be the one that answers; nothing of a refused call is stored."""
    async with StandInHeap(apps=[APP_ID]) as heap:
        answer = await post(http, heap, **request_)

        assert (answer[0], answer[1][: len(text)]) == (status, text)
        assert heap.stored(APP_ID) == []


async def test_one_bad_event_refuses_all_and_is_named(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    answer = await post(http, heap, body(event(0), event(1), BAD, event(3, event="")))

    assert answer == (400, BAD_TEXT.replace("[0]", "[2]"))
    assert heap.stored(APP_ID) == []


async def test_a_limit_is_looked_at_after_the_events(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    for number in range(30):
        await post(http, heap, body(event(number)))

    bad, good = (
        await post(http, heap, body(BAD | {"identity": "ada", "event": ""})),
        await post(http, heap, body(event())),
    )

    assert (bad[0], good) == (400, (429, "Too Many Requests"))
    assert len(heap.stored(APP_ID)) == 30


@pytest.mark.parametrize(
    ("knobs", "events", "answer", "stored"),
    [
        (Knobs(max_body_bytes=200), [event()], (413, "Payload Too Large"), 0),
        (Knobs(max_body_bytes=200, too_large_status=400), [event()], (400, "Payload Too Large"), 0),
        (Knobs(empty_events="accept"), [], OK, 0),
        (Knobs(bad_event="store_others_200"), [event(0), BAD, event(2)], OK, 2),
        (Knobs(bad_event="store_others_400"), [event(0), BAD, event(2)], (400, BAD_TEXT.replace("[0]", "[1]")), 2),
        (Knobs(old_events="drop", max_age_days=1), [event(timestamp="2020-01-01T00:00:00Z"), event(1)], OK, 1),
        (Knobs(repeated_keys="first_wins"), [event(), event()], OK, 1),
        (
            Knobs(),
            [event(), event()],
            (400, "postBody.events[1].idempotency_key should NOT have duplicate items"),
            0,
        ),
        (Knobs(short_keys="ignore"), [event(idempotency_key="short"), event(1, idempotency_key="short1")], OK, 2),
        (Knobs(success="no_content"), [event()], (204, ""), 1),
        (Knobs(success="ok_text"), [event()], (200, "OK"), 1),
    ],
)
async def test_a_knob_decides_where_heap_is_silent(
    http: aiohttp.ClientSession,
    knobs: Knobs,
    events: list[dict[str, Any]],
    answer: tuple[int, str],
    stored: int,
) -> None:
    async with StandInHeap(knobs, clock=Hands().clock) as heap:
        assert await post(http, heap, body(*events)) == answer

        assert len(heap.stored(APP_ID)) == stored


async def test_another_content_type_passes_where_the_knob_allows_it(
    http: aiohttp.ClientSession, heap: StandInHeap
) -> None:
    heap.knobs = Knobs(other_content_type="accept")

    assert await post(http, heap, body(event()), Content_Type="text/plain") == OK


async def test_a_charset_does_not_make_another_content_type(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    assert await post(http, heap, body(event()), Content_Type="Application/JSON; charset=utf-8") == OK


@pytest.mark.parametrize(
    ("knobs", "given", "kept"),
    [
        (Knobs(), {"a": ["x", 1, None, True]}, {"a": "x||1||null||true"}),
        (Knobs(), {"a": ["x" * 600, "y" * 600]}, {"a": "x" * 600 + "||" + "y" * 422}),
        (Knobs(long_values="cut"), {"a": "v" * 2000}, {"a": "v" * 1023}),
        (Knobs(nested_objects="drop"), {"a": {"b": 1}, "c": 2}, {"c": 2}),
    ],
)
async def test_properties_are_stored_as_heap_shows_them(
    http: aiohttp.ClientSession, knobs: Knobs, given: dict[str, Any], kept: dict[str, Any]
) -> None:
    async with StandInHeap(knobs) as heap:
        assert await post(http, heap, body(event(properties=given))) == OK

        assert heap.stored(APP_ID)[0].properties == kept


@pytest.mark.parametrize(
    ("knobs", "status", "retry_after", "dropped"),
    [
        (Knobs(), 429, None, 0),
        (Knobs(over_limit="429_seconds", retry_after=7), 429, "7", 0),
        (Knobs(over_limit="429_date", retry_after=7), 429, "Tue, 03 Feb 2026 04:05:13 GMT", 0),
        (Knobs(over_limit="400"), 400, None, 0),
        (Knobs(over_limit="drop"), 200, None, 1),
    ],
)
async def test_over_a_limit_the_knob_decides_and_the_violation_is_written_down(
    http: aiohttp.ClientSession, knobs: Knobs, status: int, retry_after: str | None, dropped: int
) -> None:
    async with StandInHeap(knobs, clock=Hands().clock) as heap:
        for number in range(30):
            assert await post(http, heap, body(event(number))) == OK
        async with http.post(heap.url + "/api/track", json={"app_id": APP_ID, "events": [event(30)]}) as answer:
            assert (answer.status, answer.headers.get("Retry-After")) == (status, retry_after)

        assert (len(heap.stored(APP_ID)), heap.dropped) == (30, dropped)
        assert [violation.limit for violation in heap.violations] == ["identity_requests"]


async def test_a_minute_later_the_limits_are_free_again(http: aiohttp.ClientSession) -> None:
    hands = Hands()
    async with StandInHeap(clock=hands.clock) as heap:
        full = [event(number) for number in range(1000)]
        first, second = await post(http, heap, body(*full)), await post(http, heap, body(event(1000)))
        hands.now = 60
        third = await post(http, heap, body(event(1000)))

    assert (first, second[0], third) == (OK, 429, OK)
    assert heap.peaks.identity_minute == 1001


async def test_refused_calls_count_towards_the_limits(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    """Heap does not say that they do; a storm of retries has to show."""
    heap.replies.extend([503] * 30)
    for _ in range(31):
        last = await post(http, heap, body(event()))

    assert last[0] == 429
    assert heap.peaks.identity_requests == 31


async def test_an_unknown_app_is_answered_200_and_all_is_lost(http: aiohttp.ClientSession) -> None:
    async with StandInHeap(apps=[APP_ID]) as heap:
        assert await post(http, heap, body(event(0), event(1), app_id="999")) == OK

        assert (heap.lost, heap.stored("999")) == (2, [])


@pytest.mark.parametrize(("knob", "answer", "lost"), [("lost", OK, 1), ("refuse", (400, "Bad Request"), 0)])
async def test_an_app_of_the_other_region_is_lost_or_refused(
    http: aiohttp.ClientSession, knob: Any, answer: tuple[int, str], lost: int
) -> None:
    async with StandInHeap(Knobs(other_region=knob), other_region=["777"]) as heap:
        assert await post(http, heap, body(event(), app_id="777")) == answer

        assert (heap.lost, heap.stored("777")) == (lost, [])


async def test_the_first_of_a_key_wins_and_repeats_are_counted(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    answers = [await post(http, heap, body(event(identity=who))) for who in ("ada", "bob", "ada")]
    await post(http, heap, body(event(identity="cyd"), app_id="2"))

    assert answers == [OK] * 3
    assert [stored.identity for stored in heap.stored(APP_ID)] == ["ada"]
    assert [stored.identity for stored in heap.stored("2")] == ["cyd"]
    assert heap.duplicates == 2


async def test_without_a_key_every_call_is_a_new_event(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    for _ in range(2):
        await post(http, heap, body(event(idempotency_key=...)))

    assert (len(heap.stored(APP_ID)), heap.duplicates) == (2, 0)


@pytest.mark.parametrize(
    ("dedupe", "later", "stored"),
    [
        ("forever", {}, 1),
        ("forever", {"timestamp": "2026-02-03T00:00:00Z"}, 1),
        ("key_and_timestamp", {}, 1),
        ("key_and_timestamp", {"timestamp": "2026-02-03T00:00:00Z"}, 2),
        ("day", {}, 2),
    ],
)
async def test_how_long_a_key_is_known_is_a_knob(
    http: aiohttp.ClientSession, dedupe: Any, later: dict[str, Any], stored: int
) -> None:
    hands = Hands()
    async with StandInHeap(Knobs(dedupe=dedupe), clock=hands.clock) as heap:
        await post(http, heap, body(event()))
        hands.now = 86_400
        await post(http, heap, body(event(**later)))

        assert len(heap.stored(APP_ID)) == stored


@pytest.mark.parametrize(
    ("words", "text"),
    [("{event}.event is cursed", "postBody.events[1].event is cursed"), ("Bad Request", "Bad Request")],
)
async def test_a_rule_of_the_test_refuses_with_or_without_the_index(
    http: aiohttp.ClientSession, heap: StandInHeap, words: str, text: str
) -> None:
    heap.refuse_if = lambda given: words if given["identity"] == "mallory" else None

    assert await post(http, heap, body(event(0), event(1, identity="mallory"))) == (400, text)
    assert await post(http, heap, body(event(0))) == OK


async def test_every_request_is_remembered_with_its_answer(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    seen: list[str | None] = []
    heap.on_stored = lambda stored: seen.append(stored.idempotency_key)
    good, bad = body(event(0), event(1)), body(BAD)
    for data in (good, bad, b"nonsense"):
        await post(http, heap, data)

    first, second, third = [replace(request, received_at=0) for request in await heap.wait_for_requests(3)]
    assert (first.status, first.app_id, first.events, first.size, first.text) == (200, APP_ID, 2, len(good), "")
    assert (second.status, second.events, second.text) == (400, 1, BAD_TEXT)
    assert (third.status, third.app_id, third.events, third.size) == (400, None, 0, 8)
    assert heap.batches == [[event(0), event(1)], [BAD]]
    assert seen == [event(0)["idempotency_key"], event(1)["idempotency_key"]]


async def test_who_waits_in_vain_is_told_what_is_there(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    await post(http, heap, body(event()))

    assert await heap.wait_for_events(1) == await heap.wait_for_events(1, APP_ID) == heap.stored(APP_ID)
    with pytest.raises(TimeoutError, match=r"no 2 stored events within 0.01 s; .* \{'1234567890': 1\}, 1 requests"):
        await heap.wait_for_events(2, within=0.01)
    with pytest.raises(TimeoutError, match="no 1 stored events"):
        await heap.wait_for_events(1, "999", within=0.01)


async def test_it_comes_back_on_its_port_with_what_it_had(http: aiohttp.ClientSession, heap: StandInHeap) -> None:
    await post(http, heap, body(event()))
    url = heap.url

    await heap.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(http, heap, body(event()))
    await heap.start()

    assert heap.url == url
    assert await post(http, heap, body(event())) == OK
    assert (len(heap.stored(APP_ID)), heap.duplicates) == (1, 1)


async def test_it_speaks_tls(http: aiohttp.ClientSession) -> None:
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    async with StandInHeap(ssl_context=server) as heap:
        async with http.post(f"{heap.url}/api/track", json={"app_id": "1", "events": [event()]}, ssl=client) as answer:
            assert (answer.status, heap.url[:8]) == (200, "https://")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await post(http, heap, body(event()))
