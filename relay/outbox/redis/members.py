"""The relays on one Redis: what each told of itself, under the tag that belongs to no lane."""

from contextlib import suppress

import msgspec
from msgspec.structs import replace

from relay.fleet import Member
from relay.outbox import FORGOTTEN_SECONDS
from relay.outbox.redis.shard import Shard


async def announce(shard: Shard, member: Member) -> None:
    """Let it be known as it is now."""
    given = {"name": member.name, "forgotten": FORGOTTEN_SECONDS}
    await shard.run("announce", lambda _: (given, (msgspec.msgpack.encode(member),)))


async def depart(shard: Shard, name: str) -> None:
    """Know it no more."""
    await shard.run("depart", lambda _: ({"name": name}, ()))


async def members(shard: Shard) -> list[Member]:
    """All of them by name, as far as this version understands what another one told."""
    reply = await shard.run("members", lambda _: ({}, ()))
    found: list[Member] = []
    for told, seen_at in zip(reply[::2], reply[1::2], strict=True):
        with suppress(msgspec.DecodeError):
            found.append(replace(msgspec.msgpack.decode(told, type=Member), seen_at=float(seen_at)))
    return sorted(found, key=lambda member: member.name)
