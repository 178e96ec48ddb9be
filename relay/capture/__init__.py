"""Take finished exchanges off the request path, decide what becomes of them, and commit the outcome in groups.

Flags are the product and capture is a passenger: nothing the proxy calls here waits or raises, and what cannot be
kept is counted.
"""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from relay.capture.batch import Batch, Case, Offer
from relay.capture.refusals import Refusals
from relay.capture.turn import Turn
from relay.coalescing import Coalescer, Decisions, Mark, State, mark_of
from relay.core.coalesce import UNCHANGED
from relay.core.daily import OVER_CAP
from relay.daily_cap import DailyCap
from relay.errors import OutboxError, OutboxFull
from relay.forecasting import Forecasts
from relay.metrics import Metrics
from relay.model import Clock, Environment, Event, Exchange
from relay.outbox import Intake, Put
from relay.reading import Prepared, Reader, is_large
from relay.recording import CaptureLimits, CopyMemory, Recording

# A commit costs a disk flush, so it waits this long for company; "within 10 ms" is the promise.
GATHER_SECONDS = 0.008
# Events of one commit, so that the storage's other users get their turn.
COMMIT_EVENTS = 1000
# Counts that come without events are handed over this often.
TALLY_SECONDS = 1.0


class Capture:
    """From a recording to a committed event.

    With *before_answer*, `Recording.finish` gives a future to wait for. *new_key* makes idempotency keys from the
    seconds since 1970.
    """

    def __init__(
        self,
        outbox: Intake,
        limits: CaptureLimits,
        metrics: Metrics,
        *,
        before_answer: bool = False,
        clock: Clock | None = None,
        new_key: Callable[[float], str] | None = None,
    ) -> None:
        self._outbox = outbox
        self._limits = limits
        self._metrics = metrics
        self._clock = clock or Clock()
        self._reader = Reader(limits, new_key or time_ordered_key)
        self._coalescer = Coalescer(outbox)
        self._before_answer = before_answer
        self.memory = CopyMemory(limits.memory)
        self._turn = Turn(self.memory, self._clock)
        self.daily_cap = DailyCap(outbox, self._clock)
        self.forecasts = Forecasts(self._clock)
        self._small: deque[Offer] = deque()
        self._large: deque[Offer] = deque()
        self._done: list[Case] = []
        self._tally: Counter[tuple[str, str, str]] = Counter()
        # Answers that were unchanged, and are not in the tally yet, by environment.
        self._unchanged: Counter[str] = Counter()
        # Of what is sent only as news: the requests whose answers are not decided about yet.
        self._undecided: Counter[int] = Counter()
        # Monotonic: when counts that come without events are due again; somebody may wait for them.
        self._tell_at = self._clock.monotonic()
        self._hurried = False
        # Nothing is to be committed, nor to be told.
        self._rests = False
        self._small_work = asyncio.Event()
        self._large_work = asyncio.Event()
        self._to_commit = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.refusals = Refusals()
        # Held while an outcome is being committed: whoever compares the books takes it, and sees no half-done change.
        self.committing = asyncio.Lock()
        # What this process captured, and what of it is not in the outbox's books yet, by environment.
        self.captured: Counter[str] = Counter()
        self.in_hand: Counter[str] = Counter()

    @property
    def at_risk(self) -> int:
        """What would be lost if the process ended now: neither committed, nor known as skipped or refused."""
        return self.in_hand.total() - self._tally.total() - self._unchanged.total()

    def begin(
        self, environment: Environment, method: str, target: str, request_type: str, request_encoding: str
    ) -> Recording:
        """Start to remember one identity call."""
        return Recording(
            environment,
            method,
            target,
            request_type,
            request_encoding,
            limits=self._limits,
            memory=self.memory,
            listener=self,
        )

    def skip(self, environment: Environment, reason: str) -> None:
        """Count an identity answer that is seen and not kept."""
        self._count(environment.name)
        self._metrics.captured.labels(environment.name).inc()
        self._note(environment.name, "skipped", reason)
        self._to_commit.set()

    async def run(self) -> None:
        """Read and commit what is offered, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_small(), name="capture.small")
            tasks.create_task(self._read_large(), name="capture.large")
            tasks.create_task(self._commit_for_ever(), name="capture.commit")

    async def drained(self) -> None:
        """Return once everything offered so far is in the outbox or counted as refused there."""
        self._hurried, self._tell_at = True, self._clock.monotonic()
        try:
            while not self._idle.is_set():
                self._to_commit.set()
                await self._idle.wait()
        finally:
            self._hurried = False

    # What a recording tells.

    def refuse(self, environment: Environment, reason: str) -> None:
        """Count an identity answer that could not be kept."""
        self._count(environment.name)
        self._metrics.captured.labels(environment.name).inc()
        self._note(environment.name, "refused", reason)
        self._to_commit.set()

    def offer(self, exchange: Exchange, size: int) -> "asyncio.Future[None] | None":
        """Queue an exchange that holds *size* reserved bytes, unless it is known right now that nothing is new."""
        mark = mark_of(exchange) if exchange.environment.on_change else None
        if mark and self._is_no_news(exchange, mark):
            self.memory.give_back(size)
            return None
        committed = asyncio.get_running_loop().create_future() if self._before_answer else None
        offer = Offer(exchange, size, committed, mark)
        self._count(exchange.environment.name)  # once there was memory for all of that: who could not offer refuses
        if mark:
            self._undecided[mark.request] += 1
        if mark or not is_large(exchange):
            self._small.append(offer)
            self._small_work.set()
        else:
            self._read_in_thread(offer)
        return committed

    def _is_no_news(self, exchange: Exchange, mark: Mark) -> bool:
        """Count *exchange* if it is known, unchanged, and no other answer to its request is to be decided before."""
        state = None if mark.request in self._undecided else self._coalescer.know(exchange.environment, mark)
        if state is None or not self._coalescer.is_unchanged(state, exchange.received_at):
            return False
        self._coalescer.repeat(state.who, 1, exchange.received_at)
        self._count(exchange.environment.name)
        self._unchanged[exchange.environment.name] += 1
        if self._rests:
            self._to_commit.set()
        return True

    # The workers: two that read, and one that commits what they have read meanwhile.

    async def _read_small(self) -> None:
        while True:
            await self._small_work.wait()
            if not self._before_answer:
                await asyncio.sleep(GATHER_SECONDS)
            self._small_work.clear()
            self._turn.begin()
            while self._small and len(self._done) < COMMIT_EVENTS:
                self._read(self._small.popleft())
                await self._turn.share()
            self._to_commit.set()  # not before: a commit costs little more with all of them

    def _read(self, offer: Offer) -> None:
        if offer.mark and (known := self._coalescer.know(offer.exchange.environment, offer.mark)):
            self._done.append(Case(offer, known))
        elif prepared := self._reader.read_small(offer.exchange):
            self._done.append(Case(offer, prepared.state, prepared))
        else:
            self._read_in_thread(offer)

    def _read_in_thread(self, offer: Offer) -> None:
        self._large.append(offer)
        self._large_work.set()

    async def _read_large(self) -> None:
        while True:
            while self._large:
                # Taken off once it is read, so that none is lost where the task is broken off and restarted.
                offer = self._large[0]
                prepared = await asyncio.to_thread(self._reader.read, offer.exchange)
                self._done.append(Case(self._large.popleft(), prepared.state, prepared))
                self._to_commit.set()
            await self._large_work.wait()
            self._large_work.clear()

    async def _commit_for_ever(self) -> None:
        while True:
            await self.daily_cap.begin()
            await self._wait_for_cases()
            self._to_commit.clear()
            self._turn.begin()
            await self._commit()

    async def _wait_for_cases(self) -> None:
        if not self._tally and not self._coalescer.untold:
            self._rests = True
            await self._to_commit.wait()
            self._rests = False
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._tell_at - self._clock.monotonic())):
                await self._to_commit.wait()

    async def _commit(self) -> None:
        cases = self._done[:]
        decisions = await self._coalescer.begin({one.state.who for one in cases if one.state})
        del self._done[: len(cases)]
        if self._small:
            self._small_work.set()  # there is room for more
        for name, times in Counter(one.offer.exchange.environment.name for one in cases).items():
            self._metrics.captured.labels(name).inc(times)
        batch = Batch()
        try:
            for case in cases:
                if not self._is_repeat(case, decisions, batch):
                    await self._decide(case, decisions, batch)
                await self._turn.share()
            self._tell_unchanged(batch)
            if not await self._store(batch):
                await self._store(Batch())
        finally:
            self._let_go(cases)
        self.daily_cap.say()
        if not self.in_hand.total():
            self._idle.set()

    def _tell_unchanged(self, batch: Batch) -> None:
        """Count what was unchanged: in *batch*, and on the spot."""
        for name, times in self._unchanged.items():
            self._metrics.captured.labels(name).inc(times)
        for name, times in (batch.unchanged + self._unchanged).items():
            self.forecasts.see(name, UNCHANGED, times)
            self._note(name, "skipped", UNCHANGED.reason, times)
        self._unchanged.clear()

    def _is_repeat(self, case: Case, decisions: Decisions, batch: Batch) -> bool:
        """Whether *case* is of known bytes and unchanged, as nearly all are where only news is sent."""
        state = case.state
        if case.prepared or not state or decisions.decide(state, case.offer.exchange.received_at).send:
            return False
        self._rest(case, state, decisions, batch)
        return True

    async def _decide(self, case: Case, decisions: Decisions, batch: Batch) -> None:
        """Add to *batch* what becomes of *case*: all of it, unless it is sent only as news, and is none."""
        exchange, state, prepared = case.offer.exchange, case.state, case.prepared
        verdict = decisions.decide(state, exchange.received_at) if state else None
        if prepared and state and case.offer.mark:
            self._coalescer.learn(case.offer.mark, state)
        if state and verdict is UNCHANGED:
            self._rest(case, state, decisions, batch)
            return
        prepared = prepared or await self._read_after_all(exchange)
        prepared = self._capped(prepared.sent_for(verdict) if verdict else prepared)
        if prepared.state:
            decisions.send(prepared.state, exchange.received_at)
        self._add(exchange.environment, prepared, batch)

    def _rest(self, case: Case, state: State, decisions: Decisions, batch: Batch) -> None:
        """Let an unchanged one be, at once or when what it is like is stored."""
        if decisions.is_sending(state.who):
            batch.resting.append(case)
        else:
            batch.unchanged[state.environment.name] += 1
            self._coalescer.repeat(state.who, 1, case.offer.exchange.received_at)

    def _capped(self, prepared: Prepared) -> Prepared:
        """*prepared*, skipped where it is an event that its environment's daily cap stops."""
        entry = prepared.entry
        if not isinstance(entry, Event) or self.daily_cap.admit(entry):
            return prepared
        return prepared.skipped_for(OVER_CAP)

    async def _read_after_all(self, exchange: Exchange) -> Prepared:
        """What known bytes come to. It is waited for, as what comes after has to be compared with it."""
        prepared = self._reader.read_small(exchange)
        return prepared if prepared is not None else await asyncio.to_thread(self._reader.read, exchange)

    def _add(self, environment: Environment, prepared: Prepared, batch: Batch) -> None:
        """Count what is decided; the rest is decided by what becomes of *batch*."""
        self.forecasts.see_answer(environment.name, prepared)
        for reason, times in prepared.altered.items():
            self._metrics.altered.labels(environment.name, reason).inc(times)
        if prepared.skipped:
            self._note(environment.name, "skipped", prepared.skipped)
        elif prepared.refused:
            self._note(environment.name, "refused", prepared.refused)
        if prepared.journal is not None:
            batch.journal.append(prepared.journal)
        if isinstance(prepared.entry, Event):
            batch.events.append(prepared.entry)
            batch.environments[environment.name] = environment
            if prepared.state:
                batch.fingerprints[prepared.entry.key] = prepared.state.fingerprint
        elif prepared.entry is not None:
            batch.dead.append(prepared.entry)

    def _let_go(self, cases: Sequence[Case]) -> None:
        self.memory.give_back(sum(case.offer.size for case in cases))
        self._undecided -= Counter(case.offer.mark.request for case in cases if case.offer.mark)
        for case in cases if self._before_answer else ():
            if case.offer.committed is not None and not case.offer.committed.done():
                case.offer.committed.set_result(None)

    async def _store(self, batch: Batch) -> bool:
        """Put *batch*, and counts with it; False where it was refused, and the counts alone may do.

        A bug in the outbox refuses it too, and is raised on to who supervises this.
        """
        now = self._clock.monotonic()
        is_time = now >= self._tell_at
        if batch.is_empty and not (is_time and (self._tally or self._coalescer.untold)):
            return True
        tally = self._tally.copy()
        repeats = self._coalescer.take_repeats(all_of_them=self._hurried) if is_time else {}
        try:
            async with self.committing:
                await self._outbox.put(Put(batch.events, batch.dead, tally, batch.journal, batch.coalescing(repeats)))
                self._settle_in_hand(batch, tally)
        except Exception as failure:
            self._coalescer.give_back(repeats)
            self._tell_at = now + (TALLY_SECONDS if batch.is_empty else 0)
            self._refuse(batch, failure)
            if not isinstance(failure, OutboxError):
                raise
            return batch.is_empty
        if is_time and not self._hurried:
            self._tell_at = now + TALLY_SECONDS
        self._count_stored(batch)
        return True

    def _count_stored(self, batch: Batch) -> None:
        for case in batch.resting:
            if state := case.state:
                self.forecasts.see(state.environment.name, UNCHANGED, 1)
                self._note(state.environment.name, "skipped", UNCHANGED.reason)
                self._coalescer.repeat(state.who, 1, case.offer.exchange.received_at)
        made = Counter((entry.environment, entry.verdict.reason) for entry in batch.journal if entry.verdict.send)
        for (environment, reason), events in made.items():
            self._metrics.events.labels(environment, reason).inc(events)
        for letter in batch.dead:
            self._metrics.dead_letters_made.labels(letter.event.environment, letter.cause.reason).inc()
        if batch.events or batch.dead:
            self.refusals.end()

    def _refuse(self, batch: Batch, failure: Exception) -> None:
        """Count all that is not stored, and what was thought unchanged only for it."""
        reason = "outbox_full" if isinstance(failure, OutboxFull) else "outbox_error"
        self.daily_cap.take_back(batch.events)
        environments = Counter(event.environment for event in batch.entries())
        environments.update(case.offer.exchange.environment.name for case in batch.resting)
        for environment, times in environments.items():
            self._note(environment, "refused", reason, times)
        if not environments:
            return
        known = isinstance(failure, OutboxError)
        detail = str(failure) if known else "a bug in the outbox, logged as task.crashed"
        self.refusals.begin(reason, detail, environments.total())

    def _settle_in_hand(self, batch: Batch, tally: "Counter[tuple[str, str, str]]") -> None:
        self._tally -= tally
        self.in_hand.subtract(event.environment for event in batch.entries())
        for (environment, _, _), times in tally.items():
            self.in_hand[environment] -= times

    def _count(self, environment: str) -> None:
        self._idle.clear()
        self.captured[environment] += 1
        self.in_hand[environment] += 1

    def _note(self, environment: str, book: str, reason: str, times: int = 1) -> None:
        self._tally[environment, book, reason] += times
        metric = self._metrics.skipped if book == "skipped" else self._metrics.refused
        metric.labels(environment, reason).inc(times)


def time_ordered_key(at: float) -> str:
    """An idempotency key: 12 hex digits of milliseconds, so that neighbours are stored together, and 96 random bits."""
    return f"{int(at * 1000):012x}{secrets.token_hex(12)}"
