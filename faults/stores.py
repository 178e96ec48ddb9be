"""The outboxes that faults are inflicted on: each is a function that has one there, and yields what is known of it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from faults.fault import EVERYSEC, FILES, REPLICATED, SERVER, WAITING
from faults.redis import Watched, watched

# The outbox's default; an answer that was held back so long was let go without its commit, and counted.
COMMIT_TIMEOUT_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Storage:
    """Where events wait: the YAML's section, and the Redis behind it where there is one."""

    settings: dict[str, object]
    redis: Watched | None = None


# Given the folder where a store that needs a server of its own keeps it, and what that server is started with.
Store = Callable[[Path, Mapping[str, str]], AbstractAsyncContextManager[Storage]]


@asynccontextmanager
async def sqlite(_: Path, __: Mapping[str, str], commit: str) -> AsyncIterator[Storage]:
    """A file beside the YAML, in a folder of its own that may be a small disk."""
    timeout = f"{COMMIT_TIMEOUT_SECONDS}s"
    yield Storage({"url": "sqlite:///data/outbox.db", "commit": commit, "commit_timeout": timeout})


@asynccontextmanager
async def redis(
    folder: Path, environ: Mapping[str, str], appendfsync: str = "always", *, replicated: bool = False, query: str = ""
) -> AsyncIterator[Storage]:
    """A Redis with its log on the disk, and a spool beside the YAML; answers do not wait for the commit."""
    async with watched(folder, environ, appendfsync=appendfsync, replicated=replicated) as servers:
        yield Storage({"url": servers.url + query, "spool": "sqlite:///data/spool.db"}, servers)


STORES: Mapping[str, Store] = {
    FILES[0]: partial(sqlite, commit="after_answer"),
    FILES[1]: partial(sqlite, commit="before_answer"),
    SERVER: redis,
    EVERYSEC: partial(redis, appendfsync="everysec"),
    REPLICATED: partial(redis, replicated=True),
    WAITING: partial(redis, replicated=True, query="?wait_replicas=1"),
}
