"""The delivery of one lane: one request in flight, and a pause or a hold when Heap wants it so."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec
import structlog

from relay.core.batch import BATCH_EVENTS, chunk_of, leave_in
from relay.core.budget import Budget
from relay.core.settle import PASSING, Answer, Outcome, Part, Round, settlement
from relay.errors import OutboxError
from relay.metrics import Metrics
from relay.model import Clock, Lane, Ready, Settlement
from relay.outbox import Outbox
from relay.sender.attempts import LEASE, Attempts, Holding
from relay.sender.orders import Orders
from relay.sender.standing import LaneState, Standing

log = structlog.get_logger(__name__)

# While a batch grows it is looked at so often, in seconds; an arrival does not hurry it.
LOOK_GROWING = 0.5
# Between two tries of a storage that fails, in seconds.
STORAGE_PAUSE = 2.0
# How long the rest of a refused batch waits for an identity's budget before it is left to the outbox, in seconds.
PATIENCE = 5.0


class Tidings(msgspec.Struct, frozen=True):
    """What the outbox has to be told about claims."""

    token: str
    settlement: Settlement
    claims: Part


class Courier:
    """Delivers one lane's events."""

    def __init__(
        self,
        lane: Lane,
        attempts: Attempts,
        outbox: Outbox,
        metrics: Metrics,
        clock: Clock,
        orders: Orders,
        rng: Callable[[], float],
        look_in: Callable[[], float],
    ) -> None:
        self.lane = lane
        self.delivered = 0
        # Of Heap's limits; another one counts from the next batch.
        self.share = attempts.share
        self._attempts = attempts
        self._outbox = outbox
        self._metrics = metrics
        self._clock = clock
        self._orders = orders
        # Seconds until an idle lane looks again.
        self._look_in = look_in
        self._standing = Standing(lane, clock, rng)
        # Settled before anything else is sent: otherwise what Heap has already would go again and again.
        self._untold: deque[Tidings] = deque()
        self._drained = False
        self._storage_fails = False
        # Monotonic: when it claimed last, and since when something is ready.
        self._claimed_at = clock.monotonic()
        self._ready_since: float | None = None
        # The last claim found only events of identities over their share: look past them.
        self._look_further = False
        # Nothing of the last claim was put off.
        self._in_order = False

    async def run(self) -> None:
        """Deliver until told to stop, or to drain and nothing is left."""
        while not (self._orders.stopping or self._drained):
            try:
                await self._turn()
                self._storage_works()
            except OutboxError as failure:
                self._storage_failed(failure)
                await self._orders.rest(STORAGE_PAUSE)
        with suppress(OutboxError):  # then the leases end by themselves
            await self._tell_all()

    def stop(self) -> None:
        """Begin nothing more; `run` returns once the request in flight is answered and settled."""
        self._orders.stop()

    def drain(self) -> None:
        """Deliver without lingering; `run` returns once nothing is left that Heap takes."""
        self._orders.drain()

    def state(self) -> LaneState:
        """How the lane is doing now."""
        return self._standing.state(self._budget.used(self._clock.monotonic()))

    @property
    def _budget(self) -> Budget:
        return self._attempts.purse.budget

    async def _turn(self) -> None:
        """Wait a little, or deliver one batch."""
        await self._tell_all()
        if self.share != self._attempts.share:
            self._attempts.change_share(self.share)
        if self._orders.draining and self._standing.held:
            self._drained = True
            return
        if self._standing.closed > 0:
            await self._orders.rest(self._standing.closed)
            return
        ready = await self._outbox.peek(
            self.lane, limit=BATCH_EVENTS, max_bytes=self._attempts.room, now=self._clock.wall()
        )
        if not ready.events:
            await self._idle(ready)
            return
        await self._attempts.purse.look()
        if (wait := self._leave_in(ready)) > 0:
            await self._orders.rest(min(wait, LOOK_GROWING) if ready.events < self._chunk else wait)
        else:
            await self._deliver()

    async def _idle(self, ready: Ready) -> None:
        """Wait for an arrival, or for the next event to become due."""
        self._ready_since = None
        look_in = self._look_in()
        if ready.next_due is None:
            self._drained = self._orders.draining
            if not self._drained:
                await self._orders.rest_until(self._outbox.arrival(self.lane, look_in))
            return
        due_in = min(look_in, max(0.01, ready.next_due - self._clock.wall()))
        await self._orders.rest_until(self._outbox.arrival(self.lane, look_in), self._orders.rest(due_in))

    def _leave_in(self, ready: Ready) -> float:
        now = self._clock.monotonic()
        if self._standing.held:
            return self._budget.wait(1, now)
        if self._ready_since is None:
            self._ready_since = now
        hurry = self._orders.draining
        age = self._clock.wall() - ready.oldest if ready.oldest is not None else 0.0
        return leave_in(
            ready,
            limit=BATCH_EVENTS,
            max_bytes=self._attempts.room,
            chunk=self._chunk,
            tokens=self._budget.tokens(now),
            rate=self._budget.rate,
            waited=float("inf") if hurry else max(age, now - self._ready_since),
            since=float("inf") if hurry else now - self._claimed_at,
        )

    @property
    def _chunk(self) -> int:
        """Events of a backlog that are worth a request; in a hurry nobody saves up for long."""
        return chunk_of(self._budget.rate, in_order=self._in_order and not self._orders.draining)

    async def _deliver(self) -> None:
        """Claim a batch and carry it through."""
        holding = Holding(self._clock)
        self._in_order = True
        self._claimed_at, self._ready_since = self._clock.monotonic(), None
        lease = await self._outbox.claim(
            self.lane, limit=self._claim_limit(), max_bytes=self._attempts.room, now=self._clock.wall(), lease=LEASE
        )
        holding.token = lease.token
        await self._carry(holding, lease.claims)
        self._look_further = not holding.asked

    def _claim_limit(self) -> int:
        if self._standing.held:
            return 1
        if self._look_further:
            return BATCH_EVENTS
        return min(BATCH_EVENTS, self._budget.tokens(self._clock.monotonic()))

    async def _carry(self, holding: Holding, claims: Part) -> None:
        """Send *claims* in as many requests as the answers ask for.

        Where the storage fails in between, what is left is due once it works: nobody waits for the lease to end.
        """
        round_ = Round(self._standing.record, claims)
        later: dict[int, float] = {}
        try:
            await self._send(holding, round_, later)
        except OutboxError:
            self._leave(holding, round_, round_.end(), later)
            raise
        if holding.lost:
            log.warning("lease.lost", heap=self.lane.url, events=len(claims))
        else:
            await self._settle(holding, round_, round_.end(), later)

    async def _send(self, holding: Holding, round_: Round, later: dict[int, float]) -> None:
        """Send until the round is over; *later* says when what was left out is due."""
        while part := round_.next():
            selection = self._budget.select(part, self._clock.monotonic(), PATIENCE if holding.asked else 0.0)
            later |= {claim: self._clock.wall() + ahead for claim, ahead in selection.later.items()}
            self._in_order = self._in_order and not selection.later
            if not selection.go:
                continue
            unanswered = dict.fromkeys((claim.id for claim in selection.go), self._clock.wall())
            later |= unanswered
            answers = await self._attempts.send(holding, selection.go)
            if holding.lost or not answers:
                return
            for number in unanswered:
                del later[number]
            await self._conclude(holding, round_, round_.answered(selection.go, *answers), answers)

    async def _conclude(self, holding: Holding, round_: Round, outcome: Outcome, answers: Sequence[Answer]) -> None:
        """The answers to one part are in: heed them, say so, settle."""
        self._standing.heed(answers)
        now = self._clock.wall()
        for claim in outcome.delivered:
            self._metrics.delivery_lag.observe(max(0.0, now - claim.event.captured_at))
        self._tell(outcome, answers[-1])
        await self._settle(holding, round_, outcome, {})

    async def _settle(self, holding: Holding, round_: Round, outcome: Outcome, later: Mapping[int, float]) -> None:
        self._leave(holding, round_, outcome, later)
        await self._tell_all()

    def _leave(self, holding: Holding, round_: Round, outcome: Outcome, later: Mapping[int, float]) -> None:
        """Note what the outbox has to be told."""
        now, closed = self._clock.wall(), self._standing.closed
        told = settlement(outcome, round_.attempts, now=now, closed=closed, later=later)
        if told != Settlement():
            self._untold.append(Tidings(holding.token, told, round_.claims))

    async def _tell_all(self) -> None:
        """Tell the outbox what it does not know yet; what failed is tried again first thing next time."""
        while self._untold:
            tidings = self._untold[0]
            settled = await self._outbox.settle(tidings.token, tidings.settlement, now=self._clock.wall())
            self._untold.popleft()
            self._count(tidings, settled)

    def _count(self, tidings: Tidings, settled: frozenset[int]) -> None:
        """Only what was still ours: whatever somebody else claimed meanwhile, they count."""
        ack, dead = tidings.settlement.ack & settled, tidings.settlement.dead_letter
        delivered = Counter(claim.event.environment for claim in tidings.claims if claim.id in ack)
        self.delivered += delivered.total()
        for environment, events in delivered.items():
            self._metrics.delivered.labels(environment).inc(events)
        for claim in tidings.claims if dead else ():
            if claim.id in settled and claim.id in dead:
                self._metrics.dead_letters_made.labels(claim.event.environment, dead[claim.id].reason).inc()

    def _tell(self, outcome: Outcome, answer: Answer) -> None:
        """One line for each outcome, and nobody's name in it."""
        facts = {"heap": self.lane.url, "status": answer.status}
        if outcome.delivered:
            names = sorted({claim.event.environment for claim in outcome.delivered})
            log.info("batch.delivered", events=len(outcome.delivered), environments=names, **facts)
        if answer.kind in PASSING:
            wait = round(self._standing.closed, 1)
            log.warning("batch.delayed", events=len(outcome.retry), answer=answer.kind, pause=wait, **facts)
        for claim, cause in outcome.dead:
            log.warning(
                "event.refused", environment=claim.event.environment, reason=cause.reason, at=answer.path, **facts
            )

    def _storage_failed(self, failure: OutboxError) -> None:
        if not self._storage_fails:
            log.error("outbox.failing", heap=self.lane.url, detail=str(failure), unsettled=len(self._untold))
        self._storage_fails = True

    def _storage_works(self) -> None:
        if self._storage_fails:
            log.info("outbox.recovered", heap=self.lane.url)
        self._storage_fails = False
