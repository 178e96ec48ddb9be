"""One request's few tries inside a lease: each of them paid for, each with enough of the lease left."""

from collections.abc import Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_random_exponential

from relay.core.settle import PASSING, Answer, Kind, Part
from relay.errors import HeapUnreachable
from relay.heap import Heap
from relay.metrics import Metrics
from relay.model import Clock
from relay.outbox import Outbox
from relay.sender.orders import Orders
from relay.sender.purse import Purse

# How long events are ours without a word to the outbox, in seconds, and what of it a request must find left: more than
# Heap is given to answer.
LEASE = 60.0
MARGIN = 15.0
# A lease this young, in seconds, is as good as renewed for its first request.
YOUNG = 5.0
# A repeat that cannot be paid for within this many seconds is left to the outbox.
LONGEST_SAVING = 20.0

TRIES = 4
BACKOFF = wait_random_exponential(multiplier=0.5, max=10)  # full jitter


class Holding:
    """A lease as far as time goes; both clocks have to agree, as the one may jump and the other may stand still."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.token = ""  # nosec B105  # none yet
        self.lost = False
        self.asked = False
        self.begin()

    def begin(self) -> float:
        """The lease is about to be taken or renewed; return its end in seconds since 1970."""
        self._wall, self._monotonic = self._clock.wall() + LEASE, self._clock.monotonic() + LEASE
        return self._wall

    @property
    def left(self) -> float:
        """Seconds until it ends."""
        return min(self._wall - self._clock.wall(), self._monotonic - self._clock.monotonic())


class Attempts:
    """Sends requests for one lane, one at a time."""

    def __init__(
        self,
        heap: Heap,
        outbox: Outbox,
        share: float,
        purse_of: Callable[[float], Purse],
        metrics: Metrics,
        clock: Clock,
        orders: Orders,
    ) -> None:
        self.room = heap.room
        self.share = share
        self.purse = purse_of(share)
        self._purse_of = purse_of
        self._heap = heap
        self._outbox = outbox
        self._metrics = metrics
        self._clock = clock
        self._orders = orders

    def change_share(self, share: float) -> None:
        """Use *share* of the limits, with a purse that is empty at first. Not while something is sent."""
        self.share = share
        self.purse = self._purse_of(share)

    async def send(self, holding: Holding, part: Part) -> list[Answer]:
        """What Heap said to each request for *part*; the last one counts.

        Empty where none was made: told to stop, or the lease is lost. Raises OutboxError where the lease could not be
        renewed, or a shared budget not be spent.
        """
        answers: list[Answer] = []

        async def attempt() -> Answer | None:
            if await self._may_start(holding, part):
                answers.append(await self._request(part))
            return answers[-1] if answers else None

        def is_hopeless(state: RetryCallState) -> bool:
            return holding.lost or self._orders.stopping or state.upcoming_sleep > holding.left - MARGIN

        retrying = AsyncRetrying(
            sleep=self._orders.rest,
            retry=retry_if_result(_passes),
            wait=_wait,
            stop=lambda state: stop_after_attempt(TRIES)(state) or is_hopeless(state),
            retry_error_callback=lambda _: None,
        )
        await retrying(attempt)
        return answers

    async def _may_start(self, holding: Holding, part: Part) -> bool:
        """Save up for *part*, renew the lease, and pay; False where one of them cannot be."""
        while await self._save_up(part) and await self._hold_on(holding):
            if await self.purse.spend(part):
                holding.asked = True
                return True
        return False

    async def _hold_on(self, holding: Holding) -> bool:
        """Whether enough of the lease is left, renewed where it is no longer young."""
        if holding.asked or holding.left < LEASE - YOUNG:
            until = holding.begin()
            holding.lost = await self._outbox.renew(holding.token, until=until) == 0
        return not holding.lost and holding.left >= MARGIN

    async def _save_up(self, part: Part) -> bool:
        while (wait := self.purse.budget.wait_for(part, self._clock.monotonic())) > 0:
            if wait > LONGEST_SAVING or self._orders.stopping:
                return False
            await self._orders.rest(wait)
        return not self._orders.stopping

    async def _request(self, part: Part) -> Answer:
        try:
            answer = await self._heap.track([claim.event.body for claim in part])
        except HeapUnreachable as unreachable:
            answer = Answer(Kind.UNREACHABLE, text=str(unreachable), at=self._clock.wall())
        self._metrics.attempts.labels(answer.kind).inc()
        self._metrics.batch_events.observe(len(part))
        return answer


def _passes(answer: Answer | None) -> bool:
    return answer is not None and answer.kind in PASSING


def _wait(state: RetryCallState) -> float:
    """Heap's own wish counts where it is longer."""
    answer = state.outcome.result() if state.outcome else None
    return max(BACKOFF(state), answer.retry_after or 0.0 if answer else 0.0)
