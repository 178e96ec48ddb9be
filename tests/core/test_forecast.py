"""What a day brings at the pace of the last one, told exactly as a list of all that came would tell it."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.forecast import DAY, HOUR, HOURS, MINUTE, Forecast, ways
from relay.model import Pace, Verdict

EVERY_CALL = Pace("every_call", heartbeat=DAY, share=0.8)
ON_CHANGE = Pace("on_change", heartbeat=DAY, share=0.8)
# Steps that stay in a minute, pass it, pass an hour, and leave all behind.
steps = st.sampled_from([0.0, 1.0, 25.0, 61.0, 1801.0, 3.3 * HOUR, 30 * HOUR])


@dataclass(frozen=True)
class Seen:
    at: float
    reason: str
    sent: tuple[bool, bool]


sights = st.lists(
    st.tuples(steps, st.sampled_from(["every_call", "empty", "unchanged"]), st.tuples(st.booleans(), st.booleans())),
    max_size=60,
)


@given(start=st.floats(0, 1e6), sights=sights, rest=steps)
def test_it_tells_what_a_list_of_all_would(
    start: float, sights: list[tuple[float, str, tuple[bool, bool]]], rest: float
) -> None:
    forecast, seen, now = Forecast(start), [], start
    for step, reason, sent in sights:
        now += step
        forecast.see(reason, sent, now)
        seen.append(Seen(now, reason, sent))
    now += rest

    told = forecast.tell(EVERY_CALL, now, overflowed=False)

    oldest = (now // HOUR - HOURS) * HOUR
    kept = [one for one in seen if one.at >= oldest]
    days = max(MINUTE, now - max(start, oldest)) / DAY
    assert told.verdicts == {
        reason: round(times / days) for reason, times in Counter(one.reason for one in kept).items()
    }
    for number, way in enumerate((told.every_call, told.on_change)):
        sent_at = [one.at for one in kept if one.sent[number]]
        assert (way.a_day, way.a_month) == (round(len(sent_at) / days), round(len(sent_at) / days * 30))
        assert way.busiest_minute == max(Counter(at // MINUTE for at in sent_at).values(), default=0)


def test_a_short_while_is_told_as_such_and_makes_no_large_numbers() -> None:
    forecast = Forecast(100.0)
    forecast.see("every_call", (True, True), 101.0)

    told = forecast.tell(EVERY_CALL, 102.0, overflowed=False)

    assert told.observed == 2.0
    assert told.every_call.a_day == 1440


def test_a_steady_pace_is_told_as_it_is_however_long_it_lasts() -> None:
    forecast = Forecast(0.0)
    for minute in range(3 * 24 * 60):
        forecast.see("every_call", (True, minute % 10 == 0), minute * MINUTE)

    told = forecast.tell(EVERY_CALL, 3 * DAY, overflowed=False)

    assert (told.observed, told.at_most) == (DAY, False)
    assert (told.every_call.a_day, told.every_call.a_month) == (1440, 43_200)
    assert (told.on_change.a_day, told.on_change.a_month) == (144, 4320)


def test_the_busiest_minute_is_told_as_part_of_heaps_limit_and_of_the_share() -> None:
    """developers.heap.io/reference/bulk-track: 15,000 events a minute and app."""
    forecast = Forecast(0.0)
    for _ in range(3000):
        forecast.see("every_call", (True, False), 30.0)

    told = forecast.tell(EVERY_CALL, 60.0, overflowed=False)

    assert (told.in_force.busiest_minute, told.in_force.of_limit, told.in_force.of_share) == (3000, 0.2, 0.25)
    assert forecast.tell(ON_CHANGE, 60.0, overflowed=False).in_force.of_limit == 0


@pytest.mark.parametrize(
    ("pace", "after", "overflowed", "at_most"),
    [
        (EVERY_CALL, DAY - 1, False, True),
        (EVERY_CALL, DAY, False, False),
        (EVERY_CALL, DAY, True, True),
        (ON_CHANGE, 1.0, True, False),
    ],
)
def test_on_change_may_be_less_where_it_was_tried_out_for_less_than_a_day_or_on_too_many(
    pace: Pace, after: float, *, overflowed: bool, at_most: bool
) -> None:
    assert Forecast(0.0).tell(pace, after, overflowed=overflowed).at_most == at_most


@pytest.mark.parametrize("is_news", [True, False])
@pytest.mark.parametrize(
    ("reason", "send", "in_force", "every_call", "on_change"),
    [
        ("every_call", True, "every_call", True, "asked"),
        ("first_seen", True, "on_change", True, True),
        ("heartbeat", True, "on_change", True, True),
        ("unchanged", False, "on_change", True, False),
        ("over_cap", False, "every_call", True, "asked"),
        ("over_cap", False, "on_change", True, True),
        ("shadow", False, "every_call", True, "asked"),
        ("shadow", False, "on_change", True, "asked"),
        ("filtered", False, "every_call", False, False),
        ("identity_too_long", False, "on_change", False, False),
    ],
)
def test_a_verdict_says_which_way_would_send(
    reason: str, in_force: str, on_change: object, *, send: bool, every_call: bool, is_news: bool
) -> None:
    """What a cap or shadow keeps back counts: they are for trying out what would be sent."""
    expected = is_news if on_change == "asked" else on_change

    assert ways(Verdict(send, reason), in_force, lambda: is_news) == (every_call, expected)
