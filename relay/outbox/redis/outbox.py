"""The outbox on Redis, as relays see it: its calls, each carried to where its part lies."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from heapq import merge
from itertools import islice
from typing import TypeVar

import structlog
from msgspec.structs import replace

from relay.core.coalesce import newest
from relay.core.daily import day_of
from relay.errors import OutboxError
from relay.fleet import Member, RedisAddress
from relay.model import (
    Book,
    Forgotten,
    Lane,
    Lease,
    Level,
    Ready,
    Sent,
    Settlement,
    StoredLetter,
    Trace,
    Usage,
    Which,
    Who,
)
from relay.outbox import Put
from relay.outbox.arrivals import Arrivals
from relay.outbox.bookkeeping import DAY, JOURNAL_SHARE, MEMORY_SHARE, SLICE, Total, compile_books
from relay.outbox.redis import members
from relay.outbox.redis.fitness import Remark, remark
from relay.outbox.redis.link import Link
from relay.outbox.redis.purse import SharedPurse
from relay.outbox.redis.shard import SENT_BYTES, Bounds, Shard
from relay.outbox.redis.shards import Numbered, Shards

log = structlog.get_logger(__name__)

T = TypeVar("T")


class RedisOutbox:
    """Keeps the promises of `Outbox` for any number of relays at once, as far as Redis keeps what it was told.

    What `put` returned from survives a crash of Redis with `appendfsync always`; with `everysec` the last second or
    two may be gone. A failover loses what was not replicated. Nothing is sent twice by that: a settlement that was
    lost makes its event go again under the same key.

    A *guest* looks in or operates beside the relays, and leaves it to them to remark on Redis' settings.

    A call takes at most `CALL_SECONDS`. One that failed may have been carried out nevertheless, where only the answer
    was lost; a put is then not stored again by its repeat. *clock* is the pod's; it decides nothing but what "now" is
    called.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        max_bytes: int,
        dead_letter_share: float,
        journal_entries: int = 0,
        guest: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._address = address
        # A guest leaves that to the relays.
        self._is_remarked = guest
        self._bounds = Bounds(
            max_bytes=max_bytes,
            dead_letter_bytes=int(max_bytes * dead_letter_share),
            journal_entries=journal_entries,
            journal_bytes=int(max_bytes * JOURNAL_SHARE),
            memory_entries=int(max_bytes * MEMORY_SHARE) // SENT_BYTES,
        )
        self._link = Link(address)
        self._shards = Shards(self._link, address, self._bounds, clock)
        self._arrivals = Arrivals()
        # The tokens of claims that nobody knows the outcome of: repeated with them, they tell.
        self._unheard: dict[Lane, str] = {}

    async def open(self) -> None:
        """Make an outbox, or join the relays on it. Raises OutboxError for one of a newer relay."""
        await self._shards.home.shard.open()
        await self._remark()

    async def reach(self) -> None:
        """Return once a script deleted what is not there: Redis answers, and takes writes of this user's.

        Raises OutboxError.
        """
        await self._link.command("EVAL", "return redis.call('DEL', KEYS[1])", 1, f"{self._address.prefix}nothing")

    async def _remark(self) -> None:
        """Log what to change of Redis' settings, once."""
        if self._is_remarked:
            return
        for one in await self.remarks():
            if one.advice:
                log.warning(
                    "redis.unfit", outbox=self._link.label, setting=one.setting, value=one.detail, advice=one.advice
                )
        self._is_remarked = True

    async def remarks(self) -> list[Remark]:
        """What is to be said of Redis' settings, for whoever asks whether it keeps what it is told."""
        return await remark(self._link, self._bounds.max_bytes)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._link.close()

    # Putting.

    async def put(self, put: Put) -> None:
        """Return once Redis has carried out the script: one on one server, one for each lane on a Cluster."""
        for one, part in await self._split(put):
            await one.shard.put(part)
        self._arrivals.announce(put.events)

    async def _split(self, put: Put) -> list[tuple[Numbered, Put]]:
        """*put*, or on a Cluster a part for each lane, and one for what belongs to none."""
        if not self._shards.are_many:
            return [(self._shards.home, put)]
        ones = {one.place: one for one in await self._shards.all()}
        places: dict[str, int] = {}
        for event in put.stored:
            one = await self._shards.of(event.lane)
            ones[one.place] = one
            places[event.key] = one.place
        parts = [(one, _part(put, one.place, places)) for one in ones.values()]
        return [(one, part) for one, part in parts if part.entries or part.tally or part.coalescing.repeats]

    async def recall(self, whos: Collection[Who]) -> dict[Who, Sent]:
        """Ask Redis every time: another relay may have sent something just now."""
        found: dict[Who, Sent] = {}
        if whos:
            for known in await self._everywhere(lambda shard: shard.recall(whos)):
                found |= {who: newest(sent, found.get(who)) for who, sent in known.items()}
        return found

    def recollect(self, who: Who) -> Sent | None:  # noqa: ARG002 - the protocol's
        """Never: another relay may have sent something just now."""
        return None

    async def remembered(self) -> dict[str, int]:
        """Read the counts that are kept."""
        return dict(sum(map(Counter, await self._everywhere(Shard.remembered)), Counter[str]()))

    async def arrival(self, lane: Lane, timeout: float) -> None:
        """Wait for this process's own puts; what others put is noticed by `peek`."""
        await self._arrivals.wait(lane, timeout)

    # Delivering.

    async def peek(self, lane: Lane, *, limit: int, max_bytes: int, now: float) -> Ready:
        """Look without a lease."""
        one = await self._shards.of(lane)
        return await one.shard.peek(lane, limit=limit, max_bytes=max_bytes, now=now)

    async def claim(self, lane: Lane, *, limit: int, max_bytes: int, now: float, lease: float) -> Lease:
        """Lease in one script, by the clock of Redis. What a claim that failed may have leased comes first."""
        one = await self._shards.of(lane)
        token = self._unheard.pop(lane, "") or one.token(secrets.token_hex(8))
        try:
            claims = await one.shard.claim(lane, limit=limit, max_bytes=max_bytes, now=now, lease=lease, token=token)
        except OutboxError:
            self._unheard[lane] = token
            raise
        return Lease(token, tuple(replace(claim, id=one.outside(claim.id)) for claim in claims))

    async def renew(self, token: str, *, until: float) -> int:
        """Renew in one script."""
        return await (await self._shards.holding(token)).shard.renew(token, until=until)

    async def settle(self, token: str, settlement: Settlement, *, now: float) -> frozenset[int]:
        """Settle in one script."""
        one = await self._shards.holding(token)
        inside = Settlement(
            ack=frozenset(map(one.inside, settlement.ack)),
            retry={one.inside(number): due for number, due in settlement.retry.items()},
            dead_letter={one.inside(number): cause for number, cause in settlement.dead_letter.items()},
            attempts={one.inside(number): made for number, made in settlement.attempts.items()},
        )
        return frozenset(map(one.outside, await one.shard.settle(token, inside, now=now)))

    async def sweep(self, *, expired_before: float, drop_before: float, now: float) -> Counter[str]:
        """Sweep slice by slice; whatever else is called goes in between."""
        total: Counter[str] = Counter()
        for one in await self._shards.all():
            while expired := await one.shard.expire(before=expired_before, now=now):
                total += expired
            while await one.shard.drop_old(before=drop_before):
                pass
            await one.shard.tidy(before=day_of(now))
        return total

    def purse(self, lane: Lane, share: float) -> SharedPurse:
        """The budgets of a lane, which all relays on this Redis spend from together; see `relay.sender.purse`."""

        async def shard_of(lane: Lane) -> Shard:
            return (await self._shards.of(lane)).shard

        return SharedPurse(shard_of, lane, share, time.monotonic)

    # Operating.

    async def dead_letters(self, which: Which, *, after: int = 0, limit: int) -> list[StoredLetter]:
        """Read them by their numbers, page by page."""

        async def read(one: Numbered) -> list[StoredLetter]:
            # Of the same inner number, those of a higher index come after.
            letters = await one.shard.letters(which, after=max(0, one.inside(after) - 1), limit=limit + 2)
            numbered = [replace(letter, number=one.outside(letter.number)) for letter in letters]
            return [letter for letter in numbered if letter.number > after]

        found = await asyncio.gather(*map(read, await self._shards.all()))
        return list(islice(merge(*found, key=lambda letter: letter.number), limit))

    async def count_dead_letters(self, which: Which) -> int:
        """Look through them, page by page."""
        return sum(await self._everywhere(lambda shard: shard.count_letters(which)))

    async def replay(self, numbers: Iterable[int], *, now: float) -> int:
        """Replay slice by slice."""
        return sum([await one.shard.replay(some, now=now) for one, some in await self._shards.split(numbers)])

    async def drop(self, numbers: Iterable[int]) -> int:
        """Drop slice by slice."""
        return sum([await one.shard.drop(some) for one, some in await self._shards.split(numbers)])

    async def move(self, lane: Lane, to: Lane, *, now: float) -> int:
        """Move slice by slice. On a Cluster what was moved is not remembered as sent, and its journal tells no more."""
        if lane == to:
            return 0
        one, other = await self._shards.of(lane), await self._shards.of(to)
        if one is other:
            return await _until_done(lambda: one.shard.move(lane, to, now=now))
        return await _until_done(lambda: one.shard.hand_over(lane, to, other.shard, now=now))

    async def drop_lane(self, lane: Lane, *, now: float) -> int:
        """Drop slice by slice."""
        one = await self._shards.of(lane)
        return await _until_done(lambda: one.shard.drop_lane(lane, now=now))

    async def forget(self, identity: str) -> Forgotten:
        """Look through all of it, page by page; what comes from a spool later is turned away.

        On a Cluster not for an app that nothing was ever put for. Redis' own log keeps it until its next rewrite
        (BGREWRITEAOF).
        """
        memory = sum(await self._everywhere(lambda shard: shard.forget_sent(identity)))
        waiting = sum(await self._everywhere(lambda shard: shard.forget(identity, "waiting")))
        dead = sum(await self._everywhere(lambda shard: shard.forget(identity, "dead")))
        journal = sum(await self._everywhere(lambda shard: shard.forget(identity, "journal")))
        return Forgotten(waiting, dead, journal, memory)

    # Reading.

    async def levels(self) -> list[Level]:
        """Read the counts that are kept, and the first of each by age."""
        return [level for levels in await self._everywhere(Shard.levels) for level in levels]

    async def installation(self) -> str:
        """Read what was made up when the outbox was made."""
        return await self._shards.home.shard.installation()

    async def books(self) -> dict[str, Book]:
        """Read the totals, and add them up."""
        return compile_books((await self._totals()).items())

    async def days(self) -> dict[str, dict[str, int]]:
        """Read the counts, and add them up."""
        found: dict[str, dict[str, int]] = {}
        for (environment, book, day), events in (await self._totals()).items():
            if book == DAY:
                found.setdefault(environment, {})[day] = events
        return found

    async def _totals(self) -> Counter[Total]:
        totals: Counter[Total] = Counter()
        for some in await self._everywhere(Shard.totals):
            totals.update(some)
        return totals

    async def trace(self, identity: str, *, limit: int, now: float) -> list[Trace]:
        """Look the journal through from its end, page by page."""
        found = await self._everywhere(lambda shard: shard.trace(identity, limit=limit, now=now))
        if len(found) == 1:
            return found[0]
        return sorted((trace for traces in found for trace in traces), key=lambda trace: -trace.at)[:limit]

    async def announce(self, member: Member, *, now: float) -> None:  # noqa: ARG002 - Redis has a clock
        """Told with one script; seen by Redis' clock. Its settings are remarked on, if it was away at the start."""
        await members.announce(self._shards.home.shard, member)
        await self._remark()

    async def depart(self, name: str) -> None:
        """Told likewise."""
        await members.depart(self._shards.home.shard, name)

    async def members(self, *, now: float) -> list[Member]:  # noqa: ARG002
        """Read in one script, a thousand within some milliseconds."""
        return await members.members(self._shards.home.shard)

    async def usage(self) -> Usage:
        """Read the counts that the scripts keep; the fullest place decides whether there is room.

        And try whether each takes writes.
        """
        found = await self._everywhere(Shard.usage)
        obstacle = next((usage.obstacle for usage in found if usage.obstacle), "")
        return replace(max(found, key=lambda usage: usage.size), obstacle=obstacle)

    async def _everywhere(self, ask: Callable[[Shard], Awaitable[T]]) -> list[T]:
        return list(await asyncio.gather(*(ask(one.shard) for one in await self._shards.all())))


async def _until_done(work: Callable[[], Awaitable[int]]) -> int:
    """Do slice after slice, until one is not full; return the sum of them."""
    total = 0
    while done := await work():
        total += done
        if done < SLICE:
            break
    return total


def _part(put: Put, place: int, places: Mapping[str, int]) -> Put:
    """What of *put* lies at *place*, by the *places* of its events' keys. What belongs to no lane is at 0.

    An identity may be known anywhere: its repeats go to all.
    """
    return Put(
        [event for event in put.events if places[event.key] == place],
        [letter for letter in put.dead_letters if places[letter.event.key] == place],
        put.tally if place == 0 else {},
        [entry for entry in put.journal if places.get(entry.key, 0) == place],
        put.coalescing,
    )
