"""What a daily cap lets through, and what is told of it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from relay.core.daily import DAYS_KEPT, Approach, Days, Ended, Stage, day_of, stage, standings
from relay.core.status import CapStatus
from relay.model import Cap

TODAY, TOMORROW = "2026-11-24", "2026-11-25"
STOP, ALERT = Cap(10, stops=True), Cap(10, stops=False)
days = st.sampled_from(["2026-11-22", "2026-11-23", TODAY, TOMORROW])
caps = st.none() | st.builds(Cap, st.integers(1, 20), stops=st.booleans())


def admitted(found: Days, times: int, cap: Cap | None, day: str = TODAY) -> int:
    """How many of so many events pass."""
    return sum(found.admit("tests", day, cap) for _ in range(times))


def told(found: Days, cap: Cap) -> list[tuple[int, Stage]]:
    return [(approach.events, approach.stage) for approach in found.approaches({"tests": cap})]


def test_a_day_begins_at_midnight_utc() -> None:
    midnight = 1_795_564_800.0

    assert (day_of(midnight - 0.001), day_of(midnight)) == (TODAY, TOMORROW)


@given(steps=st.lists(st.tuples(days, caps), max_size=200))
def test_each_day_counts_for_itself_in_whatever_order_they_come(steps: list[tuple[str, Cap | None]]) -> None:
    """A clock that goes back finds the earlier day's count, and leaves the later one's as it is."""
    found, counts = Days(), Counter[str]()

    for day, cap in steps:
        expected = cap is None or not cap.stops or counts[day] < cap.events
        assert found.admit("tests", day, cap) == expected
        counts[day] += expected

    assert {day: found.events("tests", day) for day in counts} == counts


@given(before=st.integers(0, 30), times=st.integers(0, 30), cap=st.integers(1, 30))
def test_no_day_has_more_than_a_cap_that_stops_or_what_it_had_before(before: int, times: int, cap: int) -> None:
    found = Days({"tests": {TODAY: before}})

    passed = admitted(found, times, Cap(cap, stops=True))

    assert passed == min(times, max(0, cap - before))
    assert found.events("tests", TODAY) == before + passed


def test_what_could_not_be_stored_makes_room_again() -> None:
    found = Days()
    assert admitted(found, 11, STOP) == 10

    found.take_back("tests", TODAY)

    assert admitted(found, 11, STOP) == 1


def test_environments_have_nothing_to_do_with_each_other() -> None:
    found = Days()
    admitted(found, 11, STOP)

    assert found.admit("others", TODAY, STOP)


@given(cap=st.integers(1, 10**9))
def test_a_cap_is_near_from_four_fifths_on(cap: int) -> None:
    near = next(events for events in range(cap * 4 // 5, cap + 1) if 10 * events >= 8 * cap)

    assert stage(cap, Cap(cap, stops=True)) is Stage.REACHED
    assert stage(near - 1, Cap(cap, stops=True)) is Stage.BELOW
    assert stage(near, Cap(cap, stops=True)) is (Stage.REACHED if near == cap else Stage.NEAR)


def test_each_stage_is_told_once_a_day() -> None:
    found = Days()
    seen = []
    for day in (TODAY, TOMORROW):
        for _ in range(15):
            found.admit("tests", day, ALERT)
            seen += list(found.approaches({"tests": ALERT}))

    assert seen == [
        Approach("tests", day, events, reached)
        for day in (TODAY, TOMORROW)
        for events, reached in ((8, Stage.NEAR), (10, Stage.REACHED))
    ]


def test_a_cap_that_is_raised_is_told_of_anew_and_one_that_is_lowered_at_once() -> None:
    found = Days()
    admitted(found, 10, ALERT)
    assert told(found, ALERT) == [(10, Stage.REACHED)]

    assert told(found, Cap(100, stops=False)) == []
    admitted(found, 70, None)
    assert told(found, Cap(100, stops=False)) == [(80, Stage.NEAR)]
    assert told(found, Cap(50, stops=True)) == [(80, Stage.REACHED)]


def test_what_was_skipped_is_told_once_the_day_is_over() -> None:
    found = Days()
    admitted(found, 13, STOP)

    assert list(found.ended(TODAY)) == []
    assert list(found.ended(TOMORROW)) == [Ended("tests", TODAY, 3)]
    assert list(found.ended(TOMORROW)) == []


def test_few_days_are_kept_and_the_one_in_use_is_among_them() -> None:
    """A clock that jumped ahead now and then has made days that are later than today."""
    found = Days()
    for year in range(2030, 2040):
        admitted(found, 1, STOP)
        admitted(found, 1, STOP, f"{year}-01-01")

    assert found.events("tests", TODAY) == 10
    assert sum(found.events("tests", f"{year}-01-01") for year in range(2030, 2040)) == DAYS_KEPT - 1


def test_what_others_bring_counts_today_and_takes_nothing_away() -> None:
    found = Days({"tests": {TODAY: 7}})

    found.learn({"tests": {TODAY: 5, TOMORROW: 9}}, TODAY)
    assert found.events("tests", TODAY) == 7
    found.learn({"tests": {TODAY: 9}, "idle": {TOMORROW: 1}}, TODAY)

    assert (found.events("tests", TODAY), found.events("tests", TOMORROW)) == (9, 0)
    assert admitted(found, 5, STOP) == 1


def test_a_standing_is_of_today() -> None:
    found = Days({"tests": {TODAY: 7, TOMORROW: 1}})

    assert standings({"tests": STOP, "idle": ALERT}, found, TODAY) == {
        "tests": CapStatus(10, "stop", 7),
        "idle": CapStatus(10, "alert", 0),
    }
