"""Senders are killed and paused at any moment: others take over, and Heap has each event once."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import time

import aiohttp

from relay.app import Relay
from relay.model import Book, Clock
from relay.sender.attempts import LEASE
from tests.conftest import APP_ID, CLIENT_KEY
from tests.fleet.conftest import Fleet
from tests.fleet.members import Members
from tests.fleet.traffic import Traffic
from tests.processes import relay_process
from tests.test_app import identify

PROXIES = ("one", "two")
SENDERS = ("three", "four", "five")
# Of senders, in turn; and how long each then has to do something, in seconds.
BLOWS = 6
LIFE = 1.5


@asynccontextmanager
async def successor(fleet: Fleet, **changes: object) -> AsyncIterator[Relay]:
    """A sender whose clock says that all leases have ended, so that nobody has to wait for that."""
    ahead = Clock(wall=lambda: time() + LEASE + 1)
    async with fleet.member("successor", "sender", clock=ahead, **changes) as relay:
        yield relay


async def emptied(relay: Relay) -> Book:
    """The fleet's books, once nothing waits."""
    async with asyncio.timeout(30):
        while (book := (await relay.outbox.books())["tests"]).waiting:
            await asyncio.sleep(0.05)
    return book


async def test_senders_killed_and_paused_at_random_send_every_event_once(
    fleet: Fleet, http: aiohttp.ClientSession
) -> None:
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(fleet.member(name, "proxy")) for name in PROXIES]
        senders = Members(fleet, "sender", SENDERS, stack)
        await asyncio.gather(*map(senders.start, SENDERS))
        traffic = Traffic(http, lambda: [proxy.url for proxy in proxies])
        async with traffic.flowing():
            for number in range(BLOWS):
                name = SENDERS[number % len(SENDERS)]
                if number % 2:
                    senders.running[name].pause()
                    await asyncio.sleep(random.uniform(0, LIFE))
                    senders.running[name].resume()
                else:
                    await asyncio.sleep(random.uniform(0, LIFE))
                    await senders.kill(name)
                    await senders.start(name)
        await asyncio.gather(*map(senders.kill, SENDERS))
        async with successor(fleet) as last:
            book = await emptied(last)

    stored = [event.identity for event in fleet.heap.stored(APP_ID)]
    assert len(traffic.answered) > 100
    assert set(traffic.answered) <= set(stored)
    assert len(stored) == len(set(stored)) == book.captured == book.delivered
    assert fleet.heap.violations == []


class Road:
    """A network to Heap that keeps what the first caller says to itself until it is opened."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_first = not self.reached.is_set()
        said = await reader.read(2**20)
        self.reached.set()
        if is_first:
            await self.opened.wait()
        from_heap, to_heap = await asyncio.open_connection("127.0.0.1", self._port)
        to_heap.write(said)
        await asyncio.gather(_carry(reader, to_heap), _carry(from_heap, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while said := await reader.read(2**20):
            writer.write(said)
    except ConnectionError:
        pass
    writer.close()


async def test_a_request_that_arrives_after_its_senders_lease_makes_no_second_event(
    fleet: Fleet, http: aiohttp.ClientSession
) -> None:
    """Its sender was paused, and somebody else has sent its events meanwhile, under the same keys."""
    road = Road(int(fleet.heap.url.rpartition(":")[2]))
    async with await asyncio.start_server(road.serve, "127.0.0.1") as network, AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{network.sockets[0].getsockname()[1]}"
        environments = [{"name": "tests", "keys": [CLIENT_KEY], "heap": {"app_id": APP_ID, "url": url}}]
        async with fleet.member("proxy", "proxy", environments=environments) as proxy:
            await asyncio.gather(*(identify(http, proxy, f"user-{number}") for number in range(5)))
        path = fleet.write("paused", environments=environments, log={"format": "json"})
        paused = await stack.enter_async_context(relay_process(path, None, "--role", "sender"))
        await paused.wait_for("relay.started")
        await road.reached.wait()
        paused.pause()

        async with successor(fleet, environments=environments) as relay:
            await emptied(relay)
            road.opened.set()
            await fleet.heap.wait_for_requests(2)
            paused.resume()
            paused.terminate()
            assert await paused.ended() == 0
            book = (await relay.outbox.books())["tests"]

    assert paused.logged("relay.stopped")["delivered"] == 0
    assert (book.captured, book.delivered, book.waiting) == (5, 5, 0)
    assert fleet.heap.duplicates == 5
    assert len(fleet.heap.stored(APP_ID)) == 5
