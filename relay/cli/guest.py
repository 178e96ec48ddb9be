"""Commands as guests on a relay's outbox: in short transactions beside the relay, or without one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from relay.app import make_outbox
from relay.config import Config
from relay.errors import RelayError
from relay.outbox import Outbox

T = TypeVar("T")


@asynccontextmanager
async def visiting(settings: Config) -> AsyncIterator[Outbox]:
    """The outbox that the configuration names. Raises RelayError where nobody but the relay can look into it."""
    if settings.outbox.path is None:
        raise RelayError("the outbox is memory://, which lives in the relay's process: only a running relay can tell")
    outbox = make_outbox(settings, guest=True)
    try:
        await outbox.open()
        yield outbox
    finally:
        await outbox.close()


def visit(settings: Config, work: Callable[[Outbox], Awaitable[T]]) -> T:
    """What *work* makes of the outbox. Raises RelayError."""

    async def visited() -> T:
        async with visiting(settings) as outbox:
            return await work(outbox)

    return asyncio.run(visited())
