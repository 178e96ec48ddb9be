"""A master that dies and a replica that takes over, as Sentinel has it; and TLS, a Unix socket and other ways in."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.errors import OutboxError
from relay.model import Book, Settlement
from relay.outbox import Put
from relay.outbox.redis import RedisAddress, RedisOutbox
from tests.outbox.boxes import NOON, ROOMY, book, claim, event, events, ids, opened, taken
from tests.outbox.servers import RedisServer, free_port, redis_server

SERVICE = "outbox"


@dataclass(frozen=True)
class Watched:
    """A master with a replica, and the Sentinel over them."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer

    @property
    def address(self) -> RedisAddress:
        return RedisAddress("sentinel", (("127.0.0.1", self.sentinel.port),), service=SERVICE)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    with ExitStack() as stack:

        def start(name: str, **settings: Any) -> RedisServer:
            (tmp_path / name).mkdir()
            return stack.enter_context(redis_server(tmp_path / name, **settings))

        master = start("master", repl_diskless_sync_delay="0")
        replica = start("replica", replicaof=f"127.0.0.1 {master.port}")
        await until(lambda: replica.client().info("replication")["master_link_status"] == "up")
        sentinel = start("sentinel", sentinel=True)
        ask: Callable[..., Any] = sentinel.client().execute_command
        ask("SENTINEL MONITOR", SERVICE, "127.0.0.1", master.port, 1)
        ask("SENTINEL SET", SERVICE, "down-after-milliseconds", 300)
        ask("SENTINEL SET", SERVICE, "failover-timeout", 2000)
        await until(lambda: len(sentinel.client().sentinel_slaves(SERVICE)) == 1)
        yield Watched(master, replica, sentinel)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.05)


def box(address: RedisAddress) -> RedisOutbox:
    return RedisOutbox(address, max_bytes=ROOMY, dead_letter_share=0.25)


async def test_a_replica_that_takes_over_has_what_was_replicated_and_delivers_it_once(watched: Watched) -> None:
    async with opened(box(watched.address)) as outbox:
        put = [event(NOON + number / 100) for number in range(200)]
        await outbox.put(Put(put))
        lease = await claim(outbox, NOON + 9, limit=50)
        await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON + 9)
        held = await claim(outbox, NOON + 9, limit=50)
        with watched.master.client() as client:
            client.wait(1, 5000)

        watched.master.kill()
        with pytest.raises(OutboxError):
            await outbox.put(Put(events(1)))
        async with asyncio.timeout(30):
            while not await works(outbox):
                await asyncio.sleep(0.1)

        assert await book(outbox) == Book(captured=200, delivered=50, waiting=150)
        settled = await outbox.settle(held.token, Settlement(ack=frozenset(ids(held))), now=NOON + 9)
        assert settled == set(ids(held))
        assert taken(await claim(outbox, NOON + 9)) == put[100:]


async def test_a_put_may_wait_until_a_replica_has_it(watched: Watched) -> None:
    """One that no replica took is not done; it is there, and its repeat is known by its keys."""
    [put] = events(1)
    async with opened(box(replace(watched.address, wait_replicas=1))) as outbox:
        await outbox.put(Put([put]))
        assert watched.replica.client().keys("*:events")

        watched.replica.kill()
        [other] = events(1)
        for _ in range(2):
            with pytest.raises(
                OutboxError, match=r"0 replicas that took a put in time, and wait_replicas .* asks for 1"
            ):
                await outbox.put(Put([other]))

    async with opened(box(watched.master.address)) as outbox:
        assert (await book(outbox)).waiting == 2


async def works(outbox: RedisOutbox) -> bool:
    try:
        await outbox.put(Put())
    except OutboxError:
        return False
    return True


# Other ways in.


async def test_redis_is_reached_by_tls_that_a_private_authority_vouches_for(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    port = free_port()
    files: dict[str, Any] = {"tls_cert_file": f"{tmp_path}/cert.pem", "tls_key_file": f"{tmp_path}/key.pem"}
    with redis_server(
        tmp_path, tls_port=str(port), tls_ca_cert_file=f"{tmp_path}/ca.pem", tls_auth_clients="no", **files
    ):
        nodes = (("127.0.0.1", port),)
        async with opened(box(RedisAddress(nodes=nodes, tls=True, ca_file=tmp_path / "ca.pem"))) as outbox:
            await outbox.put(Put(events(1)))
            assert (await book(outbox)).waiting == 1

        for ca_file, words in ((None, "is not trusted"), (tmp_path / "none.pem", "whether the .* ca_file .* is there")):
            stranger = box(RedisAddress(nodes=nodes, tls=True, ca_file=ca_file))
            with pytest.raises(OutboxError, match=words):
                await stranger.open()
            await stranger.close()


async def test_redis_is_reached_by_a_unix_socket_as_a_user_in_a_database(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path, unixsocket=str(path), user="relay on >secret ~* +@all") as server:
        async with opened(box(RedisAddress(unix=path, db=3, username="relay", password="secret"))) as outbox:
            await outbox.put(Put(events(1)))

        with server.client() as client:
            assert "db3" in client.info("keyspace")
