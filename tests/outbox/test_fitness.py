"""Whether a Redis keeps what it is told, and what to change where it does not."""

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.errors import OutboxError
from relay.fleet import Member
from relay.outbox.redis import RedisAddress, RedisOutbox
from relay.outbox.redis.fitness import judge
from tests.outbox.boxes import ROOMY, opened
from tests.outbox.servers import redis_server

FIT: dict[str, Any] = {"appendonly": "yes", "appendfsync": "always"}


async def advised(address: RedisAddress) -> dict[str, str]:
    """The settings that a relay would have changed, and how."""
    async with opened(RedisOutbox(address, max_bytes=ROOMY, dead_letter_share=0.25)) as outbox:
        return {one.setting: one.advice for one in await outbox.remarks() if one.advice}


async def test_a_redis_that_keeps_what_it_is_told_is_as_it_should_be(tmp_path: Path) -> None:
    with redis_server(tmp_path, **FIT) as server, capture_logs() as logs:
        assert await advised(server.address) == {}

    assert logs == []


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        ("appendonly", "no", "set it to yes"),
        ("appendfsync", "no", "set it to everysec or always"),
        ("maxmemory-policy", "allkeys-lru", "set it to noeviction"),
        ("maxmemory", "32mb", "lower that"),
    ],
)
async def test_a_setting_that_loses_events_is_told_at_the_start(
    tmp_path: Path, setting: str, value: str, advice: str
) -> None:
    with redis_server(tmp_path, **(FIT | {setting.replace("-", "_"): value})) as server, capture_logs() as logs:
        found = await advised(server.address)

    assert [*found] == [setting]
    assert advice in found[setting]
    assert [(line["event"], line["setting"]) for line in logs] == [("redis.unfit", setting)]


async def test_a_redis_that_was_away_at_the_start_is_remarked_on_once_it_is_back(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, capture_logs() as logs:
        server.kill()
        outbox = RedisOutbox(server.address, max_bytes=ROOMY, dead_letter_share=0.25)
        with pytest.raises(OutboxError):
            await outbox.open()
        server.start()
        for _ in range(2):
            await outbox.announce(Member("one", "1", "proxy", 0.0), now=0.0)
        await outbox.close()

    assert [(line["event"], line["setting"]) for line in logs] == [("redis.unfit", "appendonly")]


async def test_what_redis_does_not_tell_is_not_guessed(tmp_path: Path) -> None:
    """Providers forbid CONFIG, and an ACL may forbid INFO."""
    with redis_server(tmp_path, rename_command='CONFIG ""', user="default on nopass ~* +@all -info") as server:
        outbox = RedisOutbox(server.address, max_bytes=ROOMY, dead_letter_share=0.25)
        async with opened(outbox):
            found = await outbox.remarks()

    assert [(one.setting, one.advice) for one in found] == [("settings", ""), ("appendfsync", "")]
    assert all(one.detail.startswith("could not be looked at") for one in found)


@pytest.mark.parametrize(("version", "fit"), [("6.2.0", True), ("7.2.4", True), ("6.0.16", False), ("5.0", False)])
def test_an_old_redis_is_not_enough(version: str, fit: bool) -> None:
    remarks = {one.setting: one for one in judge({"redis_version": version}, ROOMY)}

    assert (remarks["version"].advice == "") is fit
