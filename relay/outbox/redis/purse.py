"""Heap's budgets of one app, shared by all who have the same outbox: one script for each decision."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from relay.core.budget import LOOK_BACK, ROUNDING, Budget, Rate, rates
from relay.model import Claim, Lane
from relay.outbox.redis.link import Given
from relay.outbox.redis.reading import groups
from relay.outbox.redis.shard import Shard
from relay.outbox.redis.wire import lane_name, who_name


class SharedPurse:
    """Spends from buckets on Redis, by the clock there; the rates are those of this process's *share*.

    All relays of a fleet together stay within the share: what none of them uses is there for the others. What these
    have paid *budget* knows from `look` and `spend`.

    A Redis that was flushed begins with empty buckets, as a process does. A failover gives back what was not
    replicated yet.
    """

    def __init__(
        self, shard_of: Callable[[Lane], Awaitable[Shard]], lane: Lane, share: float, monotonic: Callable[[], float]
    ) -> None:
        # Whoever is not known to have been paid for has saved up: the script knows who has not.
        self.budget = Budget(share, monotonic() - LOOK_BACK)
        self._shard_of = shard_of
        self._lane = lane
        self._rates = [_pair(rate) for rate in rates(share)]
        self._monotonic = monotonic
        # What all together had paid for, and when that was seen; None at first.
        self._seen: tuple[int, float] | None = None

    async def look(self) -> None:
        """Read the lane's level."""
        _, level, paid = await self._run(0, {})
        self._heed(paid)
        self.budget.learn(self._monotonic(), float(level), {})

    async def spend(self, part: Iterable[Claim]) -> bool:
        """Spend in one script, or learn who is short of what."""
        claims = [*part]
        counts = Counter(claim.event.identity for claim in claims)
        done, level, paid, *short = await self._run(len(claims), counts)
        now = self._monotonic()
        self._heed(paid, mine=len(claims) if done else 0)
        if done:
            self.budget.pay(claims, now)
        names = [*counts]
        allowances = {
            names[index - 1]: (float(events), float(requests)) for index, events, requests in groups(short, 3)
        }
        self.budget.learn(now, float(level), allowances)
        return bool(done)

    def _heed(self, paid: int, mine: int = 0) -> None:
        """All have *paid* for so many events by now, *mine* among them: the rest since the last look was by others."""
        now = self._monotonic()
        before, at = self._seen or (paid - mine, now)
        self._seen = paid, now
        if (events := paid - before - mine) > 0:  # less after Redis was flushed
            self.budget.others_paid(events, at, now)

    async def _run(self, events: int, counts: Counter[str] | dict[str, int]) -> Any:
        shard = await self._shard_of(self._lane)

        def build(secret: bytes) -> tuple[Given, tuple[()]]:
            given = {
                "lane": lane_name(self._lane),
                "events": events,
                "identities": [(who_name(secret, identity), times) for identity, times in counts.items()],
                "lane_rate": self._rates[0],
                "event_rate": self._rates[1],
                "request_rate": self._rates[2],
                "rounding": ROUNDING,
            }
            return given, ()

        return await shard.run("spend", build)


def _pair(rate: Rate) -> tuple[float, float]:
    return rate.per_second, rate.burst
