"""Take finished exchanges off the request path, decide what becomes of them, and commit the outcome in groups.

Flags are the product and capture is a passenger: nothing the proxy calls here waits or raises, and what cannot be
kept is counted.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from relay.capture.batch import Case, Offer
from relay.capture.coalescing import Coalescer, Mark, mark_of
from relay.capture.commits import Commits
from relay.capture.counts import Counts
from relay.capture.keys import time_ordered_key
from relay.capture.reading import Reader, is_large
from relay.capture.recording import CaptureLimits, CopyMemory, Recording
from relay.capture.turn import Turn
from relay.metrics import Metrics
from relay.model import Clock, Environment, Exchange
from relay.outbox import Intake

# A commit costs a disk flush, so it waits this long for company; "within 10 ms" is the promise.
GATHER_SECONDS = 0.008
# Events of one commit, so that the storage's other users get their turn.
COMMIT_EVENTS = 1000


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
        new_key: Callable[[float], str] = time_ordered_key,
    ) -> None:
        clock = clock or Clock()
        self._limits = limits
        self._metrics = metrics
        self._before_answer = before_answer
        self._reader = Reader(limits, new_key)
        self._coalescer = Coalescer(outbox)
        self.memory = CopyMemory(limits.memory)
        self.counts = Counts(metrics)
        self.commits = Commits(outbox, self._reader, self._coalescer, self.counts, metrics, clock)
        self._turn = Turn(self.memory, clock)
        self._small: deque[Offer] = deque()
        self._large: deque[Offer] = deque()
        self._done: list[Case] = []
        # Of what is sent only as news: the requests whose answers are not decided about yet.
        self._undecided: Counter[int] = Counter()
        # Nothing is to be committed, nor to be told.
        self._rests = False
        self._small_work = asyncio.Event()
        self._large_work = asyncio.Event()
        self._to_commit = asyncio.Event()

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
        self.counts.capture(environment.name)
        self._metrics.captured.labels(environment.name).inc()
        self.counts.note(environment.name, "skipped", reason)
        self._to_commit.set()

    async def run(self) -> None:
        """Read and commit what is offered, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_small(), name="capture.small")
            tasks.create_task(self._read_large(), name="capture.large")
            tasks.create_task(self._commit_for_ever(), name="capture.commit")

    async def drained(self) -> None:
        """Return once everything offered so far is in the outbox or counted as refused there."""
        self.commits.hurry()
        try:
            while not self.counts.idle.is_set():
                self._to_commit.set()
                await self.counts.idle.wait()
        finally:
            self.commits.hurried = False

    # What a recording tells.

    def refuse(self, environment: Environment, reason: str) -> None:
        """Count an identity answer that could not be kept."""
        self.counts.capture(environment.name)
        self._metrics.captured.labels(environment.name).inc()
        self.counts.note(environment.name, "refused", reason)
        self._to_commit.set()

    def offer(self, exchange: Exchange, size: int) -> "asyncio.Future[None] | None":
        """Queue an exchange that holds *size* reserved bytes, unless it is known right now that nothing is new."""
        mark = mark_of(exchange) if exchange.environment.on_change else None
        if mark and self._is_no_news(exchange, mark):
            self.memory.give_back(size)
            return None
        committed = asyncio.get_running_loop().create_future() if self._before_answer else None
        offer = Offer(exchange, size, committed, mark)
        # Once there was memory for all of that: who could not offer refuses.
        self.counts.capture(exchange.environment.name)
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
        self.counts.capture(exchange.environment.name)
        self.counts.unchanged[exchange.environment.name] += 1
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
            await self.commits.daily_cap.begin()
            await self._wait_for_cases()
            self._to_commit.clear()
            self._turn.begin()
            await self._commit()

    async def _wait_for_cases(self) -> None:
        patience = self.commits.due_in
        self._rests = patience is None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._to_commit.wait()
        self._rests = False

    async def _commit(self) -> None:
        cases = self._done[:]
        decisions = await self._coalescer.begin({one.state.who for one in cases if one.state})
        del self._done[: len(cases)]
        if self._small:
            self._small_work.set()  # there is room for more
        for name, times in Counter(one.offer.exchange.environment.name for one in cases).items():
            self._metrics.captured.labels(name).inc(times)
        try:
            await self.commits.commit(cases, decisions, self._turn)
        finally:
            self._let_go(cases)
        self.counts.rest()

    def _let_go(self, cases: Sequence[Case]) -> None:
        self.memory.give_back(sum(case.offer.size for case in cases))
        self._undecided -= Counter(case.offer.mark.request for case in cases if case.offer.mark)
        for case in cases if self._before_answer else ():
            if case.offer.committed is not None and not case.offer.committed.done():
                case.offer.committed.set_result(None)
