"""Which part of the outbox lies under which hash tag: all of it under one, or on a Cluster each lane under its own."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from relay.fleet import RedisAddress
from relay.model import Lane
from relay.outbox.bookkeeping import slices
from relay.outbox.redis.link import Link
from relay.outbox.redis.shard import Bounds, Shard
from relay.outbox.redis.wire import lane_name

HOME = "outbox"
# Numbers of different tags differ by their remainder.
STRIDE = 1024


class Numbered(NamedTuple):
    """A shard, and what its numbers are called outside of it."""

    place: int
    stride: int
    shard: Shard

    def outside(self, number: int) -> int:
        return number * self.stride + self.place

    def inside(self, number: int) -> int:
        return number // self.stride

    def token(self, name: str) -> str:
        """A lease's token that tells where it is."""
        return f"{self.place}.{name}"


class Shards:
    """The tags in use, as far as this process needs to know them."""

    def __init__(self, link: Link, address: RedisAddress, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._link = link
        self._prefix = address.prefix
        self._bounds = bounds
        self._clock = clock
        self._stride = STRIDE if address.kind == "cluster" else 1
        self.home = self._make(0, HOME)
        self._known = {HOME: self.home}

    @property
    def are_many(self) -> bool:
        """Whether lanes lie under different tags."""
        return self._stride > 1

    def _make(self, index: int, tag: str) -> Numbered:
        return Numbered(index, self._stride, Shard(self._link, self._prefix, tag, self._bounds, self._clock))

    async def of(self, lane: Lane) -> Numbered:
        """Where *lane* is."""
        if not self.are_many:
            return self.home
        tag = lane_name(lane)
        if tag not in self._known:
            self._known[tag] = self._make(await self._enlist(tag), tag)
        return self._known[tag]

    async def _enlist(self, tag: str) -> int:
        """The number of a tag among all; a new one gets the next."""
        read = self.home.shard.read
        if await read("HGET", "shards", tag) is None:
            await read("HSETNX", "shards", tag, int(await read("INCR", "shards:count")))
        return int(await read("HGET", "shards", tag))

    async def all(self) -> list[Numbered]:
        """Every tag that was ever in use; the one of what belongs to no lane first."""
        if self.are_many:
            found = await self.home.shard.read("HGETALL", "shards")
            for tag, index in found.items():
                name = tag.decode()
                self._known.setdefault(name, self._make(int(index), name))
        return list(self._known.values())

    async def split(self, numbers: Iterable[int]) -> list[tuple[Numbered, list[int]]]:
        """*numbers* a slice at a time, each with the shard that they belong to, and called as they are there."""
        wanted = [*numbers]
        return [(one, some) for one in await self.all() for some in self._theirs(one, wanted)]

    def _theirs(self, one: Numbered, numbers: list[int]) -> Iterator[list[int]]:
        return slices(one.inside(number) for number in numbers if number % self._stride == one.place)

    async def holding(self, token: str) -> Numbered:
        """Where a lease with that token is, if there is one."""
        index = token.partition(".")[0]
        return next((one for one in await self.all() if str(one.place) == index), self.home)
