"""Heap's budgets shared on Redis: the limits hold for all relays together, and what one does not use others may."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.core.budget import APP_EVENTS, rate_of, rates
from relay.errors import OutboxError
from relay.model import Claim, Lane
from relay.outbox.redis import RedisAddress, RedisOutbox
from relay.outbox.redis.purse import SharedPurse
from relay.outbox.redis.wire import lane_name
from tests.outbox.boxes import LANE, OTHER_LANE, event, make_outbox, opened
from tests.outbox.servers import free_port

SHARE = 0.8


@pytest.fixture
async def relays(tmp_path: Path) -> AsyncIterator[list[RedisOutbox]]:
    """Four relays with one outbox."""
    boxes = [make_outbox("redis", tmp_path) for _ in range(4)]
    async with opened(boxes[0]), opened(boxes[1]), opened(boxes[2]), opened(boxes[3]):
        yield [box for box in boxes if isinstance(box, RedisOutbox)]


def claims(events: int, identity: str = "") -> list[Claim]:
    """Of one identity, or each of somebody new."""
    return [Claim(number, event(identity=identity or secrets.token_hex(8)), 0) for number in range(events)]


async def has_run(relay: RedisOutbox, *lanes: Lane, tokens: int = 0) -> None:
    """The fleet has run for a while: who was not named for a minute has saved up, and the lanes so much."""
    shard = relay._shards.home.shard
    for lane in lanes:
        await relay.purse(lane, SHARE).look()
        saved = ("tokens", tokens, "start", str(time.time() - 60))
        await shard.read("HSET", f"budget:{lane_name(lane)}", *saved)


async def spend(purse: SharedPurse, times: int, each: int) -> int:
    """As a busy sender does: spend as soon as there is enough, over and over."""
    for _ in range(times):
        while not await purse.spend(claims(each)):
            await asyncio.sleep(purse.budget.wait(each, time.monotonic()))
    return times * each


async def test_relays_at_full_load_use_the_whole_limit_together_and_no_more(relays: list[RedisOutbox]) -> None:
    """What was spent and what is left is what came in: nothing is lost between them, and nothing spent twice."""
    rate = rate_of(APP_EVENTS, SHARE)
    purses = [relay.purse(LANE, SHARE) for relay in relays]
    await has_run(relays[0], LANE)
    began = time.time()

    spent = sum(await asyncio.gather(*(spend(purse, 6, 10) for purse in purses)))

    await purses[0].look()
    left = rate.burst - rate.per_second * purses[0].budget.wait(int(rate.burst), time.monotonic())
    came_in = rate.per_second * (time.time() - began)
    assert spent == 240
    assert spent + left == pytest.approx(came_in, rel=0.05)


async def test_what_others_spent_counts_as_used(relays: list[RedisOutbox]) -> None:
    one, other = relays[0].purse(LANE, SHARE), relays[1].purse(LANE, SHARE)
    await has_run(relays[0], LANE, tokens=100)
    await other.look()
    assert await one.spend(claims(60))
    assert await other.spend(claims(30))

    await one.look()

    for purse in (one, other):
        assert purse.budget.used(time.monotonic()) == pytest.approx(90 / 60 / rate_of(APP_EVENTS, SHARE).per_second)


async def test_what_one_relay_spent_another_cannot(relays: list[RedisOutbox]) -> None:
    one, other = relays[0].purse(LANE, SHARE), relays[1].purse(LANE, SHARE)
    await has_run(relays[0], LANE, tokens=500)

    assert await one.spend(claims(500))

    assert not await other.spend(claims(500))
    assert other.budget.wait(500, time.monotonic()) > 1


async def test_an_identitys_events_are_counted_for_all_relays(relays: list[RedisOutbox]) -> None:
    """The other one learns of whom it was, and puts off hers while the others' go."""
    one, other = relays[0].purse(LANE, SHARE), relays[1].purse(LANE, SHARE)
    await has_run(relays[0], LANE, tokens=500)
    burst = int(rates(SHARE)[1].burst)
    assert await one.spend(claims(burst, "ada"))

    both = [*claims(burst, "ada"), *claims(1, "bob")]
    assert not await other.spend(both)

    selection = other.budget.select(both, time.monotonic())
    assert "bob" in {claim.event.identity for claim in selection.go}
    assert len(selection.go) < burst
    assert await other.spend(claims(1, "bob"))


async def test_every_app_has_budgets_of_its_own(relays: list[RedisOutbox]) -> None:
    await has_run(relays[0], LANE, OTHER_LANE, tokens=500)

    assert await relays[0].purse(LANE, SHARE).spend(claims(500))

    assert await relays[0].purse(OTHER_LANE, SHARE).spend(claims(500))


async def test_a_new_fleet_begins_with_nothing_saved(relays: list[RedisOutbox]) -> None:
    """So that relays that crash again and again stay within the limits."""
    purse = relays[0].purse(LANE, SHARE)

    assert not await purse.spend(claims(5))


async def test_a_request_that_cannot_be_paid_whole_costs_nothing(relays: list[RedisOutbox]) -> None:
    purse = relays[0].purse(LANE, SHARE)
    await has_run(relays[0], LANE, tokens=500)

    assert not await purse.spend([*claims(499), *claims(1, "ada") * 400])

    assert await purse.spend(claims(500))


async def test_an_identity_without_payments_takes_no_memory_once_it_is_full_again(
    relays: list[RedisOutbox], tmp_path: Path
) -> None:
    await has_run(relays[0], LANE, tokens=5)
    assert await relays[0].purse(LANE, SHARE).spend(claims(5))

    found = await relays[0]._link.command("KEYS", f"{tmp_path}:*budget:* *")
    left = [await relays[0]._link.command("PTTL", key) for key in found]

    assert len(left) == 5
    assert all(0 < each < 60_000 for each in left)


async def test_without_redis_nothing_is_spent() -> None:
    address = RedisAddress(nodes=(("127.0.0.1", free_port()),))
    purse = RedisOutbox(address, max_bytes=1, dead_letter_share=0).purse(LANE, SHARE)

    with pytest.raises(OutboxError, match="cannot be reached"):
        await purse.spend(claims(1))

    assert purse.budget.used(time.monotonic() + 1) == 0
