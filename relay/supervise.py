"""Keep a task of the capture half alive: a crash is logged, counted and followed by a restart, never silent."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from relay.metrics import Metrics

log = structlog.get_logger(__name__)

# Long enough not to spin on a bug that comes back at once, short against the seconds that events wait anyway.
PAUSE_SECONDS = 1.0


async def supervised(task: Callable[[], Awaitable[None]], name: str, metrics: Metrics) -> None:
    """Run *task* until it returns or is cancelled; start it again after a pause whenever it raises.

    The one place where any exception is caught: analytics may crash, flags may not.
    """
    restarts = metrics.task_restarts.labels(name)  # there at 0 from now on
    while True:
        try:
            return await task()
        except Exception:
            log.exception("task.crashed", task=name)
            restarts.inc()
        await asyncio.sleep(PAUSE_SECONDS)


async def cancelled(tasks: Collection["asyncio.Future[None]"]) -> None:
    """Return once *tasks* have ended.

    A time-out that comes at the same moment may take a cancellation for its own, whosever code it is in; so those that
    go on are told again.
    """
    while going_on := [task for task in tasks if not task.done()]:
        for task in going_on:
            task.cancel()
        await asyncio.wait(going_on, timeout=PAUSE_SECONDS)
