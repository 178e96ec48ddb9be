"""Relays and Redis are killed at random moments: what was answered is in Heap, and each event is there once."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from relay.sender.attempts import LEASE
from tests.conftest import APP_ID, CLIENT_KEY
from tests.fleet.conftest import Fleet
from tests.processes import RelayProcess, relay_process
from tests.test_app import IDENTITIES

HEADERS = {"X-Environment-Key": CLIENT_KEY}
PROXIES = ("one", "two", "three")
# Of relays, one after the other; and how long each then has to do something, in seconds.
KILLS = 6
LIFE = 0.7


class Traffic:
    """Callers who ask for one identity after another, each of a relay that is there just then."""

    def __init__(self, http: aiohttp.ClientSession, relays: dict[str, RelayProcess]) -> None:
        self.answered: list[str] = []
        self._http = http
        self._relays = relays
        self._asked = 0

    async def call_for_ever(self) -> None:
        while True:
            self._asked += 1
            await self._call(f"user-{self._asked}", random.choice([*self._relays.values()]))
            await asyncio.sleep(0.01)

    async def _call(self, identity: str, relay: RelayProcess) -> None:
        with suppress(aiohttp.ClientError):
            async with self._http.get(
                relay.url + IDENTITIES, params={"identifier": identity}, headers=HEADERS
            ) as answer:
                await answer.read()
                self.answered.append(identity)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Calls as long as the context is open."""
        callers = [asyncio.create_task(self.call_for_ever()) for _ in range(4)]
        yield
        for caller in callers:
            caller.cancel()
        for outcome in await asyncio.gather(*callers, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome


async def replace(name: str, relays: dict[str, RelayProcess], path: Path, stack: AsyncExitStack) -> None:
    """Kill the relay of that name, if there is one, and start it again."""
    if relay := relays.pop(name, None):
        relay.kill()
        await relay.ended()
    fresh = await stack.enter_async_context(relay_process(path, None, "--role", "proxy"))
    await fresh.wait_for("relay.started")
    relays[name] = fresh


async def delivered(fleet: Fleet, answered: list[str]) -> None:
    """Return once Heap has all that was answered.

    Seldom that takes a lease's length: of a claim whose answer died with Redis nobody knows, and it has to end.
    """
    async with asyncio.timeout(LEASE + 30):
        while missing := set(answered) - {event.identity for event in fleet.heap.stored(APP_ID)}:
            assert missing
            await asyncio.sleep(0.1)


async def test_kills_lose_nothing_and_repeat_nothing(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    """Redis has on its disk what it answered for (appendfsync always); what it cannot take waits in files."""
    paths = {name: fleet.write(name, spool="sqlite:///spool.db", log={"format": "json"}) for name in PROXIES}
    relays: dict[str, RelayProcess] = {}
    traffic = Traffic(http, relays)
    async with AsyncExitStack() as stack, fleet.member("sender", "sender"):
        for name in PROXIES:
            await replace(name, relays, paths[name], stack)
        async with traffic.flowing():
            for number in range(KILLS):
                await asyncio.sleep(random.uniform(0, LIFE))
                if number % 3 == 2:
                    fleet.redis.kill()
                    await asyncio.sleep(random.uniform(0, LIFE))
                    fleet.redis.start()
                else:
                    await replace(PROXIES[number % 3], relays, paths[PROXIES[number % 3]], stack)
        await delivered(fleet, traffic.answered)

    stored = [event.identity for event in fleet.heap.stored(APP_ID)]
    assert len(traffic.answered) > 100
    assert len(stored) == len(set(stored))
    assert fleet.heap.violations == []
