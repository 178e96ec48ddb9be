"""No probe takes for ever, whatever it looks at."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

from relay.cli.live.finding import Finding, Result, failure
from relay.errors import RelayError

T = TypeVar("T")

# Seconds for one probe. More than any of them should take, and nothing to an operator who waits.
LIMIT = 10.0


async def limited(probe: str, looking: Awaitable[Finding], advice: str) -> Finding:
    """What *looking* finds, or the RelayError it raises; with *advice*, that it found nothing within LIMIT."""
    try:
        async with asyncio.timeout(LIMIT):
            return await looking
    except RelayError as error:
        return failure(probe, error)
    except TimeoutError:
        return Finding(probe, Result.FAILED, f"no answer within {LIMIT:g} s", advice)


async def in_thread(call: Callable[[], T]) -> T:
    """What *call* returns, from a thread that the process does not wait for at its end: disks and resolvers hang."""
    future: Future[T] = Future()

    def work() -> None:
        future.set_running_or_notify_cancel()  # from here a cancelled wait leaves the future alone
        try:
            future.set_result(call())
        except Exception as error:  # handed over to who waits
            future.set_exception(error)

    Thread(target=work, name="relay.check", daemon=True).start()
    return await asyncio.wrap_future(future)
