"""Hold each environment to its daily cap, and say so before it bites, when it does, and what it has cost."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress

import structlog

from relay.core.daily import Approach, Days, Stage, day_of, standings
from relay.core.status import CapStatus
from relay.errors import OutboxError
from relay.model import Cap, Clock, Event
from relay.outbox import Intake

log = structlog.get_logger(__name__)

# How often it is looked whether a day has ended, and what others have put into an outbox that relays share.
LOOK_SECONDS = 10.0


class DailyCap:
    """The events of each environment by UTC day: those in the outbox's count, and those on their way into it.

    `caps` are by environment's name; they may be exchanged at any time, and hold at once.
    """

    def __init__(self, outbox: Intake, clock: Clock) -> None:
        self.caps: Mapping[str, Cap] = {}
        self._outbox = outbox
        self._clock = clock
        self._days = Days()
        self._is_known = False
        # Environments that had events since their caps were last looked at.
        self._touched: set[str] = set()

    async def begin(self) -> None:
        """Go on from what the outbox has counted; nothing may be on its way. Where it fails, the next call tries."""
        if self._is_known:
            return
        with suppress(OutboxError):
            self._days = Days(await self._outbox.days())
            self._is_known = True

    def admit(self, event: Event) -> bool:
        """Count *event*; False where the cap of its environment stops it."""
        name = event.environment
        self._touched.add(name)
        return self._days.admit(name, day_of(event.captured_at), self.caps.get(name))

    def take_back(self, events: Iterable[Event]) -> None:
        """Count admitted events no more: they could not be stored."""
        for event in events:
            self._days.take_back(event.environment, day_of(event.captured_at))

    def say(self) -> None:
        """Warn of the caps that came near or were reached, once for each day."""
        caps = {name: self.caps[name] for name in self._touched & self.caps.keys()}
        self._touched.clear()
        for approach in self._days.approaches(caps):
            _warn(approach, caps[approach.environment])

    async def run(self) -> None:
        """Say at the end of each day what was skipped, and heed what others bring, until cancelled."""
        while True:
            self.look()
            await self.learn()
            await asyncio.sleep(LOOK_SECONDS)

    async def learn(self) -> None:
        """Count what other relays have put into the outbox, too."""
        if self.caps and self._is_known:
            with suppress(OutboxError):
                self._days.learn(await self._outbox.days(), day_of(self._clock.wall()))

    def look(self) -> None:
        """Say of the days that have ended what was skipped."""
        for ended in self._days.ended(day_of(self._clock.wall())):
            log.warning("cap.lifted", environment=ended.environment, day=ended.day, skipped=ended.skipped)

    def status(self) -> dict[str, CapStatus]:
        """How near today's events are to the caps, by environment."""
        return standings(self.caps, self._days, day_of(self._clock.wall()))


def _warn(approach: Approach, cap: Cap) -> None:
    facts = {"environment": approach.environment, "day": approach.day, "events": approach.events, "cap": cap.events}
    if approach.stage is Stage.NEAR:
        ahead = "at the cap the rest of the day is skipped" if cap.stops else "none, daily_cap.then is alert"
        log.warning("cap.approached", **facts, consequence=ahead)
    else:
        now = "events are skipped until midnight UTC" if cap.stops else "none, daily_cap.then is alert"
        log.warning("cap.reached", **facts, consequence=now)
