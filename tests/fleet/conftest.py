"""A Redis of a test's own, and relays that share an outbox in it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay.app import Relay, running
from relay.fleet import Role
from relay.last_good import open_file
from relay.model import Clock
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import settings, write
from tests.outbox.servers import RedisServer, redis_server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that has on its disk what it answered for."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder, appendonly="yes", appendfsync="always", maxmemory_policy="noeviction") as server:
        yield server


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the relays of one outbox are started with."""

    redis: RedisServer
    flagsmith: StandInFlagsmith
    heap: StandInHeap
    folder: Path

    def write(self, name: str, *, spool: str | None = None, commit: str = "before_answer", **changes: Any) -> Path:
        """The YAML of the member of that name, in a folder of its own."""
        outbox = {
            "url": f"redis://127.0.0.1:{self.redis.port}",
            "spool": spool,
            "commit": commit,
            "commit_timeout": "20s",
        }
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return write(folder, settings(self.flagsmith, self.heap, outbox=outbox, **changes))

    @asynccontextmanager
    async def member(
        self, name: str, role: Role = "all", *, clock: Clock | None = None, **changes: Any
    ) -> AsyncIterator[Relay]:
        """A relay of the fleet in this process."""
        file = open_file(self.write(name, **changes), {})
        async with running(file.loaded.config, role=role, file=file, clock=clock) as relay:
            yield relay


@pytest.fixture
def fleet(redis: RedisServer, flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path) -> Fleet:
    return Fleet(redis, flagsmith, heap, tmp_path)
