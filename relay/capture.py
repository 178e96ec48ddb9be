"""Take finished exchanges off the request path, decide what becomes of them, and commit the outcome in groups.

Flags are the product and capture is a passenger: nothing the proxy calls here waits or raises, and what cannot be
kept is counted.
"""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import structlog

from relay.core.daily import OVER_CAP
from relay.core.evaluate import evaluate
from relay.core.rules import Decision, decide
from relay.core.translate import Translation, spelled_out
from relay.daily_cap import DailyCap
from relay.errors import CaptureRefused, OutboxError, OutboxFull
from relay.metrics import Metrics
from relay.model import Clock, DeadLetter, Environment, Evaluation, Event, Exchange, JournalEntry, Verdict
from relay.outbox import Outbox
from relay.recording import Call, CaptureLimits, CopyMemory, Recording

log = structlog.get_logger(__name__)

# Larger exchanges are read in a thread, one at a time. A coded byte counts as sixteen, as flags compress about so well;
# the loop stops to decode one that turns out larger than that, and leaves it to the thread.
LARGE_PLAIN = 64 * 1024
CODED_WEIGHS = 16
# Of these the first bytes can be had without the rest. Brotli fills its window, up to 16 MiB, before it gives any.
CODINGS_IN_STEPS = frozenset({"gzip", "x-gzip", "deflate", "zstd"})
# How long the event loop may be kept from flags by reading answers.
SLICE_SECONDS = 0.001
# A commit costs a disk flush, so it waits this long for company; "within 10 ms" is the promise.
GATHER_SECONDS = 0.005
# Events of one commit, so that the storage's other users get their turn.
COMMIT_EVENTS = 1000
# Of an event that was never made.
NO_PROPERTIES = b"{}"
# Counts that come without events are handed over this often.
TALLY_SECONDS = 1.0


class Capture:
    """From a recording to a committed event.

    With *before_answer*, `Recording.finish` gives a future to wait for. *new_key* makes idempotency keys from the
    seconds since 1970.
    """

    def __init__(
        self,
        outbox: Outbox,
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
        self._new_key = new_key or time_ordered_key
        self._before_answer = before_answer
        self.memory = CopyMemory(limits.memory)
        self.daily_cap = DailyCap(outbox, self._clock)
        self._small: deque[_Offer] = deque()
        self._large: deque[_Offer] = deque()
        self._done: list[_Outcome] = []
        self._tally: Counter[tuple[str, str, str]] = Counter()
        self._work = asyncio.Event()
        self._large_work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        # What was refused by reason since it began; a full disk refuses for hours, and is said once.
        self._refusing: Counter[str] = Counter()
        # Held while an outcome is being committed: whoever compares the books takes it, and sees no half-done change.
        self.committing = asyncio.Lock()
        # What this process captured, and what of it is not in the outbox's books yet, by environment.
        self.captured: Counter[str] = Counter()
        self.in_hand: Counter[str] = Counter()

    @property
    def at_risk(self) -> int:
        """What would be lost if the process ended now: neither committed, nor known as skipped or refused."""
        return self.in_hand.total() - self._tally.total()

    def begin(
        self, environment: Environment, method: str, target: str, request_type: str, request_encoding: str
    ) -> Recording:
        """Start to remember one identity call."""
        call = Call(environment, method, target, request_type, request_encoding)
        return Recording(call, self._limits, self.memory, self)

    def skip(self, environment: Environment, reason: str) -> None:
        """Count an identity answer that is seen and not kept."""
        self._count(environment.name)
        self._note(environment.name, "skipped", reason)

    async def run(self) -> None:
        """Read and commit what is offered, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_large(), name="capture.large")
            tasks.create_task(self._commit_for_ever(), name="capture.commit")

    async def drained(self) -> None:
        """Return once everything offered so far is in the outbox or counted as refused there."""
        while not self._idle.is_set():
            self._work.set()
            await self._idle.wait()

    # What a recording tells.

    def refuse(self, environment: Environment, reason: str) -> None:
        """Count an identity answer that could not be kept."""
        self._count(environment.name)
        self._note(environment.name, "refused", reason)

    def offer(self, exchange: Exchange, size: int) -> "asyncio.Future[None] | None":
        """Queue an exchange that holds *size* reserved bytes."""
        committed = asyncio.get_running_loop().create_future() if self._before_answer else None
        offer = _Offer(exchange, size, committed)
        self._count(exchange.environment.name)
        if _is_large(exchange):
            self._read_in_thread(offer)
        else:
            self._small.append(offer)
            self._work.set()
        return committed

    # The worker.

    async def _commit_for_ever(self) -> None:
        while True:
            await self.daily_cap.begin()
            await self._wait_for_work()
            if not self._before_answer:
                await asyncio.sleep(GATHER_SECONDS)
            self._work.clear()
            await self._read_small()
            await self._commit()

    async def _wait_for_work(self) -> None:
        if not self._tally:
            await self._work.wait()
            return
        try:
            async with asyncio.timeout(TALLY_SECONDS):
                await self._work.wait()
        except TimeoutError:
            return

    async def _read_small(self) -> None:
        slice_began = self._clock.monotonic()
        while self._small and len(self._done) < COMMIT_EVENTS:
            offer = self._small.popleft()
            prepared = self._prepare(offer.exchange, min(LARGE_PLAIN, self._limits.max_decoded))
            if prepared.refused == "too_large":
                self._read_in_thread(offer)
            else:
                self._done.append(_Outcome(offer, prepared))
            if self._clock.monotonic() - slice_began > SLICE_SECONDS:
                await asyncio.sleep(0)
                slice_began = self._clock.monotonic()
        if self._small:
            self._work.set()

    def _read_in_thread(self, offer: "_Offer") -> None:
        self._large.append(offer)
        self._large_work.set()

    async def _read_large(self) -> None:
        while True:
            while self._large:
                # Taken off once it is read, so that none is lost where the task is broken off and restarted.
                offer = self._large[0]
                prepared = await asyncio.to_thread(self._prepare, offer.exchange, self._limits.max_decoded)
                self._done.append(_Outcome(self._large.popleft(), prepared))
                self._work.set()
            await self._large_work.wait()
            self._large_work.clear()

    def _prepare(self, exchange: Exchange, max_decoded: int) -> "_Prepared":
        try:
            return self._decide(exchange, max_decoded)
        except CaptureRefused as refusal:
            return _Prepared(refused=refusal.reason)
        except Exception:
            # One exchange is supervised like a task: a bug in reading it costs this one event, counted, and no other.
            log.exception("exchange.unreadable", environment=exchange.environment.name)
            return _Prepared(refused="undecodable")

    def _decide(self, exchange: Exchange, max_decoded: int) -> "_Prepared":
        found = evaluate(exchange, max_decoded=max_decoded, max_flags=self._limits.max_flags)
        if isinstance(found, Verdict):
            return _Prepared(skipped=found.reason)
        at = exchange.received_at
        decision = decide(found, exchange.environment, key=self._new_key(at), captured_at=at)
        if decision.translation:
            self._count_altered(exchange.environment.name, decision.translation)
        return _Prepared(
            entry=decision.entry,
            journal=_journal_entry(exchange, found, decision),
            skipped="" if decision.entry else decision.verdict.reason,
        )

    def _count_altered(self, environment: str, translation: Translation) -> None:
        for reason, times in translation.altered.items():
            self._metrics.altered.labels(environment, reason).inc(times)

    async def _commit(self) -> None:
        outcomes, self._done = [self._capped(outcome) for outcome in self._done], []
        for outcome in outcomes:
            self._note_outcome(outcome)
        entries = [outcome.prepared.entry for outcome in outcomes if outcome.prepared.entry is not None]
        journal = [outcome.prepared.journal for outcome in outcomes if outcome.prepared.journal is not None]
        try:
            if not await self._store(entries, journal):
                await self._store([], [])
        finally:
            for outcome in outcomes:
                self._let_go(outcome.offer)
        self.daily_cap.say()
        if not self.in_hand.total():
            self._idle.set()

    def _capped(self, outcome: "_Outcome") -> "_Outcome":
        """*outcome*, skipped where it is an event that its environment's daily cap stops."""
        entry = outcome.prepared.entry
        if not isinstance(entry, Event) or self.daily_cap.admit(entry):
            return outcome
        return _Outcome(outcome.offer, outcome.prepared.skipped_for(OVER_CAP))

    def _let_go(self, offer: "_Offer") -> None:
        self.memory.give_back(offer.size)
        if offer.committed is not None and not offer.committed.done():
            offer.committed.set_result(None)

    async def _store(self, entries: "list[Event | DeadLetter]", journal: list[JournalEntry]) -> bool:
        """Put *entries*, *journal* and the tally; False where the entries were refused, and the tally alone may do.

        A bug in the outbox refuses them too, and is raised on to who supervises this.
        """
        tally, self._tally = self._tally, Counter()
        if not entries and not tally:
            return True
        events = [entry for entry in entries if isinstance(entry, Event)]
        dead = [entry for entry in entries if isinstance(entry, DeadLetter)]
        try:
            async with self.committing:
                await self._outbox.put(events, dead, tally, journal)
                self._settle_in_hand([*events, *(letter.event for letter in dead)], tally)
        except OutboxError as failure:
            self._tally.update(tally)
            self._refuse_all(entries, failure)
            return not entries and not journal
        except Exception:
            self._tally.update(tally)
            self._refuse_all(entries, OutboxError("a bug in the outbox, logged as task.crashed"))
            raise
        for letter in dead:
            self._metrics.dead_letters_made.labels(letter.event.environment, letter.cause.reason).inc()
        if entries and self._refusing:
            self._resume()
        return True

    def _refuse_all(self, entries: "list[Event | DeadLetter]", failure: OutboxError) -> None:
        reason = "outbox_full" if isinstance(failure, OutboxFull) else "outbox_error"
        self.daily_cap.take_back(entry for entry in entries if isinstance(entry, Event))
        environments = Counter(_environment_of(entry) for entry in entries)
        for environment, times in environments.items():
            self._note(environment, "refused", reason, times)
        if not environments:
            return
        if reason not in self._refusing:
            log.error("capture.refused", reason=reason, detail=str(failure), consequence="events are lost, flags go on")
        self._refusing[reason] += environments.total()

    def _resume(self) -> None:
        """Events are stored again: say so once for each reason that had kept them out."""
        for reason, events in self._refusing.items():
            log.info("capture.resumed", reason=reason, refused=events)
        self._refusing.clear()

    def _settle_in_hand(self, events: Iterable[Event], tally: "Counter[tuple[str, str, str]]") -> None:
        self.in_hand.subtract(event.environment for event in events)
        for (environment, _, _), times in tally.items():
            self.in_hand[environment] -= times

    def _note_outcome(self, outcome: "_Outcome") -> None:
        environment, prepared = outcome.offer.exchange.environment.name, outcome.prepared
        if prepared.skipped:
            self._note(environment, "skipped", prepared.skipped)
        elif prepared.refused:
            self._note(environment, "refused", prepared.refused)

    def _count(self, environment: str) -> None:
        self._idle.clear()
        self.captured[environment] += 1
        self.in_hand[environment] += 1
        self._metrics.captured.labels(environment).inc()

    def _note(self, environment: str, book: str, reason: str, times: int = 1) -> None:
        self._tally[environment, book, reason] += times
        metric = self._metrics.skipped if book == "skipped" else self._metrics.refused
        metric.labels(environment, reason).inc(times)


def time_ordered_key(at: float) -> str:
    """An idempotency key: 12 hex digits of milliseconds, so that neighbours are stored together, and 96 random bits."""
    return f"{int(at * 1000):012x}{secrets.token_hex(12)}"


@dataclass(frozen=True, slots=True)
class _Offer:
    exchange: Exchange
    # Bytes reserved of the memory of all copies.
    size: int
    committed: "asyncio.Future[None] | None"


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What an exchange comes to: an entry for the outbox, or why there is none; and one for its journal."""

    entry: Event | DeadLetter | None = None
    journal: JournalEntry | None = None
    skipped: str = ""
    refused: str = ""

    def skipped_for(self, verdict: Verdict) -> "_Prepared":
        """The same without its event."""
        journal = self.journal and replace(self.journal, verdict=verdict, key="")
        return _Prepared(journal=journal, skipped=verdict.reason)


@dataclass(frozen=True, slots=True)
class _Outcome:
    offer: _Offer
    prepared: _Prepared


def _is_large(exchange: Exchange) -> bool:
    """Whether the loop should not begin to read it. A coded request, which nobody sends, needs no care beyond that."""
    coding = exchange.answer_encoding.lower()
    coded_request = bool(exchange.request_body and exchange.request_encoding)
    if coded_request or (coding and coding not in CODINGS_IN_STEPS):
        return True
    weight = CODED_WEIGHS if coding else 1
    return len(exchange.answer_body) * weight + len(exchange.request_body) > LARGE_PLAIN


def _journal_entry(exchange: Exchange, evaluation: Evaluation, decision: Decision) -> JournalEntry:
    """What is noted of an evaluation, under the identity that operators know, whatever Heap gets in its place."""
    entry = decision.entry.event if isinstance(decision.entry, DeadLetter) else decision.entry
    return JournalEntry(
        identity=spelled_out(evaluation.identity),
        environment=exchange.environment.name,
        at=exchange.received_at,
        method=exchange.method,
        verdict=decision.verdict,
        properties=decision.translation.properties if decision.translation else NO_PROPERTIES,
        key=entry.key if entry else "",
    )


def _environment_of(entry: Event | DeadLetter) -> str:
    return entry.environment if isinstance(entry, Event) else entry.event.environment
