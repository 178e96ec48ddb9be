"""Heap's limits hold end to end, as the stand-in measures them, and little of the budget is wasted."""

import asyncio

import pytest

from relay.core.budget import APP_EVENTS
from relay.model import Clock, Lane
from relay.outbox.memory import MemoryOutbox
from relay.sandbox.heap import Fault, Reply, StandInHeap
from tests.sender.conftest import APP_ID, Post, until

SHARE = 0.8
PER_SECOND = SHARE * APP_EVENTS.amount / APP_EVENTS.window


async def sent_within(post: Post, seconds: float) -> int:
    """How many events were sent to Heap in the first so many seconds, once they have passed."""
    await until(post.book, lambda _: post.time.passed >= seconds)
    return sum(request.events for request in post.heap.requests if request.received_at <= seconds)


def assert_share_kept(heap: StandInHeap) -> None:
    """At 0.8: a burst and a minute's rate of events, 24 requests that name an identity."""
    assert heap.violations == []
    assert heap.peaks.app_minute <= 13_000
    assert heap.peaks.identity_minute <= 867
    assert heap.peaks.identity_requests <= 24


async def test_a_backlog_uses_the_budget_and_no_more(post: Post) -> None:
    await post.put(17_000)

    async with post.sending():
        sent = await sent_within(post, 80)

    assert sent >= 0.95 * PER_SECOND * 80
    assert len(post.heap.requests) <= 25
    assert_share_kept(post.heap)


async def test_a_backlog_of_large_events_uses_the_budget(post: Post) -> None:
    """Of 10 kB each: 750 kB carry 75 of them."""
    await post.put(2_200, text=[("x" * 1_000)] * 10)

    async with post.sending():
        sent = await sent_within(post, 10)

    assert sent >= 0.95 * PER_SECOND * 10
    assert max(request.size for request in post.heap.requests) <= 750_000


async def test_a_busy_identity_at_the_head_blocks_nobody_and_uses_its_budget(post: Post) -> None:
    await post.put(5_000, "hot")
    await post.put(100)

    async with post.sending():
        await sent_within(post, 120)

    hot = [event.received_at for event in post.heap.stored(APP_ID) if event.identity == "hot"]
    others = [event.received_at for event in post.heap.stored(APP_ID) if event.identity != "hot"]
    assert len(others) == 100
    assert max(others) < 2.5  # they gather for 2 s as they do alone, and one look past the head finds them
    assert len([at for at in hot if at <= 120]) >= 0.95 * SHARE * 1_000 / 60 * 120
    assert_share_kept(post.heap)


async def test_a_backlog_of_few_identities_uses_the_budget(post: Post) -> None:
    """Fifteen are as many as an app's limit holds of an identity's; the sixteenth is for rounding."""
    for number in range(16):
        await post.put(700, f"busy-{number}")

    async with post.sending():
        sent = await sent_within(post, 50)

    assert sent >= 0.95 * PER_SECOND * 50
    assert_share_kept(post.heap)


@pytest.mark.parametrize("answer", [Fault.STORE_THEN_502, 429, 503, Reply(400, b"Bad Request"), Reply(413)])
async def test_no_limit_is_passed_whatever_heap_answers(post: Post, answer: Fault | Reply | int) -> None:
    await post.put(3_000, "hot")
    await post.put(3_000)
    post.heap.fail_always(answer)

    async with post.sending():
        await sent_within(post, 300)

    assert_share_kept(post.heap)


async def test_no_limit_is_passed_with_many_bad_events(post: Post) -> None:
    post.heap.refuse_if = lambda event: "Bad Request" if event["idempotency_key"].endswith("7") else None
    await post.put(300, "hot")
    await post.put(300)

    async with post.sending():
        book = await post.until_empty()

    assert (book.delivered, book.dead_letters) == (540, {"refused_by_heap": 60})
    assert_share_kept(post.heap)


async def test_no_limit_is_passed_in_a_crash_loop(post: Post) -> None:
    post.heap.replies.extend([Fault.STORE_THEN_DROP] * 3)
    await post.put(6_000, "hot")
    await post.put(14_000)

    for life in range(12):
        async with post.sending():
            await sent_within(post, post.time.passed + (2, 7, 16)[life % 3])
            await post.crash()

    assert len(post.identities()) > 5_000
    assert_share_kept(post.heap)


async def test_a_lane_whose_heap_is_dead_delays_no_other() -> None:
    """In real time: two lanes at once."""
    box = MemoryOutbox(max_bytes=1 << 30, dead_letter_share=0.25)
    await box.open()
    async with StandInHeap() as dead, StandInHeap() as alive:
        dead.fail_always(Fault.HANG)
        posts = [Post.on(box, heap) for heap in (dead, alive)]
        for post in posts:
            await post.put(3)

        lanes = {Lane(heap.url, APP_ID): 1.0 for heap in (dead, alive)}
        async with posts[0].sending(lanes, clock=Clock(), sleep=asyncio.sleep, patience=1):
            await dead.wait_for_requests(1)
            await alive.wait_for_events(3, within=5)

    assert dead.stored(APP_ID) == []
