"""Redis slow, away, full, flushed or of another mind: an error that says what to do, and all is well once Redis is."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from structlog.testing import capture_logs

from relay.errors import OutboxError, OutboxFull
from relay.model import Book, Lane, Settlement
from relay.outbox import Put
from relay.outbox.redis import RedisAddress, RedisOutbox
from relay.outbox.redis.address import CONNECTIONS
from relay.outbox.redis.link import CALL_SECONDS, Link
from tests.outbox.boxes import ANY, LANE, NOON, ROOMY, book, claim, event, events, ids, noted, opened, sent, taken
from tests.outbox.servers import RedisServer, free_port, redis_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
async def outbox(server: RedisServer) -> AsyncIterator[RedisOutbox]:
    async with opened(box(server.address)) as outbox:
        yield outbox


def box(address: RedisAddress, *, max_bytes: int = ROOMY) -> RedisOutbox:
    return RedisOutbox(address, max_bytes=max_bytes, dead_letter_share=0.25, journal_entries=100)


class Cutter:
    """A network between a relay and Redis that may lose the answer to a call, and breaks then."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cuts = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._port)
        while call := await reader.read(2**20):
            to_redis.write(call)
            answer = await from_redis.read(2**20)
            if self.cuts and b"EVAL" in call:
                self.cuts -= 1
                break
            writer.write(answer)
        to_redis.close()
        writer.close()


# Away.


async def test_a_redis_that_is_not_there_is_an_error_that_says_what_to_do() -> None:
    port = free_port()
    outbox = box(RedisAddress(nodes=(("127.0.0.1", port),), password="hidden"))

    with pytest.raises(OutboxError, match=rf"127\.0\.0\.1:{port} cannot be reached .*; see whether it runs") as raised:
        await outbox.open()

    assert "hidden" not in str(raised.value)
    await outbox.close()


@pytest.mark.parametrize(
    ("kind", "words"), [("cluster", "cannot be reached"), ("sentinel", "has no master that its sentinels tell; see")]
)
async def test_a_cluster_or_sentinels_that_are_not_there_are_an_error_that_says_what_to_do(
    kind: Literal["cluster", "sentinel"], words: str
) -> None:
    outbox = box(RedisAddress(kind=kind, nodes=(("127.0.0.1", free_port()),), service="main"))

    with pytest.raises(OutboxError, match=words):
        await outbox.put(Put(events(1)))

    await outbox.close()


async def test_one_server_that_is_named_as_a_cluster_is_told_from_one(server: RedisServer) -> None:
    outbox = box(replace(server.address, kind="cluster"))

    with pytest.raises(OutboxError, match=r"is not a cluster .*; begin outbox.url with redis://"):
        await outbox.open()

    await outbox.close()


async def test_a_cluster_that_goes_away_is_an_error_until_it_is_back(tmp_path: Path) -> None:
    bus = str(free_port())
    with redis_server(
        tmp_path, cluster_enabled="yes", cluster_port=bus, appendonly="yes", appendfsync="always"
    ) as server:
        with server.client() as operator:
            operator.execute_command("CLUSTER ADDSLOTS", *range(16384))
        outbox = box(replace(server.address, kind="cluster"))
        await until_it_works(outbox)

        server.kill()
        with pytest.raises(OutboxError, match="cannot be reached"):
            await outbox.put(Put(events(1)))
        server.start()
        await until_it_works(outbox)

        assert (await book(outbox)).waiting == 2
        await outbox.close()


async def test_an_outbox_that_could_not_be_opened_works_once_redis_does(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        server.kill()
        outbox = box(server.address)
        with pytest.raises(OutboxError):
            await outbox.open()

        server.start()
        await outbox.put(Put(events(1)))

        assert (await book(outbox)).waiting == 1
        await outbox.close()


async def test_a_connection_that_redis_closed_meanwhile_is_made_anew(server: RedisServer, outbox: RedisOutbox) -> None:
    await outbox.put(Put(events(1)))
    with server.client() as somebody:
        somebody.client_kill_filter(_type="normal", skipme=True)

    await outbox.put(Put(events(1)))

    assert await book(outbox) == Book(captured=2, waiting=2)


async def test_as_many_lanes_as_there_are_may_ask_at_once(server: RedisServer, outbox: RedisOutbox) -> None:
    lanes = [Lane("https://heapanalytics.com", f"{number}") for number in range(200)]

    await asyncio.gather(*(outbox.peek(lane, limit=9, max_bytes=ANY, now=NOON) for lane in lanes))

    with server.client() as somebody:
        assert len(somebody.client_list()) <= CONNECTIONS + 1


async def test_a_redis_that_does_not_answer_is_given_up_in_time_while_everything_else_goes_on(
    server: RedisServer, outbox: RedisOutbox
) -> None:
    await outbox.put(Put(events(1)))
    turns = 0

    async with server.stopped():
        began = time.monotonic()
        calls = asyncio.gather(*(outbox.put(Put(events(1))) for _ in range(60)), return_exceptions=True)
        while not calls.done():
            await asyncio.sleep(0.01)
            turns += 1
        for failure in await calls:
            assert isinstance(failure, OutboxError)
            assert "does not answer in time" in str(failure)
        assert time.monotonic() - began < CALL_SECONDS + 1

    assert turns > 100
    await outbox.put(Put(events(1)))


async def test_a_put_whose_answer_was_lost_is_repeated_and_counted_once(server: RedisServer) -> None:
    cutter = Cutter(server.port)
    async with await asyncio.start_server(cutter.serve, "127.0.0.1") as network:
        port = network.sockets[0].getsockname()[1]
        async with opened(box(RedisAddress(nodes=(("127.0.0.1", port),)))) as outbox:
            await outbox.put(Put(events(1)))

            cutter.cuts = 1
            await outbox.put(Put(events(2), tally={("production", "skipped", "empty"): 3}))

            assert cutter.cuts == 0
            assert await book(outbox) == Book(captured=6, waiting=3, skipped={"empty": 3})


async def test_a_claim_and_a_settlement_whose_answers_were_lost_are_repeated_with_the_same_outcome(
    server: RedisServer,
) -> None:
    cutter = Cutter(server.port)
    async with await asyncio.start_server(cutter.serve, "127.0.0.1") as network:
        port = network.sockets[0].getsockname()[1]
        async with opened(box(RedisAddress(nodes=(("127.0.0.1", port),)))) as outbox:
            await outbox.put(Put(put := events(4)))
            await outbox.peek(LANE, limit=1, max_bytes=1, now=NOON)

            cutter.cuts = 1
            lease = await claim(outbox, limit=2)
            cutter.cuts = 1
            settled = await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)

            assert taken(lease) == put[:2]
            assert settled == set(ids(lease))
            assert taken(await claim(outbox)) == put[2:]
            assert await book(outbox) == Book(captured=4, delivered=2, waiting=2)


async def test_a_claim_that_failed_is_carried_out_by_the_next(server: RedisServer) -> None:
    """Otherwise what it had leased would have to wait for the lease's end."""
    cutter = Cutter(server.port)
    async with await asyncio.start_server(cutter.serve, "127.0.0.1") as network:
        port = network.sockets[0].getsockname()[1]
        async with opened(box(RedisAddress(nodes=(("127.0.0.1", port),)))) as outbox:
            await outbox.put(Put(put := events(2)))
            await outbox.peek(LANE, limit=1, max_bytes=1, now=NOON)
            cutter.cuts = 2
            with pytest.raises(OutboxError, match="cannot be reached"):
                await claim(outbox)

            lease = await claim(outbox, NOON + 50)

            assert taken(lease) == put
            async with opened(box(server.address)) as other:
                assert taken(await claim(other, NOON + 100)) == []
            assert await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON) == set(ids(lease))


async def test_a_call_that_is_cancelled_leaves_its_answer_to_nobody(server: RedisServer, outbox: RedisOutbox) -> None:
    await outbox.put(Put(events(1)))
    async with server.stopped():
        call = asyncio.create_task(outbox.installation())
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.wait([call])

    assert await book(outbox) == Book(captured=1, waiting=1)


# Of another mind.


async def test_a_replica_is_an_error_and_the_master_is_found_again(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with opened(box(server.address)) as outbox:
            await outbox.put(Put(events(1)))
            with server.client() as somebody:
                somebody.replicaof("127.0.0.1", free_port())

                with pytest.raises(OutboxError, match=r"is a replica.*; name the master"):
                    await outbox.put(Put(events(1)))

                somebody.replicaof("NO", "ONE")
            await outbox.put(Put(events(1)))

            assert await book(outbox) == Book(captured=2, waiting=2)


async def test_a_redis_that_loads_its_data_is_an_error_until_it_has(tmp_path: Path) -> None:
    """It takes minutes over it, until it is told to hurry."""
    with redis_server(
        tmp_path, appendonly="yes", key_load_delay="10000", loading_process_events_interval_bytes="1024"
    ) as server:
        async with opened(box(server.address)) as outbox:
            await outbox.put(Put(events(20)))
            with server.client() as somebody:
                somebody.mset({f"somebody's {number}": "x" * 100 for number in range(10_000)})
                somebody.bgrewriteaof()
                while somebody.info("persistence")["aof_rewrite_in_progress"]:
                    await asyncio.sleep(0.01)
            server.kill()
            server.start_loading()

            with pytest.raises(OutboxError, match=r"is loading its data.*; wait"):
                await outbox.put(Put(events(1)))

            with server.client() as somebody:
                somebody.config_set("key-load-delay", 0)
            await until_it_works(outbox)
            assert (await book(outbox)).waiting == 21


async def until_it_works(outbox: RedisOutbox) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                return await outbox.put(Put(events(1)))
            except OutboxError:
                await asyncio.sleep(0.05)


async def test_scripts_that_redis_forgot_are_told_again(server: RedisServer, outbox: RedisOutbox) -> None:
    await outbox.put(Put(events(1)))
    with server.client() as somebody:
        somebody.script_flush()

    await outbox.put(Put(events(1)))

    assert (await book(outbox)).waiting == 2


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (RedisAddress(password="wrong"), "does not let in whom"),
        (RedisAddress(), "does not let in whom"),
        (RedisAddress(username="reader", password="secret"), "does not allow that to this user"),
    ],
)
async def test_who_may_not_is_told_what_to_allow(tmp_path: Path, address: RedisAddress, words: str) -> None:
    with redis_server(tmp_path, requirepass="secret", user="reader on >secret ~* +get") as server:
        outbox = box(replace(address, nodes=server.address.nodes))

        with pytest.raises(OutboxError, match=words):
            await outbox.open()

        await outbox.close()


async def test_a_user_with_the_rights_that_the_error_names_can_do_everything(tmp_path: Path) -> None:
    acl = "relay on >secret resetkeys ~flagsmith-heap-relay:* +@all -@dangerous +info"
    with redis_server(tmp_path, user=acl) as server:
        address = replace(server.address, username="relay", password="secret")
        async with opened(box(address)) as outbox:
            put = events(2)
            await outbox.put(Put(put, journal=[noted(one) for one in put], coalescing=sent(*put)))
            lease = await claim(outbox)
            await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)
            await outbox.sweep(expired_before=NOON, drop_before=NOON, now=NOON)

            assert len(await outbox.trace("ada", limit=9, now=NOON)) == 2


# Read and not written.


@pytest.mark.parametrize(
    ("refuse", "allow", "said"),
    [
        ("CONFIG SET maxmemory 1mb", "CONFIG SET maxmemory 0", "has no memory left .*; give it more"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "is a replica, which takes no writes"),
        (
            "CONFIG SET min-replicas-to-write 1",
            "CONFIG SET min-replicas-to-write 0",
            "has fewer replicas than it asks for",
        ),
    ],
    ids=["full", "replica", "lonely"],
)
async def test_why_a_redis_that_can_be_read_takes_no_writes_is_told(
    server: RedisServer, outbox: RedisOutbox, refuse: str, allow: str, said: str
) -> None:
    """By who looks, too: there may be nothing to put, or somebody else who does. And the figures go on."""
    await outbox.put(Put(events(1)))
    with server.client() as operator:
        operator.execute_command(*refuse.split())

        async with opened(box(server.address)) as guest:
            assert re.search(said, (await guest.usage()).obstacle)
            assert await guest.installation() == await outbox.installation()
            assert (await book(guest)).waiting == len(await guest.levels()) == 1

        operator.execute_command(*allow.split())
        assert (await outbox.usage()).obstacle == ""


async def test_calls_that_find_a_replica_break_no_others(server: RedisServer, outbox: RedisOutbox) -> None:
    """They let go of all connections, as the name may lead to another server now; but of none that is in use."""
    with server.client() as operator:
        operator.replicaof("127.0.0.1", free_port())

        async def call(turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            with suppress(OutboxError):
                await (outbox.put(Put(events(1))) if turns % 2 else outbox.installation())

        for _ in range(10):
            await asyncio.gather(*map(call, range(100)))


# Without memory.


async def test_a_redis_without_memory_takes_nothing_new_and_lets_go_of_what_it_has(
    server: RedisServer, outbox: RedisOutbox
) -> None:
    await outbox.put(Put(stored := events(20, size=1000)))
    with server.client() as somebody:
        somebody.config_set("maxmemory", somebody.info("memory")["used_memory"])

        with pytest.raises(OutboxFull, match=r"has no memory left.*; give it more"):
            await outbox.put(Put(events(1), tally={("production", "skipped", "empty"): 1}))
        assert await book(outbox) == Book(captured=20, waiting=20)

        lease = await claim(outbox)
        assert taken(lease) == stored
        assert await outbox.renew(lease.token, until=NOON + 90) == 20
        assert await outbox.purse(LANE, 0.8).spend(()) is True
        await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)
        await outbox.put(Put(tally={("production", "refused", "outbox_full"): 1}))

        assert await book(outbox) == Book(captured=21, delivered=20, refused={"outbox_full": 1})


# Flushed.


async def test_what_was_flushed_is_gone_and_the_next_call_begins_anew(server: RedisServer, outbox: RedisOutbox) -> None:
    await outbox.put(Put(events(2)))
    before = await outbox.installation()
    with server.client() as somebody:
        somebody.flushall()

    with capture_logs() as logs:
        await outbox.put(Put(events(1)))

    assert [line["event"] for line in logs] == ["outbox.replaced"]
    assert await book(outbox) == Book(captured=1, waiting=1)
    assert await outbox.installation() != before


async def test_relays_agree_on_what_identities_are_called_after_a_flush(
    server: RedisServer, outbox: RedisOutbox
) -> None:
    async with opened(box(server.address)) as other:
        with server.client() as somebody:
            somebody.flushall()
        await other.open()

        await outbox.put(Put([one := event()], journal=[noted(one)], coalescing=sent(one)))

        assert len(await other.trace("ada", limit=9, now=NOON)) == 1
        assert len(await other.recall([("production", "ada")])) == 1


async def test_a_claim_on_what_was_flushed_finds_nothing(server: RedisServer, outbox: RedisOutbox) -> None:
    await outbox.put(Put(events(2)))
    lease = await claim(outbox)
    with server.client() as somebody:
        somebody.flushall()

    assert await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON) == set()
    assert (await outbox.claim(LANE, limit=9, max_bytes=ANY, now=NOON, lease=60)).claims == ()


# Killed.


async def test_what_was_put_survives_a_crash_of_redis_that_flushes_always(tmp_path: Path) -> None:
    with redis_server(tmp_path, appendonly="yes", appendfsync="always") as server:
        async with opened(box(server.address)) as outbox:
            put: list[str] = []

            async def put_on() -> None:
                while True:
                    some = events(5)
                    await outbox.put(Put(some))
                    put.extend(one.key for one in some)

            putting = asyncio.create_task(put_on())
            while len(put) < 500:
                await asyncio.sleep(0.01)
            server.kill()
            with pytest.raises(OutboxError):
                await putting
            server.start()

            found = {one.key for one in taken(await claim(outbox, limit=10_000))}
            assert found >= set(put)
            assert len(found) - len(put) in {0, 5}
            after = await book(outbox)
            assert after.captured == after.waiting == len(found)


# Told to stop.


async def test_a_call_that_is_cancelled_ends_as_cancelled_whenever_that_comes(outbox: RedisOutbox) -> None:
    """One that swallowed it would let a relay that is told to stop go on for ever."""
    for turns in range(60):
        call = asyncio.create_task(outbox.put(Put(events(1))))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not call.cancel():
            continue  # it had ended
        await asyncio.wait({call})
        assert call.cancelled(), f"it went on after {turns} turns"


async def test_a_call_that_fails_while_it_is_cancelled_ends_as_cancelled(server: RedisServer) -> None:
    """Where the connection breaks at that very moment, redis-py tells only of that."""

    async def breaks() -> None:
        raise ConnectionResetError

    link, ended = Link(server.address), set[str]()
    for turns in range(10):
        call = asyncio.create_task(link._in_time(lambda: asyncio.wait_for(breaks(), 1)))
        for _ in range(turns):
            await asyncio.sleep(0)
        told = call.cancel()
        await asyncio.wait({call})
        assert call.cancelled() == told, f"it went on after {turns} turns"
        ended.add("as cancelled" if told else "before that")

    assert ended == {"as cancelled", "before that"}
