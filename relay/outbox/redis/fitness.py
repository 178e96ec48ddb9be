"""Whether a Redis keeps what it was told: its settings, and what to change."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from relay.errors import OutboxError
from relay.outbox.redis.link import Link

# Nobody tries older ones. Valkey calls itself a Redis 7.2 as well.
OLDEST = (6, 2)


@dataclass(frozen=True, slots=True)
class Remark:
    """What was found of one setting."""

    setting: str
    detail: str
    # What to change; empty where it is as it should be.
    advice: str = ""


async def remark(link: Link, max_bytes: int) -> list[Remark]:
    """Look at every master."""
    try:
        masters = await link.every_master("INFO")
    except OutboxError as failure:
        found = [Remark("settings", f"could not be looked at: {failure}")]
    else:
        found = [one for facts in masters for one in judge(facts, max_bytes)]
    return [*found, *map(judge_flushes, await _flushes(link))]


async def _flushes(link: Link) -> list[str | None]:
    """`appendfsync` of every master; None where Redis does not say, as an ACL or a provider may forbid CONFIG."""
    try:
        replies = await link.every_master("CONFIG GET", "appendfsync")
    except OutboxError:
        return [None]
    return [reply.get("appendfsync") for reply in replies]


def judge(facts: Mapping[str, Any], max_bytes: int) -> Iterator[Remark]:
    """What INFO tells of one server, whose outbox may take *max_bytes*."""
    version = str(facts.get("redis_version", ""))
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    yield Remark("version", version, "" if numbers >= OLDEST else "run Redis 6.2 or newer, or Valkey")
    role = str(facts.get("role"))
    yield Remark("role", role, "" if role == "master" else "name the master in outbox.url, or use Sentinel")
    policy = str(facts.get("maxmemory_policy"))
    kept = policy == "noeviction"
    yield Remark("maxmemory-policy", policy, "" if kept else "set it to noeviction: Redis would throw events away")
    room = int(facts.get("maxmemory", 0))
    fits = not 0 < room < max_bytes
    advice = f"give it more than outbox.max_bytes ({max_bytes:,}), or lower that"
    yield Remark("maxmemory", f"{room:,}" if room else "not limited", "" if fits else advice)
    logs = bool(facts.get("aof_enabled"))
    advice = "set it to yes: what came after the last snapshot is lost when Redis crashes"
    yield Remark("appendonly", "yes" if logs else "no", "" if logs else advice)


def judge_flushes(appendfsync: str | None) -> Remark:
    """How often the log reaches the disk (redis.io/docs/latest/operate/oss_and_stack/management/persistence)."""
    match appendfsync:
        case None:
            return Remark("appendfsync", "could not be looked at: CONFIG is forbidden")
        case "always":
            return Remark("appendfsync", "always: a crash loses nothing")
        case "everysec":
            return Remark("appendfsync", "everysec: a crash loses up to 2 s")
        case _:
            return Remark("appendfsync", appendfsync, "set it to everysec or always: a power cut loses 30 s and more")
