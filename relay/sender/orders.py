"""What the sender was told, and waiting that ends when it is told something else."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


class Orders:
    """Go on, finish what waits, or stop; in this order, never back."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self._draining = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether to finish without lingering."""
        return self._draining.is_set()

    @property
    def stopping(self) -> bool:
        """Whether to begin nothing more."""
        return self._stopping.is_set()

    def drain(self) -> None:
        self._draining.set()

    def stop(self) -> None:
        self._stopping.set()
        self._draining.set()

    async def rest(self, seconds: float) -> None:
        """Return after *seconds*, or as soon as there are other orders."""
        await self.rest_until(self._slept(seconds))

    async def rest_until(self, *events: Coroutine[Any, Any, None]) -> None:
        """Return once one of *events* is done, or there are other orders; the rest is cancelled."""
        orders = self._stopping if self.draining else self._draining
        tasks = [asyncio.ensure_future(event) for event in (*events, self._heard(orders))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _slept(self, seconds: float) -> None:
        await self._sleep(seconds)

    async def _heard(self, orders: asyncio.Event) -> None:
        await orders.wait()
