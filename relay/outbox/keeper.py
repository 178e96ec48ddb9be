"""Keep the outbox in bounds of time: expire what waited too long, drop dead letters that nobody asked for."""

import asyncio

import structlog

from relay.core.expiry import APART_SECONDS, NEVER, Sweep, sweep
from relay.errors import OutboxError
from relay.metrics import Metrics
from relay.model import Clock
from relay.outbox import Outbox

log = structlog.get_logger(__name__)


class Keeper:
    """Sweeps the outbox now and then. Ages are in seconds."""

    def __init__(
        self, outbox: Outbox, *, max_age: float, dead_letter_max_age: float, metrics: Metrics, clock: Clock
    ) -> None:
        self._outbox = outbox
        self._max_age = max_age
        self._dead_letter_max_age = dead_letter_max_age
        self._metrics = metrics
        self._clock = clock
        self._previous: Sweep | None = None

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except OutboxError as failure:
                log.warning("outbox.not_swept", detail=str(failure))
            await asyncio.sleep(APART_SECONDS)

    async def sweep(self) -> None:
        """One sweep; it expires only what the one before agrees on."""
        self._previous, reached = sweep(self._previous, Sweep(self._clock.wall(), self._clock.monotonic()))
        if reached == NEVER:
            return
        expired = await self._outbox.sweep(
            expired_before=reached - self._max_age,
            drop_before=reached - self._dead_letter_max_age,
            now=self._clock.wall(),
        )
        for environment, events in expired.items():
            self._metrics.dead_letters_made.labels(environment, "expired").inc(events)
        if expired:
            log.warning("events.expired", events=expired.total(), advice="dead letters tell which; see outbox.max_age")
