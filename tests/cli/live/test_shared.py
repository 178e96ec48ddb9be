"""An outbox in Redis: whether it answers, and whether it keeps what it is told."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.cli.live.storage import probe_outbox
from relay.config import OutboxConfig
from tests.outbox.servers import RedisServer, free_port, redis_server

KEEPS: dict[str, Any] = {"appendonly": "yes", "appendfsync": "always", "maxmemory_policy": "noeviction"}


def look(port: int, **settings: Any) -> dict[str, tuple[str, str, str]]:
    url = f"redis://127.0.0.1:{port}"
    found = asyncio.run(probe_outbox(OutboxConfig.model_validate({"url": url, **settings})))
    return {one.probe: (one.result, one.detail, one.advice) for one in found}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path, **KEEPS) as server:
        yield server


def test_a_redis_that_keeps_what_it_is_told_is_well_and_is_not_written(redis: RedisServer) -> None:
    told = look(redis.port)

    assert {result for result, _, _ in told.values()} == {"ok"}
    assert told["outbox.redis"][1].startswith(f"redis://127.0.0.1:{redis.port} answers in ")
    assert told["outbox.appendfsync"][1] == "always: a crash loses nothing"
    assert redis.client().keys("*") == []


def test_settings_that_lose_events_are_warnings_that_say_what_to_change(tmp_path: Path) -> None:
    with redis_server(tmp_path, maxmemory_policy="allkeys-lru") as server:
        told = look(server.port)

    assert told["outbox.maxmemory-policy"][0] == "warning"
    assert told["outbox.maxmemory-policy"][2].startswith("set it to noeviction")
    assert told["outbox.appendonly"][0] == "warning"


def test_a_replica_fails(tmp_path: Path, redis: RedisServer) -> None:
    folder = tmp_path / "replica"
    folder.mkdir()
    with redis_server(folder, replicaof=f"127.0.0.1 {redis.port}") as replica:
        told = look(replica.port)

    result, detail, advice = told["outbox.redis"]
    assert (result, advice) == ("failed", "name the master in outbox.url, or use Sentinel")
    assert "is a replica, which takes no writes" in detail


def test_a_user_whose_keys_are_others_fails(tmp_path: Path) -> None:
    with redis_server(tmp_path, user="default on nopass ~others:* +@all") as server:
        told = look(server.port)

    assert told["outbox.redis"][0] == "failed"
    assert told["outbox.redis"][2] == "let its ACL have ~<prefix>* +@all -@dangerous +info"


def test_a_redis_that_is_not_there_fails() -> None:
    told = look(free_port())

    assert list(told) == ["outbox.redis"]
    result, detail, advice = told["outbox.redis"]
    assert (result, advice) == ("failed", "see whether it runs, and check outbox.url")
    assert "cannot be reached" in detail


def test_a_spool_is_looked_at_like_any_file(redis: RedisServer, tmp_path: Path) -> None:
    """It has a bound of its own."""
    path = tmp_path / "spool.db"

    told = look(redis.port, spool=f"sqlite:///{path}", max_bytes="99999999GiB")

    assert told["spool.file"] == ("ok", f"{path} is not there yet; `relay run` makes it", "")
    assert told["spool.space"][0] == "ok"
    assert "outbox.file" not in told
