"""A Redis as a process of its own, with a replica and Sentinels where that is asked for."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from faults.fault import NotRun
from faults.ports import reserve_port

# A busy machine takes its time.
PATIENCE_SECONDS = 60.0
SERVICE = "outbox"
# What docs/fleet.md asks of a Redis.
SETTINGS = {"save": '""', "appendonly": "yes", "maxmemory-policy": "noeviction", "repl-diskless-sync-delay": "0"}
# A Sentinel takes a master for dead after so many milliseconds.
DOWN_MILLISECONDS = 2000


class RedisServer:
    """A `redis-server` with its files in *folder*; started again it has the same port, and what is on its disk."""

    def __init__(self, folder: Path, environ: Mapping[str, str], *mode: str, **settings: str) -> None:
        if shutil.which("redis-server") is None:
            raise NotRun("redis-server is missing: apt-get install redis-server")
        folder.mkdir()
        self.port = reserve_port()
        self._file = folder / "redis.conf"
        self._mode = mode
        self._environ = {**os.environ, **environ}
        self._process: asyncio.subprocess.Process
        lines = {"port": self.port, "bind": "127.0.0.1", "dir": folder, "logfile": folder / "redis.log"}
        lines |= {name.replace("_", "-"): value for name, value in settings.items()}
        # Written once: a Sentinel writes into it what it learns.
        self._file.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))

    async def start(self) -> None:
        """Return once it answers with its data."""
        self._process = await asyncio.create_subprocess_exec("redis-server", self._file, *self._mode, env=self._environ)
        await until(self._answers)

    async def _answers(self) -> bool:
        if self._process.returncode is not None:
            raise RuntimeError(f"redis-server does not start; see {self._file.parent}")
        return bool(await self.ask("PING"))

    async def ask(self, *words: str | int) -> Any:
        """What it answers to one command of somebody else's."""
        async with self.client() as client:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py has no type for it

    def client(self) -> Redis:
        """A connection of somebody else's."""
        return Redis(port=self.port, socket_timeout=PATIENCE_SECONDS, retry=Retry(NoBackoff(), 0))

    def send(self, number: signal.Signals) -> None:
        """Send it *number*."""
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it at once, as a crash would, unless it has ended."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


@dataclass(frozen=True, slots=True)
class Watched:
    """The Redis that relays use, and who takes over from it where there is somebody."""

    master: RedisServer
    replica: RedisServer | None = None
    sentinel: RedisServer | None = None

    @property
    def url(self) -> str:
        """As the YAML names it."""
        if self.sentinel:
            return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}"
        return f"redis://127.0.0.1:{self.master.port}"


@asynccontextmanager
async def watched(
    folder: Path, environ: Mapping[str, str], *, appendfsync: str, replicated: bool
) -> AsyncIterator[Watched]:
    """A Redis until the context ends; a *replicated* one has a replica and a Sentinel."""
    async with AsyncExitStack() as stack:

        async def start(name: str, *mode: str, **settings: str) -> RedisServer:
            server = RedisServer(folder / name, environ, *mode, **settings)
            stack.push_async_callback(server.kill)
            await server.start()
            return server

        settings = {**SETTINGS, "appendfsync": appendfsync}
        master = await start("redis", **settings)
        if not replicated:
            yield Watched(master)
            return
        replica = await start("replica", **settings, replicaof=f"127.0.0.1 {master.port}")
        await until(lambda: is_linked(replica))
        sentinel = await start("sentinel", "--sentinel")
        await sentinel.ask("SENTINEL MONITOR", SERVICE, "127.0.0.1", master.port, 1)
        await sentinel.ask("SENTINEL SET", SERVICE, "down-after-milliseconds", DOWN_MILLISECONDS)
        await until(lambda: knows_a_replica(sentinel))
        yield Watched(master, replica, sentinel)


async def is_linked(replica: RedisServer) -> bool:
    """Whether it has all that its master has."""
    async with replica.client() as client:
        return (await client.info("replication")).get("master_link_status") == "up"


async def is_master(server: RedisServer) -> bool:
    """Whether it is the one that takes writes."""
    async with server.client() as client:
        return bool((await client.info("replication"))["role"] == "master")


async def knows_a_replica(sentinel: RedisServer) -> bool:
    """Whether somebody can take over."""
    return len(await sentinel.ask("SENTINEL REPLICAS", SERVICE)) == 1


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return once *holds* does. Raises TimeoutError where it does not come to that."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends:
        with suppress(RedisError, OSError):  # while it loads, and when it becomes another's replica
            if await holds():
                return
        await asyncio.sleep(0.05)
    raise TimeoutError("Redis does not become what it should be")
