"""Say of lanes that no environment names any more that nothing is sent for them."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress

import structlog

from relay.core.orphans import orphaned
from relay.errors import OutboxError
from relay.model import Lane
from relay.outbox import Outbox

log = structlog.get_logger(__name__)

# What was in hand when its environment went reaches the outbox a little later.
EVERY_SECONDS = 60.0


class Orphans:
    """Tells each of them once, until it is *named* again."""

    def __init__(self, outbox: Outbox, named: Callable[[], Collection[Lane]]) -> None:
        self._outbox = outbox
        self._named = named
        self._told: set[Lane] = set()
        self._asked = asyncio.Event()

    def look(self) -> None:
        """Look now: there are others now that are named."""
        self._asked.set()

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            with suppress(OutboxError):  # whoever needs the outbox says so
                await self._look()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._asked.wait()
            self._asked.clear()

    async def _look(self) -> None:
        orphans = orphaned(await self._outbox.levels(), set(self._named()))
        for lane in orphans.keys() - self._told:
            log.warning(
                "lane.orphaned",
                heap=lane.url,
                events=sum(level.events for level in orphans[lane]),
                environments=sorted(level.environment for level in orphans[lane]),
                advice="nothing is sent for it; name its app in an environment again, or see `relay orphans list`",
            )
        self._told = set(orphans)
