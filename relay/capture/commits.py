"""Decide what becomes of exchanges that were read, and commit the outcome: all of it together, or what can be."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from relay.capture.batch import Batch, Case
from relay.capture.coalescing import Coalescer, Decisions, State
from relay.capture.counts import Counts
from relay.capture.daily_cap import DailyCap
from relay.capture.forecasting import Forecasts
from relay.capture.reading import Prepared, Reader
from relay.capture.refusals import Refusals
from relay.capture.turn import Turn
from relay.core.coalesce import UNCHANGED
from relay.core.daily import OVER_CAP
from relay.errors import OutboxError, OutboxFull
from relay.metrics import Metrics
from relay.model import Clock, Environment, Event, Exchange
from relay.outbox import Intake, Put

# Counts that come without events are handed over this often.
TALLY_SECONDS = 1.0


class Commits:
    """One commit after the other; what it is made of beside the outbox is its owner's, too."""

    def __init__(
        self, outbox: Intake, reader: Reader, coalescer: Coalescer, counts: Counts, metrics: Metrics, clock: Clock
    ) -> None:
        self._outbox = outbox
        self._reader = reader
        self._coalescer = coalescer
        self._counts = counts
        self._metrics = metrics
        self._clock = clock
        self.daily_cap = DailyCap(outbox, clock)
        self.forecasts = Forecasts(clock)
        self.refusals = Refusals()
        # Held while an outcome is being committed: whoever compares the books takes it, and sees no half-done change.
        self.committing = asyncio.Lock()
        # Monotonic: when counts that come without events are due again; somebody may wait for them.
        self._tell_at = clock.monotonic()
        self.hurried = False

    def hurry(self) -> None:
        """Tell all counts with the next commit, and until `hurried` is unset again."""
        self.hurried, self._tell_at = True, self._clock.monotonic()

    @property
    def due_in(self) -> float | None:
        """In how many seconds counts have to be told, though no event comes; None: there are none."""
        if not self._counts.tally and not self._coalescer.untold:
            return None
        return max(0.0, self._tell_at - self._clock.monotonic())

    async def commit(self, cases: Sequence[Case], decisions: Decisions, turn: Turn) -> None:
        """Decide about *cases*, and put what comes of them; count what the outbox does not take.

        A bug in the outbox refuses it too, and is raised on to who supervises this.
        """
        batch = Batch()
        for case in cases:
            if not self._is_repeat(case, decisions, batch):
                await self._decide(case, decisions, batch)
            await turn.share()
        for environment, times in self._counts.take_unchanged(batch.unchanged).items():
            self.forecasts.see(environment, UNCHANGED, times)
        if not await self._store(batch):
            await self._store(Batch())
        self.daily_cap.say()

    # What becomes of each.

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
            self._counts.note(environment.name, "skipped", prepared.skipped)
        elif prepared.refused:
            self._counts.note(environment.name, "refused", prepared.refused)
        if prepared.journal is not None:
            batch.journal.append(prepared.journal)
        if isinstance(prepared.entry, Event):
            batch.events.append(prepared.entry)
            batch.environments[environment.name] = environment
            if prepared.state:
                batch.fingerprints[prepared.entry.key] = prepared.state.fingerprint
        elif prepared.entry is not None:
            batch.dead.append(prepared.entry)

    # What becomes of all.

    async def _store(self, batch: Batch) -> bool:
        """Put *batch*, and counts with it; False where it was refused, and the counts alone may do."""
        now = self._clock.monotonic()
        is_time = now >= self._tell_at
        if batch.is_empty and not (is_time and (self._counts.tally or self._coalescer.untold)):
            return True
        tally = self._counts.tally.copy()
        repeats = self._coalescer.take_repeats(all_of_them=self.hurried) if is_time else {}
        try:
            async with self.committing:
                await self._outbox.put(Put(batch.events, batch.dead, tally, batch.journal, batch.coalescing(repeats)))
                self._counts.settle((event.environment for event in batch.entries()), tally)
        except Exception as failure:
            self._coalescer.give_back(repeats)
            self._tell_at = now + (TALLY_SECONDS if batch.is_empty else 0)
            self._refuse(batch, failure)
            if not isinstance(failure, OutboxError):
                raise
            return batch.is_empty
        if is_time and not self.hurried:
            self._tell_at = now + TALLY_SECONDS
        self._count_stored(batch)
        return True

    def _count_stored(self, batch: Batch) -> None:
        for case in batch.resting:
            if state := case.state:
                self.forecasts.see(state.environment.name, UNCHANGED, 1)
                self._counts.note(state.environment.name, "skipped", UNCHANGED.reason)
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
            self._counts.note(environment, "refused", reason, times)
        if not environments:
            return
        known = isinstance(failure, OutboxError)
        detail = str(failure) if known else "a bug in the outbox, logged as task.crashed"
        self.refusals.begin(reason, detail, environments.total())
