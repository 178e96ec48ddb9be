"""One request to Heap, one answer."""

import json
import ssl
from collections.abc import AsyncIterator
from email.utils import formatdate

import aiohttp
import pytest
import trustme

from relay.core.batch import BATCH_BYTES, BATCH_EVENTS
from relay.core.settle import Kind
from relay.errors import HeapUnreachable
from relay.heap import Heap, open_session, read_status
from relay.model import Clock, Lane
from relay.sandbox.heap import Fault, Raw, Reply, StandInHeap

APP_ID = "1234567890"
BODY = b'{"event":"Flags","identity":"ada","idempotency_key":"0123456789abcdef"}'


@pytest.fixture
async def stand_in() -> AsyncIterator[StandInHeap]:
    async with StandInHeap() as heap:
        yield heap


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(total=0.5) as session:
        yield session


@pytest.fixture
async def heap(stand_in: StandInHeap, session: aiohttp.ClientSession) -> Heap:
    return Heap(session, Lane(stand_in.url, APP_ID))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *[(status, Kind.DELIVERED) for status in (200, 201, 202, 204)],
        *[(status, Kind.DENIED) for status in (301, 302, 307, 308, 304, 401, 403, 404)],
        *[(status, Kind.REFUSED) for status in (400, 422)],
        (413, Kind.TOO_LARGE),
        *[(status, Kind.BUSY) for status in (402, 405, 408, 409, 415, 418, 425, 429, 500, 502, 503, 504, 599)],
    ],
)
def test_every_status_has_its_meaning(status: int, kind: Kind) -> None:
    assert read_status(status) is kind


async def test_events_arrive_as_they_were_stored(stand_in: StandInHeap, heap: Heap) -> None:
    answer = await heap.track([BODY, BODY.replace(b"0123", b"4567")])

    assert (answer.kind, answer.status, answer.text) == (Kind.DELIVERED, 200, "{}")
    assert [event["idempotency_key"][:4] for event in stand_in.batches[0]] == ["0123", "4567"]
    assert stand_in.batches[0][0] == json.loads(BODY)


@pytest.mark.parametrize(("date", "sent_at"), [("Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0), ("soon", None)])
async def test_an_answer_tells_when_it_was_sent(
    stand_in: StandInHeap, heap: Heap, date: str, sent_at: float | None
) -> None:
    stand_in.replies.append(Reply(200, headers=(("Date", date),)))

    assert (await heap.track([BODY])).sent_at == sent_at


async def test_a_full_request_stays_below_750_000_bytes(stand_in: StandInHeap, heap: Heap) -> None:
    size = heap.room // BATCH_EVENTS
    body = b'{"event":"' + b"x" * (size - 12) + b'"}'

    await heap.track([body] * BATCH_EVENTS)

    assert len(body) == size
    assert BATCH_BYTES - 1500 < stand_in.requests[0].size <= BATCH_BYTES


async def test_a_refusal_tells_which_event_and_where(stand_in: StandInHeap, heap: Heap) -> None:
    answer = await heap.track([BODY, BODY.replace(b'"ada"', b"7")])

    assert (answer.kind, answer.status, answer.named) == (Kind.REFUSED, 400, 1)
    assert answer.path == "events[1].identity"
    assert answer.text.startswith("postBody.events[1].identity should be string")


async def test_a_text_without_a_number_names_nobody(stand_in: StandInHeap, heap: Heap) -> None:
    stand_in.replies.append(Reply(400, b"Bad Request"))

    answer = await heap.track([BODY])

    assert (answer.named, answer.path, answer.text) == (None, "", "Bad Request")


async def test_only_a_refusal_names_an_event(stand_in: StandInHeap, heap: Heap) -> None:
    stand_in.replies.append(Reply(500, b"events[0] exploded"))

    assert (await heap.track([BODY])).named is None


async def test_a_text_is_one_line_of_at_most_1_000_characters(stand_in: StandInHeap, heap: Heap) -> None:
    stand_in.replies.append(Reply(400, b"one\n\x1b[31mtwo\x00\xff " + b"x" * 100_000))

    text = (await heap.track([BODY])).text

    assert text.startswith("one �[31mtwo�� xxx")
    assert len(text) == 1_000


async def test_a_redirect_is_not_followed(stand_in: StandInHeap, heap: Heap) -> None:
    stand_in.replies.append(Reply(307, headers=(("Location", f"{stand_in.url}/api/track"),)))

    answer = await heap.track([BODY])

    assert (answer.kind, answer.status) == (Kind.DENIED, 307)
    assert len(stand_in.requests) == 1


async def test_no_cookie_is_kept(stand_in: StandInHeap, session: aiohttp.ClientSession, heap: Heap) -> None:
    stand_in.replies.append(Reply(200, b"{}", (("Set-Cookie", "a=b; Domain=127.0.0.1"),)))

    await heap.track([BODY])

    assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("9" * 400, float("inf")),
        (formatdate(1_000_030, usegmt=True), 30.0),
        (formatdate(999_000, usegmt=True), 0.0),
        ("soon", None),
        ("-3", None),
        ("٣", None),
        ("Fri, 99 Foo 2026 00:00:00 GMT", None),
    ],
)
async def test_heaps_wish_for_rest_is_read_in_every_form(
    stand_in: StandInHeap, session: aiohttp.ClientSession, wish: str, seconds: float | None
) -> None:
    """A date counts from the answer's own Date: our clock may be wrong by hours."""
    date = formatdate(1_000_000, usegmt=True)
    stand_in.replies.append(
        Raw(f"HTTP/1.1 429 Slow\r\nDate: {date}\r\nRetry-After: {wish}\r\nContent-Length: 0\r\n\r\n".encode())
    )

    answer = await Heap(session, Lane(stand_in.url, APP_ID)).track([BODY])

    assert (answer.kind, answer.retry_after) == (Kind.BUSY, seconds)


async def test_without_a_date_of_its_own_ours_counts(stand_in: StandInHeap, session: aiohttp.ClientSession) -> None:
    wish = formatdate(1_000_030, usegmt=True)
    stand_in.replies.append(Raw(f"HTTP/1.1 503 No\r\nRetry-After: {wish}\r\nContent-Length: 0\r\n\r\n".encode()))

    answer = await Heap(session, Lane(stand_in.url, APP_ID), Clock(wall=lambda: 1_000_020.0)).track([BODY])

    assert answer.retry_after == 10.0


@pytest.mark.parametrize(
    "fault",
    [
        Fault.HANG,
        Fault.RESET,
        Fault.DROP,
        Fault.STORE_THEN_DROP,
        Fault.STORE_THEN_HANG,
        Raw(b"this is no HTTP\r\n\r\n"),
    ],
)
async def test_no_answer_or_a_broken_one_is_unreachable(stand_in: StandInHeap, heap: Heap, fault: Fault | Raw) -> None:
    stand_in.replies.append(fault)

    with pytest.raises(HeapUnreachable):
        await heap.track([BODY])


@pytest.mark.parametrize("fault", [Fault.TRUNCATE, Fault.HTML_200, Fault.SLOW_DRIP])
async def test_a_success_is_one_whatever_its_body(stand_in: StandInHeap, heap: Heap, fault: Fault) -> None:
    stand_in.replies.append(fault)

    assert (await heap.track([BODY])).kind is Kind.DELIVERED


async def test_a_refusal_is_one_though_its_words_are_cut_short(stand_in: StandInHeap, heap: Heap) -> None:
    """Otherwise one event behind such a gateway would be sent for ever, and with it all that came after."""
    words = b"postBody.events[3].properties should be"
    stand_in.replies.append(Raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 1000\r\n\r\n" + words))

    answer = await heap.track([BODY])

    assert (answer.kind, answer.named, answer.text) == (Kind.REFUSED, 3, words.decode())


async def test_a_refused_connection_is_unreachable(stand_in: StandInHeap, heap: Heap) -> None:
    await stand_in.stop()

    with pytest.raises(HeapUnreachable):
        await heap.track([BODY])


@pytest.mark.parametrize("url", ["http://a..b", "http://" + "a" * 64, "http://256.1.1.1", "http://[::1"])
async def test_an_address_that_cannot_be_is_unreachable(session: aiohttp.ClientSession, url: str) -> None:
    with pytest.raises(HeapUnreachable):
        await Heap(session, Lane(url, APP_ID)).track([BODY])


async def test_certificates_are_verified() -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)

    async with StandInHeap(ssl_context=server) as stand_in, open_session() as strict, open_session(client) as trusting:
        lane = Lane(stand_in.url, APP_ID)

        with pytest.raises(HeapUnreachable, match="certificate"):
            await Heap(strict, lane).track([BODY])
        assert (await Heap(trusting, lane).track([BODY])).kind is Kind.DELIVERED
