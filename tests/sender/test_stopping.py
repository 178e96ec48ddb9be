"""Stopping, draining, crashing and losing a lease: at no moment is an event lost or settled by the wrong hand."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from relay.core.settle import Part
from relay.errors import OutboxError
from relay.model import Lane, Lease, Ready, Settlement
from relay.outbox import Outbox
from relay.outbox.memory import MemoryOutbox
from relay.outbox.sqlite import SqliteOutbox
from relay.sandbox.heap import Reply
from relay.sender.attempts import LEASE
from relay.sender.purse import OwnPurse
from tests.sender.conftest import Gate, Post, until


@pytest.fixture(params=["memory", "sqlite"])
async def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outbox]:
    """These rules are about what is stored when; so they are shown on both."""
    box: Outbox = (
        MemoryOutbox(max_bytes=1 << 30, dead_letter_share=0.25)
        if request.param == "memory"
        else SqliteOutbox(tmp_path / "outbox.db", max_bytes=1 << 30, dead_letter_share=0.25)
    )
    await box.open()
    yield box
    await box.close()


async def due(post: Post) -> Ready:
    return await post.outbox.peek(post.lane, limit=1000, max_bytes=1 << 20, now=post.time.clock.wall())


async def test_a_stop_in_mid_request_waits_for_the_answer_and_settles_it(post: Post) -> None:
    gate = Gate()
    post.heap.replies.append(gate)
    await post.put(3)

    async with post.sending(patience=5) as sender:
        await gate.reached.wait()
        stop = asyncio.create_task(sender.stop())
        await asyncio.sleep(0)
        assert not stop.done()
        gate.opened.set()
        await stop

    assert (await post.book()).delivered == 3
    assert sender.delivered == 3


async def test_a_stop_after_a_refusal_releases_what_was_not_sent_yet(post: Post) -> None:
    gate = Gate(400)
    post.heap.replies.append(gate)
    await post.put(4)

    async with post.sending(patience=5) as sender:
        await gate.reached.wait()
        stop = asyncio.create_task(sender.stop())
        await asyncio.sleep(0)
        gate.opened.set()
        await stop

    assert len(post.heap.requests) == 1
    assert (await due(post)).events == 4


async def test_a_stop_does_not_wait_for_a_busy_heap(post: Post) -> None:
    post.heap.fail_always(503)
    post.time.stands_still = lambda _: bool(post.heap.requests)
    await post.put(1)

    async with post.sending() as sender:
        await post.heap.wait_for_requests(1)
        async with asyncio.timeout(1):
            await sender.stop()

    assert (await post.book()).waiting == 1


async def test_a_stopped_sender_claims_nothing_more(post: Post) -> None:
    async with post.sending() as sender:
        await sender.stop()
        await post.put(1)

    assert post.heap.requests == []
    assert (await due(post)).events == 1


async def test_a_cancelled_sender_loses_nothing(post: Post) -> None:
    gate = Gate()
    post.heap.replies.append(gate)
    await post.put(2)

    async with post.sending(patience=5):
        await gate.reached.wait()
        await post.crash()
    assert (await post.book()).waiting == 2

    async with post.sending():
        book = await post.until_empty()
    assert book.delivered == 2
    assert len(post.identities()) == 2


@pytest.mark.parametrize("status", [200, 503])
async def test_whoever_lost_the_lease_neither_settles_nor_sends_again(post: Post, status: int) -> None:
    other: list[Lease] = []

    async def take_over(_: web.BaseRequest) -> web.StreamResponse:
        """Somebody whose clock is ahead claims them meanwhile."""
        later = post.time.clock.wall() + 61
        other.append(await post.outbox.claim(post.lane, limit=9, max_bytes=1 << 20, now=later, lease=500))
        return web.Response(status=status)

    post.heap.replies.append(take_over)
    post.time.stands_still = lambda _: bool(other)
    await post.put(2)

    async with post.sending(patience=5) as sender:
        await until(post.book, lambda _: bool(other))
        await sender.stop()

    mine = frozenset(claim.id for claim in other[0].claims)
    assert len(post.heap.batches) == 1
    assert (len(mine), sender.delivered) == (2, 0)
    assert await post.outbox.settle(other[0].token, Settlement(ack=mine), now=post.time.clock.wall()) == mine


async def test_a_lost_lease_is_noticed_before_the_next_try(post: Post) -> None:
    async def take_over(_: web.BaseRequest) -> web.StreamResponse:
        later = post.time.clock.wall() + 61
        await post.outbox.claim(post.lane, limit=9, max_bytes=1 << 20, now=later, lease=500)
        return web.Response(status=503)

    post.heap.replies.append(take_over)
    await post.put(2)

    with capture_logs() as logs:
        post.time.stands_still = lambda _: any(line["event"] == "lease.lost" for line in logs)
        async with post.sending(patience=5):
            await until(lambda: _lines(logs), lambda lines: "lease.lost" in lines)

    assert len(post.heap.batches) == 1


async def _lines(logs: Sequence[Mapping[str, object]]) -> set[object]:
    return {line["event"] for line in logs}


async def test_a_drain_does_not_linger_and_ends_when_nothing_is_left(post: Post) -> None:
    await post.put(400)

    async with post.sending() as sender:
        await sender.drain()

    assert (await post.book()).delivered == 400
    assert post.heap.requests[-1].received_at <= 3.5


async def test_a_drain_waits_for_events_that_are_due_soon(post: Post) -> None:
    await post.put(200, "hot")

    async with post.sending() as sender:
        await sender.drain()

    assert (await post.book()).delivered == 200
    assert post.heap.violations == []


async def test_a_drain_gives_up_on_a_held_lane(post: Post) -> None:
    post.heap.fail_always(403)
    await post.put(3)

    async with post.sending() as sender:
        await sender.drain()

    assert (await post.book()).waiting == 3


async def test_a_drain_ends_when_told_to_stop(post: Post) -> None:
    post.heap.fail_always(503)
    post.time.stands_still = lambda _: bool(post.heap.requests)
    await post.put(3)

    async with post.sending() as sender:
        drain = asyncio.create_task(sender.drain())
        await post.heap.wait_for_requests(1)
        await sender.stop()
        await drain

    assert (await post.book()).waiting == 3


class Unsteady(MemoryOutbox):
    """A storage whose named operations fail a few times."""

    def __init__(self, **failures: Exception | int) -> None:
        super().__init__(max_bytes=1 << 30, dead_letter_share=0.25)
        self.failures = failures

    def _fail(self, name: str) -> None:
        left = self.failures.get(name, 0)
        if isinstance(left, Exception):
            del self.failures[name]
            raise left
        if left:
            self.failures[name] = left - 1
            raise OutboxError("the disk is gone")

    async def claim(self, lane: Lane, *, limit: int, max_bytes: int, now: float, lease: float) -> Lease:
        self._fail("claim")
        return await super().claim(lane, limit=limit, max_bytes=max_bytes, now=now, lease=lease)

    async def renew(self, token: str, *, until: float) -> int:
        self._fail("renew")
        return await super().renew(token, until=until)

    async def settle(self, token: str, settlement: Settlement, *, now: float) -> frozenset[int]:
        self._fail("settle")
        return await super().settle(token, settlement, now=now)


async def unsteady(post: Post, **failures: Exception | int) -> None:
    post.outbox = Unsteady(**failures)
    await post.outbox.open()


async def test_what_heap_has_is_settled_before_anything_else_is_sent(post: Post) -> None:
    """Even when the storage is away for longer than the lease."""
    await unsteady(post, settle=60)
    await post.put(2)

    with capture_logs() as logs:
        async with post.sending():
            await post.until(lambda book: book.delivered == 2)
            await post.put(1)
            await post.until_empty()

    assert post.sizes() == [2, 1]
    assert post.time.passed > 100
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["outbox.failing"]
    assert "outbox.recovered" in await _lines(logs)


@pytest.mark.parametrize("operation", ["claim", "renew"])
async def test_a_storage_that_fails_and_comes_back_delays_only(post: Post, operation: str) -> None:
    await unsteady(post, **{operation: 3})
    post.heap.replies.append(Reply(429, b"", (("Retry-After", "20"),)))
    await post.put(2)

    async with post.sending():
        book = await post.until_empty()

    assert book.delivered == 2
    assert len(post.identities()) == 2
    assert post.time.passed < LEASE  # nobody waits for it to end


class Lent(OwnPurse):
    """A purse that cannot be reached, once."""

    is_near = False

    async def spend(self, part: Part) -> bool:
        if not self.is_near:
            self.is_near = True
            raise OutboxError("Redis is away")
        return await super().spend(part)


async def test_what_was_claimed_when_a_shared_budget_was_away_goes_once_that_is_back(post: Post) -> None:
    """And not only when the lease ends."""
    await post.put(2)

    async with post.sending(purses=lambda _, share: Lent(share, post.time.clock)):
        await post.until_empty()

    assert post.sizes() == [2]
    assert post.time.passed < LEASE


async def test_a_crashed_lane_is_started_again(post: Post) -> None:
    await unsteady(post, claim=ValueError("a bug"))
    await post.put(1)

    with capture_logs() as logs:
        async with post.sending():
            await post.until_empty()

    assert "task.crashed" in await _lines(logs)
    assert post.counted("relay_task_restarts_total", task="sender") == 1
