"""Deliver what waits in the outbox: claim, spend, track, halve what is refused, settle; repeat until told to stop."""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self

from relay.heap import TOTAL_SECONDS, Heap, open_session
from relay.metrics import Metrics
from relay.model import Clock, Lane
from relay.outbox import Outbox
from relay.sender.attempts import Attempts
from relay.sender.courier import Courier
from relay.sender.orders import Orders
from relay.sender.purse import OwnPurse, Purse, Purses
from relay.sender.standing import LaneState
from relay.supervise import supervised

__all__ = ["LaneState", "Sender"]

# An idle lane looks into the outbox about so often, in seconds: an operator's command may have put dead letters back
# from another process. All of them together look at most so often in a second, for a look takes a third of a
# millisecond of what flags could use.
LOOK_IDLE = 2.0
LOOKS = 250


class Sender:
    """One courier for each lane, so that no Heap app delays another. Enter it before `run`, leave it after.

    *lanes* gives each lane's share of Heap's limits. *purses* are shared with other processes; without them this one
    has the share to itself. *sleep* and *rng* (a random number from 0 to 1) are there for
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
        purses: Purses | None = None,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        tls: ssl.SSLContext | None = None,
        patience: float = TOTAL_SECONDS,
    ) -> None:
        self._outbox = outbox
        self._lanes = lanes
        self._metrics = metrics
        self._clock = clock or Clock()
        self._purses = purses or self._own_purse
        self._rng = rng
        self._sleep = sleep
        self._tls = tls
        self._patience = patience
        self._stack = AsyncExitStack()
        self._couriers: dict[Lane, Courier] = {}
        # Whose lanes are not named any more: they finish what they began.
        self._leaving: set[Courier] = set()
        # By those who have left.
        self._delivered = 0
        # While it runs.
        self._group: asyncio.TaskGroup | None = None
        self._ending = asyncio.Event()
        self._finished = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(open_session(self._tls, self._patience))
        for lane, share in self._lanes.items():
            self._engage(lane, share)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def run(self) -> None:
        """Deliver until told to stop, or until a `drain` is through."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for courier in self._all():
                    self._start(courier)
                await self._ending.wait()
        finally:
            self._group = None
            self._finished.set()

    async def reload(self, lanes: Mapping[Lane, float]) -> None:
        """Serve *lanes* from now on, with these shares; an order to stop or to drain stands over it. One at a time.

        A lane that is gone ends with the request in flight, and what waits for it stays in the outbox. One whose
        share changed goes on with an empty budget.
        """
        for lane in [*(self._couriers.keys() - lanes.keys()), *lanes]:
            if self._ending.is_set():
                return
            if lane not in lanes:
                self._dismiss(lane)
            elif lane in self._couriers:
                self._couriers[lane].share = lanes[lane]
            else:
                self._engage(lane, lanes[lane])
            await asyncio.sleep(0)  # there may be a thousand, and flags do not wait for them

    async def stop(self) -> None:
        """Claim nothing more; return once the requests in flight are answered and settled and `run` has returned."""
        self._ending.set()
        for courier in self._all():
            courier.stop()
        if self._group is not None:
            await self._finished.wait()

    async def drain(self) -> None:
        """Deliver what waits, without lingering but within the limits; return once nothing is left or `stop` came.

        What Heap refuses to take now (a held lane) is left where it is.
        """
        self._ending.set()
        for courier in self._all():
            courier.drain()
        await self._finished.wait()

    @property
    def delivered(self) -> int:
        """Events that Heap accepted since the start."""
        return self._delivered + sum(courier.delivered for courier in self._all())

    def lanes(self) -> list[LaneState]:
        """How every lane is doing."""
        return [courier.state() for courier in self._couriers.values()]

    def _all(self) -> list[Courier]:
        return [*self._couriers.values(), *self._leaving]

    def _engage(self, lane: Lane, share: float) -> None:
        # Each has orders of its own, as it may be told to stop alone.
        orders = Orders(self._sleep)
        heap = Heap(self._session, lane, self._clock)
        purse_of = partial(self._purses, lane)
        attempts = Attempts(heap, self._outbox, share, purse_of, self._metrics, self._clock, orders)
        courier = Courier(lane, attempts, self._outbox, self._metrics, self._clock, orders, self._rng, self._look_in)
        self._couriers[lane] = courier
        self._start(courier)

    def _own_purse(self, _: Lane, share: float) -> Purse:
        return OwnPurse(share, self._clock)

    def _look_in(self) -> float:
        """Seconds until an idle lane looks again: half more or less each time, as lanes in step would hold flags up."""
        return max(LOOK_IDLE, len(self._couriers) / LOOKS) * (0.5 + self._rng())

    def _dismiss(self, lane: Lane) -> None:
        courier = self._couriers.pop(lane)
        self._leaving.add(courier)
        courier.stop()

    def _start(self, courier: Courier) -> None:
        """Let it run, or leave that to `run`."""
        if self._group is not None:
            self._group.create_task(self._employ(courier), name=f"sender {courier.lane.url}")

    async def _employ(self, courier: Courier) -> None:
        await supervised(courier.run, "sender", self._metrics)
        if courier in self._leaving:
            self._leaving.remove(courier)
            self._delivered += courier.delivered
