"""The outboxes that every fault is inflicted on: each is a function that has it there, and yields its YAML section."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

# Where a store that needs a server of its own keeps it.
Store = Callable[[Path], AbstractAsyncContextManager[dict[str, object]]]

# The outbox's default; an answer that was held back so long was let go without its commit, and counted.
COMMIT_TIMEOUT_SECONDS = 0.25


@asynccontextmanager
async def sqlite(_: Path, commit: str) -> AsyncIterator[dict[str, object]]:
    """A file beside the YAML, in a folder of its own that may be a small disk."""
    yield {"url": "sqlite:///data/outbox.db", "commit": commit, "commit_timeout": f"{COMMIT_TIMEOUT_SECONDS}s"}


STORES: Mapping[str, Store] = {
    "sqlite after_answer": partial(sqlite, commit="after_answer"),
    "sqlite before_answer": partial(sqlite, commit="before_answer"),
}
