"""Many relays on one Redis: one holds an event at a time, whatever their clocks say and whatever version they are."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from time import time

import msgspec
import pytest
from msgspec import structs

from relay.errors import OutboxError
from relay.model import Book, Coalescing, Event, Settlement
from relay.outbox import Put
from relay.outbox.bookkeeping import SLICE
from relay.outbox.redis import RedisOutbox, wire
from tests.outbox.boxes import (
    ANY,
    LANE,
    NOON,
    ROOMY,
    book,
    claim,
    event,
    events,
    ids,
    make_outbox,
    noted,
    opened,
    sent,
    shared_redis,
    taken,
)

Fleet = list[RedisOutbox]


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    boxes = [make_outbox("redis", tmp_path) for _ in range(3)]
    async with opened(boxes[0]), opened(boxes[1]), opened(boxes[2]):
        yield [box for box in boxes if isinstance(box, RedisOutbox)]


def with_clock(folder: Path, clock: Callable[[], float]) -> RedisOutbox:
    """A relay in a pod whose clock says that."""
    address = replace(shared_redis().address, prefix=f"{folder}:")
    return RedisOutbox(address, max_bytes=ROOMY, dead_letter_share=0.25, clock=clock)


# Holding.


async def test_what_one_relay_holds_another_does_not_get(fleet: Fleet) -> None:
    await fleet[0].put(Put(put := events(4)))

    first = await claim(fleet[1], limit=2)
    second = await claim(fleet[2])

    assert [*taken(first), *taken(second)] == put


async def test_what_a_relay_that_died_held_is_taken_over_after_its_lease(fleet: Fleet) -> None:
    await fleet[0].put(Put(events(2)))
    lost = await claim(fleet[0])

    theirs = await claim(fleet[1], NOON + 60)

    assert len(theirs.claims) == 2
    assert await fleet[0].renew(lost.token, until=NOON + 120) == 0
    assert await fleet[0].settle(lost.token, Settlement(ack=frozenset(ids(lost))), now=NOON + 61) == set()
    assert await fleet[1].settle(theirs.token, Settlement(ack=frozenset(ids(theirs))), now=NOON + 61) == set(
        ids(theirs)
    )
    assert await book(fleet[2]) == Book(captured=2, delivered=2)


async def test_relays_that_put_claim_and_settle_at_once_deliver_every_event_once(fleet: Fleet) -> None:
    delivered: Counter[str] = Counter()
    everything = [events(20) for _ in range(30)]

    async def deliver(relay: RedisOutbox) -> None:
        while delivered.total() < 600:
            lease = await claim(relay, limit=7)
            settled = await relay.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)
            delivered.update(one.event.key for one in lease.claims if one.id in settled)

    async def put(relay: RedisOutbox, mine: int) -> None:
        for some in everything[mine::3]:
            await relay.put(Put(some))

    await asyncio.gather(*map(deliver, fleet), *(put(relay, mine) for mine, relay in enumerate(fleet)))

    assert set(delivered.values()) == {1}
    assert await book(fleet[0]) == Book(captured=600, delivered=600)


async def test_what_one_relay_sent_the_others_know_at_once(fleet: Fleet) -> None:
    for number, relay in enumerate(fleet):
        one = event(NOON + number)
        await relay.put(Put([one], coalescing=sent(one, state=number)))
        for other in fleet:
            ((_, last),) = (await other.recall([("production", "ada")])).items()
            assert (last.fingerprint, last.at) == (number, NOON + number)


def news(*events: Event, state: int = 1, heartbeat: float = 0) -> Coalescing:
    """As capture tells it of an environment that sends on change."""
    return structs.replace(sent(*events, state=state), heartbeats={"production": heartbeat})


async def test_what_two_relays_take_for_news_at_once_is_sent_once(fleet: Fleet) -> None:
    """Both asked before either had put it."""
    one, other = event(NOON), event(NOON + 0.01)
    await fleet[0].put(Put([one], journal=[noted(one)], coalescing=news(one)))
    await fleet[1].put(Put([other], journal=[noted(other)], coalescing=news(other)))

    assert taken(await claim(fleet[2], NOON + 1)) == [one]
    assert await book(fleet[2]) == Book(captured=2, waiting=1, skipped={"unchanged": 1})
    (found,) = await fleet[2].trace("ada", limit=9, now=NOON)
    assert (found.key, found.unchanged, found.unchanged_at) == (one.key, 1, NOON + 0.01)


async def test_what_changed_meanwhile_or_has_its_heartbeat_is_sent(fleet: Fleet) -> None:
    first, changed, back, later = event(NOON), event(NOON + 1), event(NOON + 2), event(NOON + 62)
    await fleet[0].put(Put([first], coalescing=news(first, state=1)))
    both = {changed.key: 2, back.key: 1}
    await fleet[1].put(Put([changed, back], coalescing=structs.replace(news(changed, heartbeat=60), fingerprints=both)))
    await fleet[2].put(Put([later], coalescing=news(later, state=1, heartbeat=60)))

    assert taken(await claim(fleet[0], NOON + 99)) == [first, changed, back, later]


async def test_a_put_again_of_what_is_stored_is_not_taken_for_old_news(fleet: Fleet) -> None:
    one = event(NOON)
    for relay in fleet:
        await relay.put(Put([one], coalescing=news(one)))

    assert await book(fleet[0]) == Book(captured=1, waiting=1)


async def test_a_put_lets_go_of_a_slice_of_what_it_replaces(fleet: Fleet) -> None:
    """Of an identity that has thousands waiting: Redis does nothing else meanwhile."""
    await fleet[0].put(Put(events(SLICE + 100), coalescing=Coalescing(latest={"production": 1000})))
    behind = Coalescing(latest={"production": 0})

    await fleet[0].put(Put([event(NOON + 1)], coalescing=behind))
    assert (await book(fleet[0])).superseded == SLICE
    await fleet[0].put(Put([newest := event(NOON + 2)], coalescing=behind))

    assert await book(fleet[0]) == Book(captured=SLICE + 102, superseded=SLICE + 101, waiting=1)
    assert taken(await claim(fleet[1])) == [newest]


# Clocks.


@pytest.mark.parametrize("ahead", [-5000.0, -90.0, 90.0, 5000.0])
async def test_a_lease_lasts_as_long_for_a_pod_whose_clock_is_wrong(fleet: Fleet, tmp_path: Path, ahead: float) -> None:
    await fleet[0].put(Put(events(1, time() - 1)))
    async with opened(with_clock(tmp_path, lambda: time() + ahead)) as wrong:
        lease = await wrong.claim(LANE, limit=9, max_bytes=ANY, now=time() + ahead, lease=60)
        assert len(lease.claims) == 1

        async def found(now: float) -> int:
            return (await fleet[0].peek(LANE, limit=9, max_bytes=ANY, now=now)).events

        assert await found(time() + 55) == 0
        assert await found(time() + 65) == 1

        await wrong.renew(lease.token, until=time() + ahead + 100)
        assert await found(time() + 95) == 0

        (number,) = ids(lease)
        await wrong.settle(lease.token, Settlement(retry={number: time() + ahead + 30}), now=time() + ahead)
        assert await found(time() + 25) == 0
        assert await found(time() + 35) == 1


async def test_a_pod_whose_clock_is_wrong_is_told_times_of_its_own(fleet: Fleet, tmp_path: Path) -> None:
    now = time()
    async with opened(with_clock(tmp_path, lambda: time() + 1000)) as wrong:
        await fleet[0].put(Put([event(now - 9), event(now + 50)]))

        ready = await wrong.peek(LANE, limit=9, max_bytes=ANY, now=time() + 1000)
        (level,) = await wrong.levels()

        assert (ready.events, ready.oldest, ready.next_due) == (1, now + 991, now + 1050)
        assert level.oldest == now + 991


async def test_an_event_keeps_its_time_stamp_whatever_the_clocks_say(tmp_path: Path, fleet: Fleet) -> None:
    put = event(time() + 1000)
    async with opened(with_clock(tmp_path, lambda: time() + 1000)) as wrong:
        await wrong.put(Put([put]))

    assert taken(await fleet[0].claim(LANE, limit=9, max_bytes=ANY, now=time() + 1, lease=60)) == [put]


# Forgetting.


async def test_the_journals_order_does_not_grow_by_what_was_forgotten(fleet: Fleet) -> None:
    """It has their numbers until they are the oldest, beside those of all that the journal may have."""
    for name in ("ada", "bob", "cyd"):
        some = [event(identity=name) for _ in range(1000)]
        await fleet[0].put(Put(some, journal=[noted(one) for one in some]))
        await fleet[0].forget(name)

    assert await fleet[0]._shards.home.shard.read("LLEN", "journal:order") == 2000


# Versions.


async def put_by_a_newer_relay(outbox: RedisOutbox) -> str:
    """Its entries have another format, and say so in front and in the row that scripts go by; return its number."""
    await outbox.put(Put([one := event()], journal=[noted(one)]))
    shard = outbox._shards.home.shard
    ((number, row),) = (await shard.read("HGETALL", "waiting")).items()
    newer = [wire.FORMAT + 1, *msgspec.msgpack.decode(row)[1:], False, False, False, "what only a newer relay knows"]
    await shard.read("HSET", "waiting", number, msgspec.msgpack.encode(newer))
    await shard.read("HSET", "events", number, bytes([wire.FORMAT + 1]) + b"what only a newer relay can read")
    return str(number.decode())


async def test_events_of_a_newer_format_are_left_to_newer_relays(fleet: Fleet) -> None:
    """While a fleet is upgraded relays of both versions deliver, each what it can read."""
    await put_by_a_newer_relay(fleet[0])
    await fleet[0].put(Put([mine := event()]))

    lease = await claim(fleet[1])

    assert taken(lease) == [mine]
    await fleet[1].settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)
    with pytest.raises(OutboxError, match=r"holds events of a newer relay's only.*; run that relay"):
        await claim(fleet[1])
    assert await book(fleet[1]) == Book(captured=2, delivered=1, waiting=1)


async def test_an_older_relay_carries_along_what_only_a_newer_one_knows(fleet: Fleet) -> None:
    """It may set such an event aside, as too old, and let it wait again."""
    number = await put_by_a_newer_relay(fleet[0])

    await fleet[1].sweep(expired_before=NOON + 1, drop_before=0, now=NOON + 1)
    assert await fleet[1].replay([int(number)], now=NOON + 2) == 1

    row = msgspec.msgpack.decode(await fleet[1]._shards.home.shard.read("HGET", "waiting", number))
    assert (row[0], row[-1]) == (wire.FORMAT + 1, "what only a newer relay knows")


async def test_a_long_row_of_newer_events_is_not_gone_through_to_its_end(fleet: Fleet, tmp_path: Path) -> None:
    """Redis would do nothing else meanwhile, at every look of every older relay."""
    newer = {wire.number_name(number): msgspec.msgpack.encode([wire.FORMAT + 1]) for number in range(10_000)}
    at = f"{tmp_path}:1:{{outbox}}:"
    with shared_redis().client() as client:
        client.hset(f"{at}waiting", mapping=newer)
        client.zadd(f"{at}due:{wire.lane_name(LANE)}", dict.fromkeys(newer, NOON - 1))
    await fleet[0]._shards.home.shard.read("HSET", "meta", "numbers", len(newer))
    await fleet[0].put(Put([event()]))

    with pytest.raises(OutboxError, match="holds events of a newer relay's only"):
        await claim(fleet[1])


async def test_an_outbox_of_a_newer_layout_is_refused_at_every_call(tmp_path: Path, fleet: Fleet) -> None:
    """A relay goes on without its outbox, and nobody would look after what it put there."""
    await fleet[0]._link.command("SET", f"{fleet[0]._address.prefix}format", 2)
    late = with_clock(tmp_path, time)

    for call in (late.open, lambda: late.put(Put(events(1))), lambda: claim(late)):
        with pytest.raises(OutboxError, match=r"its version is 2, this relay knows 1.*; run that relay"):
            await call()
    await late.close()


async def test_the_layouts_version_is_told_again_after_a_flush(fleet: Fleet) -> None:
    await fleet[0]._link.command("FLUSHALL")

    await fleet[0].put(Put(events(1)))

    assert await fleet[0]._link.command("GET", f"{fleet[0]._address.prefix}format") == b"1"


async def test_every_key_has_the_prefix_and_the_layouts_version(tmp_path: Path, fleet: Fleet) -> None:
    await fleet[0].put(
        Put([one := event()], tally={("production", "skipped", "empty"): 1}, journal=[noted(one)], coalescing=sent(one))
    )
    await claim(fleet[0])
    await fleet[0].purse(LANE, 0.8).look()

    keys = await fleet[0]._link.command("KEYS", "*")

    mine = sorted(key.decode().removeprefix(f"{tmp_path}:") for key in keys if key.startswith(f"{tmp_path}:".encode()))
    assert mine.pop() == "format"
    assert {key[: len("1:{outbox}:")] for key in mine} == {"1:{outbox}:"}


async def test_no_key_and_no_entry_but_the_event_names_an_identity_or_an_app(tmp_path: Path, fleet: Fleet) -> None:
    one = structs.replace(event(identity="ada.lovelace@example.com"), body=b"{}")
    await fleet[0].put(Put([one], journal=[noted(one)], coalescing=sent(one)))
    await fleet[0].purse(LANE, 0.8).look()
    lease = await claim(fleet[0])
    await fleet[0].settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)

    with shared_redis().client() as client:
        keys = client.keys(f"{tmp_path}:*")
        held = [client.dump(key) or b"" for key in keys]

    assert not any(b"lovelace" in part for part in (*keys, *held))
    assert not any(LANE.app_id.encode() in key for key in keys)


# Who wrote.


async def test_relays_that_came_and_went_leave_nothing_behind_after_a_day(fleet: Fleet, tmp_path: Path) -> None:
    await fleet[0].put(Put(events(1)))
    with shared_redis().client() as client:
        at = f"{tmp_path}:1:{{outbox}}:"
        client.hset(
            f"{at}written", (await fleet[0]._shards.home.shard.read("HKEYS", "writers"))[0], str(time() - 100_000)
        )

        await fleet[1].sweep(expired_before=0, drop_before=0, now=time())

        assert (client.hlen(f"{at}writers"), client.hlen(f"{at}written")) == (0, 0)
