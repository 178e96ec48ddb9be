"""What a row measured, and how it is held against what is promised."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from faults.fault import Fault, Risk
from faults.stores import COMMIT_TIMEOUT_SECONDS
from faults.traffic import Call, p99

# Calls that are sent so long after a fault's end succeed.
CALM_SECONDS = 3.0
# What a process wrote before its end may be read a little later.
UNDER_WAY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Span:
    """Monotonic seconds from the fault's begin to its end."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Seen:
    """All that a row left behind, seen from outside."""

    calls: Sequence[Call]
    # The same calls at the same time, past the relay.
    direct: Sequence[Call]
    span: Span
    # The identity of each event that Heap has, and when it was stored on Heap's clock; which maps a moment to that.
    stored: Sequence[tuple[str, float]]
    heap_clock: Callable[[float], float]
    repeats: int
    violations: int
    dead: Collection[str]
    # As `relay status` has it after the end.
    book: dict[str, Any]
    differences: Sequence[float]
    commit_timeouts: int
    at_risk: Sequence[Risk]
    before_answer: bool
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the matrix."""

    fault: str
    store: str
    form: str
    # Why it could not be inflicted here; nothing below was measured then.
    not_run: str = ""
    calls: int = 0
    captured: int = 0
    delivered: int = 0
    # Events that Heap has twice, of one call; and those that came again and that it knew by their key.
    duplicated: int = 0
    repeated: int = 0
    dead_lettered: int = 0
    # Answers that hold no evaluation, and what the outbox could not take: counted by the relay, with a reason.
    not_kept: dict[str, int] = field(default_factory=dict)
    # Answered 200, and in none of the places above; and those of them that the commit mode risks as it states.
    lost: int = 0
    risked: int = 0
    # How long before the end of its process the oldest of the risked was answered, in milliseconds.
    risked_ms: float = 0.0
    # Calls that ended without a whole 200; of those, the ones that the fault itself failed: nobody listened while the
    # relay was away, or it was Flagsmith that failed.
    failed: int = 0
    by_fault: int = 0
    # What the relay adds to the 99th percentile of a call while the fault lasts.
    added_p99_ms: float = 0.0
    # Until Heap had all that was captured before the fault's end.
    recovery_seconds: float = 0.0
    books_difference: float = 0.0
    samples: int = 0
    commit_timeouts: int = 0
    notes: tuple[str, ...] = ()
    # What was promised and not held.
    missed: tuple[str, ...] = ()


def measure(fault: Fault, store: str, form: str, seen: Seen) -> Result:
    """What *seen* comes to."""
    heard = {call.identity: call for call in seen.calls if call.succeeded}
    times = Counter(identity for identity, _ in seen.stored)
    missing = [call for identity, call in heard.items() if identity not in times and identity not in seen.dead]
    not_kept = Counter(seen.book["skipped"]) + Counter(seen.book["refused"])
    risked = [call for call in missing if is_at_risk(call, seen)]
    lost = max(0, len(missing) - not_kept.total())
    result = Result(
        fault=fault.name,
        store=store,
        form=form,
        calls=len(seen.calls),
        captured=seen.book["captured"],
        delivered=len(times),
        duplicated=sum(count - 1 for count in times.values()),
        repeated=seen.repeats,
        dead_lettered=len(seen.dead),
        not_kept=dict(not_kept),
        lost=lost,
        risked=min(lost, len(risked), at_most(seen)),
        risked_ms=max((until_end(call, seen) for call in risked), default=0.0) * 1000 if lost else 0.0,
        failed=sum(call.failed for call in seen.calls),
        by_fault=sum(call.refused or is_flagsmiths(call, fault, seen.span) for call in seen.calls),
        added_p99_ms=p99(during(seen.span, seen.calls)) - p99(during(seen.span, seen.direct)),
        recovery_seconds=recovery(seen, heard),
        books_difference=max(seen.differences, default=0.0),
        samples=len(seen.differences),
        commit_timeouts=seen.commit_timeouts,
        notes=tuple(seen.notes),
    )
    return judge(fault, result, seen)


def during(span: Span, calls: Sequence[Call]) -> list[Call]:
    """Those of *calls* that were sent while the fault lasted."""
    return [call for call in calls if span.began <= call.sent <= span.ended]


def is_flagsmiths(call: Call, fault: Fault, span: Span) -> bool:
    """Whether it failed because Flagsmith did."""
    return call.failed and fault.side == "flagsmith" and call.sent <= span.ended + CALM_SECONDS


def is_at_risk(call: Call, seen: Seen) -> bool:
    """Whether the commit mode promises nothing for it.

    With before_answer that is a call that was held back until the time-out; else one that was answered within the last
    commit interval of a process that died, or within what a Redis may lose.
    """
    if seen.before_answer:
        return call.seconds >= COMMIT_TIMEOUT_SECONDS
    answered = call.answered or 0.0
    return any(risk.began <= answered <= risk.ended + UNDER_WAY_SECONDS for risk in seen.at_risk)


def at_most(seen: Seen) -> int:
    """How many events may be lost, whenever they were answered."""
    most = sum(risk.most for risk in seen.at_risk)
    return len(seen.calls) if seen.before_answer or most == inf else int(most)


def until_end(call: Call, seen: Seen) -> float:
    """Seconds from its answer to the end of its process; 0 where the answer was seen after that."""
    answered = call.answered or 0.0
    ends = [risk.ended - answered for risk in seen.at_risk if risk.ended + UNDER_WAY_SECONDS >= answered]
    return max(0.0, min(ends, default=0.0))


def recovery(seen: Seen, heard: Collection[str]) -> float:
    """Seconds on Heap's clock, from the fault's end until the last of the events from before it was stored."""
    ended = seen.span.ended
    before = {call.identity for call in seen.calls if call.identity in heard and (call.answered or ended) < ended}
    stored = [at for identity, at in seen.stored if identity in before]
    return max(0.0, max(stored, default=0.0) - seen.heap_clock(ended))


def judge(fault: Fault, result: Result, seen: Seen) -> Result:
    """*result* with what it misses."""
    late = [call for call in seen.calls if call.failed and call.sent > seen.span.ended + CALM_SECONDS]
    sent = {call.identity for call in seen.calls}
    strangers = {identity for identity, _ in seen.stored} - sent
    checks = {
        f"{result.failed} calls failed": bool(result.failed) and not fault.calls_fail,
        f"{len(late)} calls failed after it": bool(late),
        f"{result.lost - result.risked} events lost": result.lost > result.risked,
        f"{result.duplicated} events twice in Heap": bool(result.duplicated),
        f"{len(strangers)} events that nobody asked for": bool(strangers),
        f"books off by {result.books_difference:g}": bool(result.books_difference),
        "the books were never seen": not result.samples,
        f"{seen.book['waiting']} events still wait": bool(seen.book["waiting"]),
        f"{result.dead_lettered} dead letters": result.dead_lettered != fault.dead_letters,
        f"Heap's limits passed {seen.violations} times": bool(seen.violations),
    }
    return replace(result, missed=tuple(words for words, holds in checks.items() if holds))
