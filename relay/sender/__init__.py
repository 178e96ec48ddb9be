"""Deliver what waits in the outbox: claim, spend, track, halve what is refused, settle; repeat until told to stop."""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from relay.heap import TOTAL_SECONDS, Heap, open_session
from relay.metrics import Metrics
from relay.model import Clock, Lane
from relay.outbox import Outbox
from relay.sender.attempts import Attempts
from relay.sender.courier import Courier
from relay.sender.orders import Orders
from relay.sender.standing import LaneState
from relay.supervise import supervised

__all__ = ["LaneState", "Sender"]


class Sender:
    """One courier for each lane, so that no Heap app delays another. Enter it before `run`, leave it after.

    *lanes* gives each lane's share of Heap's limits. *sleep* and *rng* (a random number from 0 to 1) are there for
    tests, as *clock* is; *tls* trusts a private authority; Heap has to answer within *patience* seconds.

    Cancelled at any moment it loses nothing: what it had claimed is due again when the lease ends.
    """

    def __init__(
        self,
        outbox: Outbox,
        lanes: Mapping[Lane, float],
        metrics: Metrics,
        clock: Clock | None = None,
        *,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        tls: ssl.SSLContext | None = None,
        patience: float = TOTAL_SECONDS,
    ) -> None:
        self._outbox = outbox
        self._lanes = lanes
        self._metrics = metrics
        self._clock = clock or Clock()
        self._rng = rng
        self._orders = Orders(sleep)
        self._tls = tls
        self._patience = patience
        self._couriers: list[Courier] = []
        self._stack = AsyncExitStack()
        self._running = False
        self._finished = asyncio.Event()

    async def __aenter__(self) -> Self:
        session = await self._stack.enter_async_context(open_session(self._tls, self._patience))
        for lane, share in self._lanes.items():
            attempts = Attempts(
                Heap(session, lane, self._clock), self._outbox, share, self._metrics, self._clock, self._orders
            )
            self._couriers.append(
                Courier(lane, attempts, self._outbox, self._metrics, self._clock, self._orders, self._rng)
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def run(self) -> None:
        """Deliver until told to stop, or until a `drain` is through."""
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                for courier in self._couriers:
                    work = supervised(courier.run, "sender", self._metrics)
                    group.create_task(work, name=f"sender {courier.lane.url}")
        finally:
            self._running = False
            self._finished.set()

    async def stop(self) -> None:
        """Claim nothing more; return once the requests in flight are answered and settled and `run` has returned."""
        self._orders.stop()
        if self._running:
            await self._finished.wait()

    async def drain(self) -> None:
        """Deliver what waits, without lingering but within the limits; return once nothing is left or `stop` came.

        What Heap refuses to take now (a held lane) is left where it is.
        """
        self._orders.drain()
        await self._finished.wait()

    @property
    def delivered(self) -> int:
        """Events that Heap accepted since the start."""
        return sum(courier.delivered for courier in self._couriers)

    def lanes(self) -> list[LaneState]:
        """How every lane is doing."""
        return [courier.state() for courier in self._couriers]
