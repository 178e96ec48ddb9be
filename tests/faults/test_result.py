"""The verdict on a row: what it counts, and that no broken promise passes."""

from dataclasses import replace
from typing import Any

import pytest

from faults.fault import Fault, Risk
from faults.play import total
from faults.result import Result, Seen, Span, measure
from faults.rows import ROWS
from faults.traffic import Call

FAULT = ROWS["heap-refusing"]
BOOK: dict[str, Any] = {"captured": 3, "waiting": 0, "skipped": {}, "refused": {}}


def call(identity: str, sent: float, *, seconds: float = 0.01, status: int = 200, refused: bool = False) -> Call:
    return Call(identity, sent, sent + seconds if status else None, status, refused, over=True)


# A call before the fault, one while it lasts and one after it; each became an event.
GOOD = Seen(
    calls=[call("ada", 1.0), call("grace", 6.0), call("linus", 12.0)],
    direct=[call("ada", 6.0, seconds=0.002)],
    span=Span(5.0, 10.0),
    stored=[("ada", 3.0), ("grace", 14.5), ("linus", 15.0)],
    heap_clock=lambda at: at,
    repeats=0,
    violations=0,
    dead=(),
    book=BOOK,
    differences=[0.0],
    commit_timeouts=0,
    at_risk=(),
    before_answer=False,
    notes=(),
)


def result(fault: Fault = FAULT, **changes: Any) -> Result:
    return measure(fault, "sqlite after_answer", "short", replace(GOOD, **changes))


def test_a_row_without_a_flaw_misses_nothing() -> None:
    seen = result()

    assert (seen.calls, seen.delivered, seen.lost, seen.failed, seen.missed) == (3, 3, 0, 0, ())


def test_the_relay_adds_what_the_same_calls_do_not_take_without_it() -> None:
    assert result().added_p99_ms == pytest.approx(8.0)


def test_recovery_lasts_until_heap_has_the_last_event_from_before_the_faults_end() -> None:
    assert result().recovery_seconds == 4.5


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"stored": GOOD.stored[:2]}, "1 events lost"),
        ({"stored": [*GOOD.stored, ("ada", 16.0)]}, "1 events twice in Heap"),
        ({"stored": [*GOOD.stored, ("nobody", 16.0)]}, "1 events that nobody asked for"),
        ({"calls": [*GOOD.calls, call("ken", 7.0, status=502)]}, "1 calls failed"),
        ({"differences": [0.0, 1.0]}, "books off by 1"),
        ({"differences": []}, "the books were never seen"),
        ({"book": {**BOOK, "waiting": 2}}, "2 events still wait"),
        ({"stored": GOOD.stored[:2], "dead": {"linus"}}, "1 dead letters"),
        ({"violations": 1}, "Heap's limits passed 1 times"),
    ],
)
def test_what_was_promised_and_not_held_is_missed(changes: dict[str, Any], missed: str) -> None:
    assert result(**changes).missed == (missed,)


def test_what_the_relay_counts_as_not_kept_is_not_lost() -> None:
    seen = result(stored=GOOD.stored[:2], book={**BOOK, "refused": {"outbox_full": 1}})

    assert (seen.lost, seen.not_kept, seen.missed) == (0, {"outbox_full": 1}, ())


def test_a_call_answered_in_the_last_commit_interval_before_a_kill_is_risked_and_told() -> None:
    seen = result(ROWS["sigkill"], stored=GOOD.stored[:2], at_risk=[Risk(11.6, 12.1)])

    assert (seen.lost, seen.risked, round(seen.risked_ms), seen.missed) == (1, 1, 90, ())


def test_a_flushed_redis_may_lose_as_many_as_it_held_and_no_more() -> None:
    flushed = ROWS["redis-flushed"]

    held = result(flushed, stored=GOOD.stored[:2], at_risk=[Risk(0.0, 12.1, 1)])
    beyond = result(flushed, stored=GOOD.stored[:1], at_risk=[Risk(0.0, 12.1, 1)])

    assert (held.lost, held.risked, held.missed) == (1, 1, ())
    assert beyond.missed == ("1 events lost",)


def test_with_before_answer_only_a_call_that_was_held_for_the_whole_time_out_is_risked() -> None:
    kill = {"stored": GOOD.stored[:2], "at_risk": [Risk(11.6, 12.1)], "before_answer": True}

    quick = result(ROWS["sigkill"], **kill)
    held = result(ROWS["sigkill"], **{**kill, "calls": [*GOOD.calls[:2], call("linus", 12.0, seconds=0.26)]})

    assert (quick.missed, held.missed) == (("1 events lost",), ())


def test_where_calls_may_fail_none_may_after_the_fault() -> None:
    sigterm = ROWS["sigterm"]

    during = result(sigterm, calls=[*GOOD.calls, call("ken", 7.0, status=0, refused=True)])
    after = result(sigterm, calls=[*GOOD.calls, call("ken", 13.5, status=502)])

    assert (during.failed, during.by_fault, during.missed) == (1, 1, ())
    assert after.missed == ("1 calls failed after it",)


def test_what_fails_with_flagsmith_is_failed_by_the_fault_itself() -> None:
    seen = result(ROWS["flagsmith-down"], calls=[*GOOD.calls, call("ken", 7.0, status=502)])

    assert (seen.failed, seen.by_fault, seen.missed) == (1, 1, ())


def test_a_counter_goes_on_over_the_ends_of_its_process() -> None:
    assert total([0.0, 2.0, 5.0, 1.0, 1.0, 4.0]) == 9.0
