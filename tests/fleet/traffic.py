"""Callers of a fleet whose relays come and go."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic

import aiohttp

from tests.conftest import CLIENT_KEY
from tests.test_app import IDENTITIES

HEADERS = {"X-Environment-Key": CLIENT_KEY}


class Traffic:
    """Callers who ask for one identity after another, each of a relay that is there just then: *urls* tells."""

    def __init__(self, http: aiohttp.ClientSession, urls: Callable[[], Sequence[str]]) -> None:
        # By identity, when; in monotonic seconds.
        self.answered: dict[str, float] = {}
        self._http = http
        self._urls = urls
        self._asked = 0

    async def call_for_ever(self) -> None:
        while True:
            self._asked += 1
            await self._call(f"user-{self._asked}", random.choice(self._urls()))
            await asyncio.sleep(0.01)

    async def _call(self, identity: str, url: str) -> None:
        with suppress(aiohttp.ClientError):
            async with self._http.get(url + IDENTITIES, params={"identifier": identity}, headers=HEADERS) as answer:
                await answer.read()
                self.answered[identity] = monotonic()

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Calls as long as the context is open."""
        callers = [asyncio.create_task(self.call_for_ever()) for _ in range(4)]
        yield
        for caller in callers:
            caller.cancel()
        for outcome in await asyncio.gather(*callers, return_exceptions=True):
            assert isinstance(outcome, asyncio.CancelledError), outcome
