"""From a finished exchange to what it comes to: an entry for the outbox, one for the journal, or why there is none."""

from collections.abc import Callable, Mapping

import msgspec
import structlog
from msgspec.structs import replace

from relay.capture.coalescing import State
from relay.capture.recording import CaptureLimits
from relay.core.evaluate import KnownFlags, evaluate
from relay.core.recent import Recent
from relay.core.rules import Decision, decide, tell
from relay.core.translate import Properties, spelled_out
from relay.errors import CaptureRefused
from relay.model import DeadLetter, Environment, Evaluation, Event, Exchange, JournalEntry, Verdict

log = structlog.get_logger(__name__)

# Larger exchanges are read in a thread, one at a time. A coded byte counts as sixteen, as flags compress about so well;
# the loop stops to decode one that turns out larger than that, and leaves it to the thread.
LARGE_PLAIN = 64 * 1024
CODED_WEIGHS = 16
# Of these the first bytes can be had without the rest. Brotli fills its window, up to 16 MiB, before it gives any.
CODINGS_IN_STEPS = frozenset({"gzip", "x-gzip", "deflate", "zstd"})
# Sets of flags that are known again; 30 flags and what they come to take about 6 kB, measured.
KNOWN_FLAGS = 200
# Of an event that was never made.
NO_PROPERTIES = b"{}"


class Prepared(msgspec.Struct, frozen=True):
    """What an exchange comes to: an entry for the outbox, or why there is none; and one for its journal."""

    entry: Event | DeadLetter | None = None
    journal: JournalEntry | None = None
    skipped: str = ""
    refused: str = ""
    # Of an event that is sent only if it is news; alone it stands for one that was not read.
    state: State | None = None
    # Of what the event tells, or in shadow would tell.
    fingerprint: int | None = None
    # How often something was altered to be acceptable, by reason.
    altered: Mapping[str, int] = {}

    def sent_for(self, verdict: Verdict) -> "Prepared":
        """It, once that is the reason to send it."""
        return replace(self, journal=self.journal and replace(self.journal, verdict=verdict))

    def skipped_for(self, verdict: Verdict) -> "Prepared":
        """It without its event, once that is the reason to skip it."""
        journal = self.journal and replace(self.journal, verdict=verdict, key="")
        return replace(self, entry=None, journal=journal, skipped=verdict.reason, state=None)


class Reader:
    """Reads exchanges. *new_key* makes idempotency keys from the seconds since 1970."""

    def __init__(self, limits: CaptureLimits, new_key: Callable[[float], str]) -> None:
        self._limits = limits
        self._new_key = new_key
        self._known: KnownFlags = Recent(KNOWN_FLAGS)
        # What they come to, by mark and environment, whose rules may be others now.
        self._told: Recent[tuple[int, str], tuple[Environment, Properties]] = Recent(KNOWN_FLAGS)

    def read_small(self, exchange: Exchange) -> Prepared | None:
        """What *exchange* comes to; None where it is too large for the event loop."""
        if is_large(exchange):
            return None
        prepared = self._read(exchange, min(LARGE_PLAIN, self._limits.max_decoded), self._known)
        return None if prepared.refused == "too_large" else prepared

    def read(self, exchange: Exchange) -> Prepared:
        """What *exchange* comes to, however large it is; in any thread."""
        return self._read(exchange, self._limits.max_decoded, None)

    def _read(self, exchange: Exchange, max_decoded: int, known: KnownFlags | None) -> Prepared:
        try:
            return self._prepare(exchange, max_decoded, known)
        except CaptureRefused as refusal:
            return Prepared(refused=refusal.reason)
        except Exception:
            # One exchange is supervised like a task: a bug in reading it costs this one event, counted, and no other.
            log.exception("exchange.unreadable", environment=exchange.environment.name)
            return Prepared(refused="undecodable")

    def _prepare(self, exchange: Exchange, max_decoded: int, known: KnownFlags | None) -> Prepared:
        found = evaluate(exchange, max_decoded=max_decoded, max_flags=self._limits.max_flags, known=known)
        if isinstance(found, Verdict):
            return Prepared(skipped=found.reason)
        at = exchange.received_at
        decision = decide(found, exchange.environment, key=self._new_key(at), captured_at=at, tell=self._tell)
        properties = decision.translation.properties if decision.translation else None
        told = _fingerprint(decision)
        return Prepared(
            entry=decision.entry,
            journal=_journal_entry(exchange, found, decision),
            skipped="" if decision.entry else decision.verdict.reason,
            state=_state(exchange, decision, told),
            fingerprint=told,
            altered=properties.altered if properties else {},
        )

    def _tell(self, evaluation: Evaluation, environment: Environment) -> Properties:
        """What flags come to, which is worked out once for those that are known again."""
        if not evaluation.mark:
            return tell(evaluation, environment)
        place = evaluation.mark, environment.name
        known = self._told.get(place)
        if known is not None and known[0] is environment:
            return known[1]
        properties = tell(evaluation, environment)
        self._told.put(place, (environment, properties))
        return properties


def is_large(exchange: Exchange) -> bool:
    """Whether the loop should not begin to read it. A coded request, which nobody sends, needs no care beyond that."""
    coding = exchange.answer_encoding.lower()
    coded_request = bool(exchange.request_body and exchange.request_encoding)
    if coded_request or (coding and coding not in CODINGS_IN_STEPS):
        return True
    weight = CODED_WEIGHS if coding else 1
    return len(exchange.answer_body) * weight + len(exchange.request_body) > LARGE_PLAIN


def _fingerprint(decision: Decision) -> int | None:
    translation = decision.translation
    return translation.properties.fingerprint if translation and isinstance(translation.entry, Event) else None


def _state(exchange: Exchange, decision: Decision, told: int | None) -> State | None:
    environment, event = exchange.environment, decision.entry
    if not environment.on_change or not isinstance(event, Event) or told is None:
        return None
    return State(environment, (environment.name, event.identity), told)


def _journal_entry(exchange: Exchange, evaluation: Evaluation, decision: Decision) -> JournalEntry:
    """What is noted of an evaluation, under the identity that operators know, whatever Heap gets in its place."""
    entry = decision.entry.event if isinstance(decision.entry, DeadLetter) else decision.entry
    return JournalEntry(
        identity=spelled_out(evaluation.identity),
        environment=exchange.environment.name,
        at=exchange.received_at,
        method=exchange.method,
        verdict=decision.verdict,
        properties=decision.translation.properties.text if entry and decision.translation else NO_PROPERTIES,
        key=entry.key if entry else "",
    )
