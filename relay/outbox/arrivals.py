"""Tell those who wait for events of a lane, within this process, that some came."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress

from relay.model import Event, Lane


class Arrivals:
    """One signal per lane, which stays up until it was seen."""

    def __init__(self) -> None:
        self._signals: defaultdict[Lane, asyncio.Event] = defaultdict(asyncio.Event)

    def announce(self, events: Iterable[Event]) -> None:
        """Raise the signals of the lanes that got *events*."""
        for lane in {event.lane for event in events}:
            self._signals[lane].set()

    async def wait(self, lane: Lane, timeout: float) -> None:
        """Return once the lane's signal is up, or after *timeout* seconds; it is down afterwards."""
        signal = self._signals[lane]
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await signal.wait()
        signal.clear()
