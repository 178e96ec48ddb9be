"""Lanes that come, go, come again and change their share while the sender is at work."""

import asyncio

import pytest

from relay.sandbox.heap import StandInHeap
from relay.sender import Sender
from tests.sender.conftest import OTHER_ID, Gate, Post, until


async def standing(sender: Sender) -> str:
    return sender.lanes()[0].standing


@pytest.fixture
def gate(heap: StandInHeap) -> Gate:
    """The first request stands before it."""
    gate = Gate()
    heap.replies.append(gate)
    return gate


async def test_a_lane_that_comes_is_delivered(post: Post) -> None:
    await post.put_for(post.other, 3)

    async with post.sending() as sender:
        await post.put(1)
        await post.until(lambda book: book.delivered == 1)
        assert await post.waiting(post.other) == 3
        await sender.reload({post.lane: 0.8, post.other: 0.8})
        await post.until_empty()

    assert len(post.heap.stored(OTHER_ID)) == 3


async def test_a_sender_without_lanes_waits_for_the_first_one(post: Post) -> None:
    await post.put(1)

    async with post.sending({}) as sender:
        await asyncio.sleep(0)
        await sender.reload({post.lane: 0.8})
        await post.until_empty()

    assert sender.delivered == 1


async def test_a_lane_that_goes_ends_with_its_request_in_flight_and_keeps_the_rest(post: Post, gate: Gate) -> None:
    await post.put(3)

    async with post.sending(patience=5) as sender:
        await gate.reached.wait()
        await sender.reload({post.other: 0.8})
        await post.put(2)
        gate.opened.set()
        await post.until(lambda book: book.delivered == 3)
        await post.put_for(post.other, 1)
        await post.until(lambda book: book.delivered == 4)

    assert await post.waiting(post.lane) == 2
    assert [state.lane for state in sender.lanes()] == [post.other]
    assert sender.delivered == 4


async def test_a_lane_that_goes_and_comes_again_goes_on_and_sends_nothing_twice(post: Post, gate: Gate) -> None:
    await post.put(3)

    async with post.sending(patience=5) as sender:
        await gate.reached.wait()
        post.time.stands_still = lambda _: sender.delivered == 0  # else the lease would end meanwhile
        for lanes in ({}, {post.lane: 0.8}, {}, {post.lane: 0.8}):
            await sender.reload(lanes)
        gate.opened.set()
        await post.until(lambda book: book.delivered == 3)
        await post.put(2)
        await post.until_empty()

    assert post.heap.duplicates == 0
    assert post.sizes() == [3, 2]
    assert sender.delivered == 5


async def test_the_request_in_flight_is_not_disturbed_by_another_share(post: Post, gate: Gate) -> None:
    await post.put(3)

    async with post.sending(patience=5) as sender:
        await gate.reached.wait()
        await sender.reload({post.lane: 0.4})
        gate.opened.set()
        await post.until_empty()

    assert post.sizes() == [3]


async def test_another_share_begins_with_an_empty_budget(post: Post) -> None:
    """What was saved up at the old rate is not spent on top of the new one."""
    async with post.sending() as sender:
        await post.put(1)
        await post.until_empty()
        post.time.passed += 60
        await sender.reload({post.lane: 0.4})
        began = post.time.passed
        await post.put(900)
        await post.until_empty()

    sent = 0
    for request in post.heap.requests[1:]:
        sent += request.events
        assert sent <= 0.4 * 250 * (request.received_at - began) + 1


async def test_a_held_lane_stays_held_at_another_share(post: Post) -> None:
    post.heap.fail_always(404)
    await post.put(1)

    async with post.sending() as sender:
        await until(lambda: standing(sender), lambda found: found == "held")
        await sender.reload({post.lane: 0.4})

        assert await standing(sender) == "held"


async def test_a_stop_waits_for_a_lane_that_is_leaving(post: Post, gate: Gate) -> None:
    await post.put(3)

    async with post.sending(patience=5) as sender:
        await gate.reached.wait()
        await sender.reload({})
        stop = asyncio.create_task(sender.stop())
        await asyncio.sleep(0)
        assert not stop.done()
        gate.opened.set()
        await stop

    assert (await post.book()).delivered == sender.delivered == 3


async def test_a_reload_during_a_drain_changes_nothing(post: Post, gate: Gate) -> None:
    await post.put(3)

    async with post.sending(patience=5) as sender:
        await gate.reached.wait()
        drain = asyncio.create_task(sender.drain())
        await asyncio.sleep(0)
        await sender.reload({post.other: 0.8})
        await post.put(2)
        gate.opened.set()
        await drain

    assert (await post.book()).delivered == 5


async def test_a_reload_after_a_stop_starts_nothing(post: Post) -> None:
    async with post.sending() as sender:
        await sender.stop()
        await sender.reload({post.other: 0.8})
        await post.put_for(post.other, 1)

    assert post.heap.requests == []
    assert [state.lane for state in sender.lanes()] == [post.lane]
