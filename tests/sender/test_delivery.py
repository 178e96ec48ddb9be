"""Events reach Heap once in effect, whatever Heap and the way to it do."""

from email.utils import formatdate
from itertools import pairwise

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from relay.core.settle import LONGEST_PAUSE, Kind
from relay.model import Trace
from relay.sandbox.heap import Fault, Knobs, Reply
from relay.sender import LaneState, Sender
from tests.sender.conftest import APP_ID, Post, keys, until


def refused_rest(seconds: str) -> Reply:
    return Reply(429, b"Too Many Requests", (("Retry-After", seconds),))


async def test_what_waits_is_delivered_in_one_request(post: Post) -> None:
    await post.put(5)

    async with post.sending() as sender:
        book = await post.until_empty()

        assert (book.delivered, sender.delivered) == (5, 5)
    assert post.sizes() == [5]
    assert post.identities() == [f"person-{number}" for number in range(5)]
    assert post.counted("relay_delivered_total", environment="tests") == 5
    assert post.counted("relay_attempts_total", answer="delivered") == 1


async def test_what_arrives_later_is_delivered_too(post: Post) -> None:
    async with post.sending():
        await post.put(1)
        await post.until_empty()
        await post.put(1)
        await post.until_empty()

    assert post.sizes() == [1, 1]


async def test_an_event_waits_two_seconds_for_company(post: Post) -> None:
    post.time.passed = 100.0
    async with post.sending():
        post.time.passed = 200.0
        await post.put(1)
        await post.until_empty()

    assert 202.0 <= post.heap.requests[0].received_at <= 202.6


@pytest.mark.parametrize(
    "fault",
    [
        500,
        502,
        503,
        504,
        408,
        425,
        429,
        Fault.HANG,
        Fault.RESET,
        Fault.DROP,
        Fault.STORE_THEN_502,
        Fault.STORE_THEN_DROP,
    ],
)
async def test_after_a_passing_failure_the_same_bytes_go_again(post: Post, fault: int | Fault) -> None:
    """Nothing is lost, and nothing is stored twice even where Heap had stored it: the keys are the same."""
    post.heap.replies.append(fault)
    await post.put(3)

    async with post.sending():
        book = await post.until_empty()

    assert (book.delivered, book.dead_letters) == (3, {})
    assert len(post.identities()) == 3
    assert len(post.heap.batches) == 2
    assert post.heap.batches[0] == post.heap.batches[1]


@pytest.mark.parametrize("fault", [Fault.TRUNCATE, Fault.HTML_200, Fault.CLOSE_AFTER])
async def test_a_success_with_an_odd_body_is_a_success(post: Post, fault: Fault) -> None:
    post.heap.replies.append(fault)
    await post.put(1)

    async with post.sending():
        await post.until_empty()

    assert post.sizes() == [1]


async def test_heap_gets_four_tries_in_a_lease_then_longer_pauses(post: Post) -> None:
    post.heap.replies.extend([503] * 10)
    await post.put(1)

    async with post.sending():
        await post.until_empty()

    moments = [request.received_at for request in post.heap.requests]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert len(moments) == 11
    assert gaps[3] >= 4.99
    assert gaps[7] >= 9.99
    assert max(*gaps[:3], *gaps[4:7]) < 5


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_heaps_wish_for_rest_is_honoured_inside_the_lease(post: Post, form: str) -> None:
    await post.put(1)

    async with post.sending():

        async def ask_for_rest(_: web.BaseRequest) -> web.StreamResponse:
            wish = "30" if form == "seconds" else formatdate(post.time.clock.wall() + 30, usegmt=True)
            return web.Response(status=429, headers={"Retry-After": wish})

        post.heap.replies.append(ask_for_rest)
        await post.until_empty()

    first, second = post.heap.requests
    assert 29 <= second.received_at - first.received_at <= 45


async def test_a_wish_beyond_the_lease_becomes_the_lanes_pause(post: Post) -> None:
    post.heap.replies.append(refused_rest("1800"))
    await post.put(1)

    async with post.sending():
        await post.until_empty()

    first, second = post.heap.requests
    assert 1800 <= second.received_at - first.received_at <= 1810


async def test_a_paused_lane_says_until_when(post: Post) -> None:
    post.time.stands_still = lambda seconds: seconds > 1_000
    post.heap.replies.append(refused_rest("1800"))
    await post.put(1)

    async with post.sending() as sender:
        state = await until(lambda: first_state(sender), lambda state: state.standing != "open")

    assert (state.standing, state.failures) == ("paused", 1)
    assert state.until == pytest.approx(post.time.clock.wall() + 1800, abs=1)
    assert state.answer is not None
    assert state.answer.status == 429


async def test_a_lane_knows_heaps_last_error_after_it_recovered(post: Post) -> None:
    """Also one that was over within a lease."""
    post.heap.replies.append(Reply(503, b"of person-0"))
    await post.put(1)

    async with post.sending() as sender:
        await post.until_empty()
        state = await first_state(sender)

    assert (state.standing, state.since) == ("open", None)
    assert state.answer is not None
    assert state.error is not None
    assert (state.answer.kind, state.error.kind, state.error.status) == (Kind.DELIVERED, Kind.BUSY, 503)
    assert state.error.at == pytest.approx(post.time.began + post.heap.requests[0].received_at)
    assert state.error.text == ""


async def first_state(sender: Sender) -> LaneState:
    return sender.lanes()[0]


async def test_the_journal_learns_what_heap_said_to_each_event(post: Post) -> None:
    """Also where one request was refused and its halves were not: each has the answers to its own."""
    post.heap.refuse_if = lambda event: "Bad Request" if event["identity"] == "bad" else None
    [good], [bad] = await post.put(1, "good"), await post.put(1, "bad")

    async with post.sending():
        await post.until_empty()

    delivered, dead = await post.trace(good), await post.trace(bad)
    assert (delivered.place, said_to(delivered)) == ("delivered", ["refused 400", "delivered 200"])
    assert (dead.place, said_to(dead)) == ("dead_letter", ["refused 400", "refused 400"])
    assert (delivered.attempts, dead.attempts) == (2, 2)
    assert dead.cause is not None
    assert dead.cause.reason == "refused_by_heap"


async def test_an_event_had_as_many_attempts_as_requests_named_it(post: Post) -> None:
    """However many of them a lease led to."""
    post.heap.replies.extend([503] * 6)
    [event] = await post.put(1)

    async with post.sending():
        await post.until_empty()

    found = await post.trace(event)
    assert found.attempts == len(post.heap.requests) == 7
    assert said_to(found) == ["busy 503"] * 4 + ["delivered 200"]
    moments = [post.time.began + request.received_at for request in post.heap.requests[-5:]]
    assert [each.at for each in found.answers] == [int(moment) for moment in moments]


async def test_what_was_refused_with_others_and_then_left_had_an_attempt(post: Post) -> None:
    """The app is refused while the other half has not been tried by itself."""
    post.heap.replies.extend([Reply(400, b"Bad Request"), 403])
    post.time.stands_still = lambda seconds: seconds > 100
    events = await post.put(2)

    async with post.sending() as sender:
        await until(lambda: first_state(sender), lambda state: state.standing == "held")
        found = await until(lambda: post.traces(events), lambda found: all(one.attempts for one in found))

    assert [said_to(one) for one in found] == [["refused 400", "denied 403"], ["refused 400"]]


def said_to(found: Trace) -> list[str]:
    return [each.answer for each in found.answers]


async def test_the_journal_tells_an_answer_from_none(post: Post) -> None:
    post.heap.fail_always(Fault.RESET)
    [event] = await post.put(1)

    async with post.sending():
        found = await until(lambda: post.trace(event), lambda found: found.attempts > 0)
        assert said_to(found)[-1] == "unreachable"
        post.heap.recover()
        await post.until_empty()

    assert (await post.trace(event)).attempts >= 2


async def test_a_bad_event_that_heap_names_is_set_aside_and_the_rest_delivered(post: Post) -> None:
    await post.put(3)
    [bad] = await post.put(1, plan={"nested": 1})
    await post.put(3)

    async with post.sending():
        book = await post.until_empty()

    assert (book.delivered, book.dead_letters) == (6, {"refused_by_heap": 1})
    assert bad.identity not in post.identities()
    assert post.sizes() == [7, 6]
    assert post.counted("relay_dead_letters_total", environment="tests", reason="refused_by_heap") == 1


async def test_a_bad_event_that_heap_does_not_name_is_found_by_halving(post: Post) -> None:
    post.heap.refuse_if = lambda event: "Bad Request" if event["identity"] == "person-3" else None
    await post.put(8)

    async with post.sending():
        book = await post.until_empty()

    assert (book.delivered, book.dead_letters) == (7, {"refused_by_heap": 1})
    assert post.sizes() == [8, 4, 4, 2, 2, 1, 1] or sum(post.sizes()) <= 24
    assert len(post.identities()) == 7


async def test_a_request_too_large_for_heap_is_halved(post: Post) -> None:
    post.heap.knobs = Knobs(max_body_bytes=1_000)
    await post.put(30)

    async with post.sending():
        book = await post.until_empty()

    assert (book.delivered, book.dead_letters) == (30, {})


async def test_an_event_too_large_for_heap_alone_is_set_aside(post: Post) -> None:
    post.heap.knobs = Knobs(max_body_bytes=1_000)
    await post.put(1, text="x" * 1_000)
    await post.put(2)

    async with post.sending():
        book = await post.until_empty()

    assert (book.delivered, book.dead_letters) == (2, {"too_large_for_heap": 1})
    assert post.counted("relay_dead_letters_total", environment="tests", reason="too_large_for_heap") == 1


@pytest.mark.parametrize(
    "refusal", [Reply(400, b"Bad Request"), Reply(400, b"postBody.events[0] is bad"), 401, 403, 404, 302]
)
async def test_an_app_that_refuses_everything_is_held_and_recovers(post: Post, refusal: Reply | int) -> None:
    """Two events at most are believed to be at fault; the rest waits, and is delivered after the first success."""
    named = isinstance(refusal, Reply) and b"events[0]" in refusal.body
    post.heap.fail_always(refusal)
    await post.put(50)

    async with post.sending() as sender:
        with capture_logs() as logs:
            await until(post.book, lambda _: sender.lanes()[0].standing == "held")
            post.heap.recover()
            book = await post.until_empty()

    assert (book.delivered, book.dead_letters) == ((48, {"refused_by_heap": 2}) if named else (50, {}))
    assert sender.lanes()[0].standing == "open"
    assert {"lane.held", "lane.opened"} <= {line["event"] for line in logs}
    assert len(post.identities()) == book.delivered


async def test_a_held_lane_tries_one_event_every_five_minutes(post: Post) -> None:
    post.heap.fail_always(403)
    await post.put(5)

    async with post.sending():
        await post.heap.wait_for_requests(4)
        post.heap.recover()
        await post.until_empty()

    moments = [request.received_at for request in post.heap.requests[:4]]
    assert post.sizes()[:4] == [5, 1, 1, 1]
    assert all(299 <= later - earlier <= 310 for earlier, later in pairwise(moments))


async def test_a_lone_bad_event_does_not_hold_the_lane_for_ever(post: Post) -> None:
    """Another event is tried first, and its success tells that the fault was the event's."""
    post.heap.refuse_if = lambda event: "Bad Request" if event["identity"] == "bad" else None
    await post.put(1, "bad")

    async with post.sending() as sender:
        await until(post.book, lambda _: sender.lanes()[0].standing == "held")
        await post.put(1, "good")
        book = await post.until_empty()

    assert post.identities() == ["good"]
    assert (book.delivered, book.dead_letters) == (1, {"refused_by_heap": 1})


async def test_an_event_waits_five_minutes_at_most_for_its_next_try(post: Post) -> None:
    post.heap.fail_always(503)
    await post.put(1)

    async with post.sending():
        await post.heap.wait_for_requests(40)
        ready = await post.outbox.peek(post.lane, limit=1, max_bytes=1, now=post.time.clock.wall())
        post.heap.recover()

    assert ready.next_due is None or ready.next_due <= post.time.clock.wall() + LONGEST_PAUSE


async def test_no_identity_is_logged_even_if_heap_echoes_it(post: Post) -> None:
    post.heap.replies.append(Reply(400, b"postBody.events[0].identity ada@example.org is bad"))
    post.heap.replies.append(Reply(403, b"ada@example.org may not"))
    post.heap.replies.append(Reply(201, b"hello ada@example.org"))
    await post.put(3, "ada@example.org")

    with capture_logs() as logs:
        async with post.sending() as sender:
            await post.until_empty()
            states = sender.lanes()

    assert {"event.refused", "lane.held", "answer.unusual"} <= {line["event"] for line in logs}
    assert "ada" not in str(logs)
    assert "ada" not in str(states)


async def test_the_lanes_state_tells_the_last_answer(post: Post) -> None:
    await post.put(1)

    async with post.sending() as sender:
        await post.until_empty()
        [state] = sender.lanes()

    assert state.lane == post.lane
    assert (state.standing, state.since, state.until, state.failures) == ("open", None, None, 0)
    assert state.answer is not None
    assert (state.answer.kind, state.answer.status) == (Kind.DELIVERED, 200)
    assert 0 < state.used < 0.1


async def test_every_attempt_carries_an_event_once(post: Post) -> None:
    await post.put(300)

    async with post.sending():
        await post.until_empty()

    assert all(len(set(keys(batch))) == len(batch) for batch in post.heap.batches)
    assert len({event.idempotency_key for event in post.heap.stored(APP_ID)}) == 300
