"""Tell the fleet of this relay, and those who ask here of the fleet."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from relay.errors import OutboxError
from relay.fleet import Member
from relay.model import Clock
from relay.outbox import Outbox

if TYPE_CHECKING:
    from relay.outbox.spool import Spool

log = structlog.get_logger(__name__)

# How often each relay tells of itself: a thousand of them are a hundred small writes a second.
EVERY_SECONDS = 10.0
# Who asks again so soon is told the same.
FRESH_SECONDS = 1.0
# Nobody waits longer for it.
PATIENCE = 1.0


class Membership:
    """This relay among those that share its *outbox*. *in_hand* tells what it captured that is in no book yet."""

    def __init__(
        self, me: Member, outbox: Outbox, spool: "Spool | None", in_hand: Callable[[], Mapping[str, int]], clock: Clock
    ) -> None:
        self._me = me
        self._outbox = outbox
        self._spool = spool
        self._in_hand = in_hand
        self._clock = clock
        self._others: Sequence[Member] = ()
        # Seconds since 1970: when they were found; who is silent is a matter of then.
        self.found_at = clock.wall()
        self._looked_at = float("-inf")
        self._is_told = True

    @property
    def members(self) -> list[Member]:
        """All of them as they were found last, this one as it is now."""
        return sorted([self._now(), *self._others], key=lambda member: member.name)

    async def run(self) -> None:
        """Tell of this relay until cancelled."""
        while True:
            try:
                await self.announce()
            except OutboxError as failure:
                if self._is_told:  # once for each time
                    log.warning("member.unannounced", detail=str(failure), consequence="others do not see this relay")
                self._is_told = False
            await asyncio.sleep(EVERY_SECONDS)

    async def announce(self) -> None:
        """Tell of this relay now."""
        await self._outbox.announce(self._now(), now=self._clock.wall())
        self._is_told = True

    async def look(self) -> None:
        """Find the others, unless that was done just now; where it fails those found last stay."""
        if self._clock.monotonic() - self._looked_at < FRESH_SECONDS:
            return
        self._looked_at = self._clock.monotonic()
        with suppress(OutboxError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                found = await self._outbox.members(now=self._clock.wall())
            self._others = [member for member in found if member.name != self._me.name]
            self.found_at = self._clock.wall()

    async def leave(self) -> None:
        """Tell of the end; who leaves a spool behind stays on the list with it."""
        with suppress(OutboxError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await (self.announce() if self._now().spooled else self._outbox.depart(self._me.name))

    def _now(self) -> Member:
        waiting = {name: answers for name, answers in self._in_hand().items() if answers}
        spooled, size = (self._spool.kept.total(), self._spool.size) if self._spool else (0, 0)
        return replace(self._me, seen_at=self._clock.wall(), in_hand=waiting, spooled=spooled, spool_bytes=size)
