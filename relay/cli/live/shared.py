"""The outbox in Redis: whether it answers, and whether its settings keep what it is told."""

import time
from typing import TYPE_CHECKING

from relay.build import redis_outbox
from relay.cli.live.finding import Finding, Result, failure, milliseconds
from relay.config import OutboxConfig
from relay.errors import RelayError
from relay.fleet import RedisAddress

if TYPE_CHECKING:
    from relay.outbox.redis.fitness import Remark

# Without these nothing can be put.
NEEDED = {"version", "role"}


async def probe_redis(address: RedisAddress, settings: OutboxConfig) -> list[Finding]:
    """Ask every master; nothing is written."""
    try:
        outbox = redis_outbox(address, settings)
        try:
            began = time.monotonic()
            await outbox.reach()
            seconds = time.monotonic() - began
            remarks = await outbox.remarks()
        finally:
            await outbox.close()
    except RelayError as error:
        return [failure("outbox.redis", error)]
    reached = f"{settings.label} answers in {milliseconds(seconds)}"
    return [Finding("outbox.redis", Result.OK, reached, seconds=seconds), *map(_judge, remarks)]


def _judge(remark: "Remark") -> Finding:
    if not remark.advice:
        return Finding(f"outbox.{remark.setting}", Result.OK, remark.detail)
    result = Result.FAILED if remark.setting in NEEDED else Result.WARNING
    return Finding(f"outbox.{remark.setting}", result, remark.detail, remark.advice)
