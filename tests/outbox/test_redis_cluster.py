"""The outbox on a Redis Cluster: a hash tag for each lane, and totals that are summed over them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec import structs

from relay.errors import OutboxError
from relay.model import Book, Cause, DeadLetter, Forgotten, Lane, Level, Sent, Settlement, Which
from relay.outbox import Put
from relay.outbox.redis import RedisAddress, RedisOutbox
from relay.outbox.redis.wire import lane_name
from tests.outbox.boxes import (
    ANY,
    LANE,
    NOON,
    OTHER_LANE,
    ROOMY,
    claim,
    dead_letter,
    event,
    events,
    ids,
    noted,
    opened,
    sent,
    taken,
)
from tests.outbox.servers import RedisServer, free_port, redis_server

SLOTS = 16384
NEVER = float("-inf")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Three masters with a third of the slots each."""
    with ExitStack() as stack:
        buses = [str(free_port()) for _ in range(3)]
        made = [
            stack.enter_context(redis_server(tmp_path_factory.mktemp("node"), cluster_enabled="yes", cluster_port=bus))
            for bus in buses
        ]
        for number, node in enumerate(made):
            with node.client() as client:
                first, last = number * SLOTS // 3, (number + 1) * SLOTS // 3
                client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
                client.execute_command("CLUSTER MEET", "127.0.0.1", made[0].port, buses[0])
        yield made


def agrees(client: redis.Redis, nodes: int) -> bool:
    ask: Callable[[str], Any] = client.execute_command
    return ask("CLUSTER INFO")["cluster_state"] == "ok" and len(ask("CLUSTER SLOTS")) == nodes


@pytest.fixture
async def address(nodes: list[RedisServer], tmp_path: Path) -> RedisAddress:
    """All of them agree on who has which slots."""
    async with asyncio.timeout(20):
        for node in nodes:
            with node.client() as client:
                while not agrees(client, len(nodes)):
                    await asyncio.sleep(0.02)
    return RedisAddress(kind="cluster", nodes=tuple(("127.0.0.1", node.port) for node in nodes), prefix=f"{tmp_path}:")


@pytest.fixture
async def outbox(address: RedisAddress) -> AsyncIterator[RedisOutbox]:
    async with opened(box(address)) as outbox:
        yield outbox


def box(address: RedisAddress) -> RedisOutbox:
    return RedisOutbox(address, max_bytes=ROOMY, dead_letter_share=0.25, journal_entries=100)


LANES = [Lane("https://heapanalytics.com", f"{number}") for number in range(12)]


async def test_lanes_lie_on_all_nodes_each_on_one(
    nodes: list[RedisServer], outbox: RedisOutbox, tmp_path: Path
) -> None:
    await outbox.put(Put([event(lane=lane) for lane in LANES]))

    found = [lanes_on(node, str(tmp_path)) for node in nodes]

    assert sum(map(len, found)) == len(LANES)
    assert all(found)


def lanes_on(node: RedisServer, prefix: str) -> set[Lane]:
    with node.client() as client:
        keys = str(client.keys(f"{prefix}:*"))
    return {lane for lane in LANES if f"{{{lane_name(lane)}}}" in keys}


async def test_events_of_many_lanes_are_delivered_and_the_books_balance(outbox: RedisOutbox) -> None:
    tally = {("production", "skipped", "empty"): 5}
    put = [event(lane=lane) for lane in LANES]
    await outbox.put(Put(put, [dead_letter()], tally))

    for lane, expected in zip(LANES, put, strict=True):
        lease = await outbox.claim(lane, limit=9, max_bytes=ANY, now=NOON, lease=60)
        assert taken(lease) == [expected]
        assert await outbox.renew(lease.token, until=NOON + 90) == 1
        assert await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON) == set(ids(lease))

    assert await outbox.books() == {
        "production": Book(
            captured=18, delivered=12, waiting=0, dead_letters={"identity_too_long": 1}, skipped={"empty": 5}
        )
    }
    assert sum((await outbox.days())["production"].values()) == 12


async def test_numbers_of_different_lanes_are_never_the_same(outbox: RedisOutbox) -> None:
    letters = [DeadLetter(event(lane=lane), Cause("refused_by_heap")) for lane in LANES for _ in range(3)]
    await outbox.put(Put(dead_letters=letters))

    found = await outbox.dead_letters(Which(), limit=100)
    numbers = [one.number for one in found]
    assert len(set(numbers)) == 36
    assert numbers == sorted(numbers)
    first = await outbox.dead_letters(Which(), limit=10)
    rest = await outbox.dead_letters(Which(), after=first[-1].number, limit=100)
    assert [*first, *rest] == found

    assert await outbox.replay(numbers[:20], now=NOON) == 20
    assert await outbox.drop(numbers) == 16
    assert sum(level.events for level in await outbox.levels()) == 20


async def test_another_relay_finds_what_one_put(address: RedisAddress, outbox: RedisOutbox) -> None:
    one, other = event(lane=LANES[0]), event(lane=LANES[1], environment="staging")
    await outbox.put(
        Put([one, other], journal=[noted(one), noted(other), noted(one, sent=False)], coalescing=sent(one, other))
    )

    async with opened(box(address)) as second:
        assert await second.installation() == await outbox.installation()
        assert {level.lane for level in await second.levels()} == {LANES[0], LANES[1]}
        assert await second.recall([("production", "ada"), ("staging", "ada")]) == {
            ("production", "ada"): Sent(1, NOON),
            ("staging", "ada"): Sent(1, NOON),
        }
        assert await second.remembered() == {"production": 1, "staging": 1}
        assert len(await second.trace("ada", limit=9, now=NOON)) == 3
        assert taken(await second.claim(LANES[1], limit=9, max_bytes=ANY, now=NOON, lease=60)) == [other]


async def test_an_identity_is_forgotten_on_every_node(outbox: RedisOutbox) -> None:
    put = [event(lane=lane) for lane in LANES[:5]]
    await outbox.put(Put(put, journal=[noted(one) for one in put], coalescing=sent(*put)))

    assert await outbox.forget("ada") == Forgotten(waiting=5, dead_letters=0, journal=5, memory=5)


async def test_every_node_is_swept(outbox: RedisOutbox) -> None:
    await outbox.put(Put([event(lane=lane) for lane in LANES]))

    assert (await outbox.sweep(expired_before=NOON + 1, drop_before=NEVER, now=NOON)).total() == 12


async def test_a_put_again_after_it_was_stored_in_part_stores_the_rest(outbox: RedisOutbox) -> None:
    """All or nothing holds for each lane: the keys make the repeat harmless."""
    put = [event(lane=LANE), event(lane=OTHER_LANE)]
    await outbox.put(Put(put[:1]))

    await outbox.put(Put(put))

    assert await outbox.books() == {"production": Book(captured=2, waiting=2)}
    assert len(await outbox.levels()) == 2


async def test_a_lane_is_moved_to_another_node(outbox: RedisOutbox) -> None:
    put = [event(NOON + number, size=20, identity=f"user-{number}") for number in range(600)]
    await outbox.put(Put(put))
    held = await claim(outbox, limit=1)

    assert await outbox.move(LANE, OTHER_LANE, now=NOON) == 599

    assert set(await outbox.levels()) == {
        Level(LANE, "production", 1, 20, NOON),
        Level(OTHER_LANE, "production", 599, 599 * 20, NOON + 1),
    }
    assert await outbox.books() == {"production": Book(captured=600, waiting=600)}
    lease = await outbox.claim(OTHER_LANE, limit=1000, max_bytes=ANY, now=NOON + 600, lease=60)
    assert taken(lease) == [structs.replace(one, lane=OTHER_LANE) for one in put[1:]]
    assert await outbox.settle(held.token, Settlement(ack=frozenset(ids(held))), now=NOON) == set(ids(held))


async def test_a_move_that_broke_off_halfway_is_finished_by_the_next(outbox: RedisOutbox) -> None:
    """The events were in both lanes: their keys tell."""
    await outbox.put(Put(put := events(3)))
    await outbox.put(Put([structs.replace(one, lane=OTHER_LANE) for one in put]))

    assert await outbox.move(LANE, OTHER_LANE, now=NOON) == 3

    assert await outbox.levels() == [Level(OTHER_LANE, "production", 3, 300, NOON)]


async def test_budgets_lie_with_their_lanes(outbox: RedisOutbox) -> None:
    for lane in LANES[:4]:
        await outbox.purse(lane, 0.8).look()


async def test_a_single_server_of_it_is_told_from_one_alone(nodes: list[RedisServer], tmp_path: Path) -> None:
    outboxes = [box(replace(node.address, prefix=f"{tmp_path}:")) for node in nodes]

    failures = [await fails(outbox) for outbox in outboxes]

    assert sum("is a node of a cluster" in words for words in failures) >= 2


async def fails(outbox: RedisOutbox) -> str:
    try:
        await outbox.open()
        await outbox.put(Put(events(1)))
        await claim(outbox)
    except OutboxError as failure:
        return str(failure)
    finally:
        await outbox.close()
    return ""


async def test_every_master_is_looked_at(outbox: RedisOutbox) -> None:
    assert sum(one.setting == "appendonly" for one in await outbox.remarks()) == 3


async def test_a_put_while_its_slot_moves_is_refused_as_a_whole(
    nodes: list[RedisServer], outbox: RedisOutbox, tmp_path: Path
) -> None:
    """Half of it would make its repeat look like one: its events would be gone for good."""
    await outbox.put(Put([event()]))
    at = f"{tmp_path}:1:{{{lane_name(LANE)}}}:"
    put = events(2)
    with moving(nodes, at) as move:
        move(f"{at}events")

        with pytest.raises(OutboxError, match=r"moves what is asked for to another node.*; wait"):
            await outbox.put(Put(put))

    await outbox.put(Put(put))

    assert taken(await claim(outbox))[1:] == put


@contextmanager
def moving(nodes: list[RedisServer], at: str) -> Iterator[Callable[[str], None]]:
    """The slot of the keys that begin with *at* is on its way to another node; a key moves when that is called with it.

    All of them have at the end.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for node in nodes]
        slot = clients[0].execute_command("CLUSTER KEYSLOT", at)
        place = slot * len(nodes) // SLOTS
        source, target = clients[place], clients[place - 1]
        names = [client.execute_command("CLUSTER MYID").decode() for client in (source, target)]
        target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[0])
        source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[1])

        def move(key: str) -> None:
            source.migrate("127.0.0.1", nodes[place - 1].port, [key], 0, 1000)

        yield move
        while keys := source.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000):  # another test's, too
            for key in keys:
                move(key)
        for client in (target, source, *clients):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[1])
