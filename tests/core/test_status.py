"""How a lane is doing, in words."""

import pytest
from msgspec.structs import replace

from relay.core.settle import Kind
from relay.core.status import LaneStatus, clock, count, sentence, span
from tests.admin.statuses import HELD, NOW, OPEN, PAUSED

DAY = 86400.0


@pytest.mark.parametrize(
    ("lane", "waiting", "words"),
    [
        (OPEN, 0, "nothing waits"),
        (OPEN, 5, "delivering"),
        (OPEN, None, "an unknown number of events waiting"),
        (PAUSED, None, "Heap answers 503 since 14:02 UTC, an unknown number of events waiting, next try in 40 s"),
        (replace(OPEN, used=0.97), 5, "delivering, as fast as Heap's limits allow"),
        (PAUSED, 12304, "Heap answers 503 since 14:02 UTC, 12,304 events waiting, next try in 40 s"),
        (replace(PAUSED, until=NOW - 3), 1, "Heap answers 503 since 14:02 UTC, 1 event waiting, next try now"),
        (
            replace(PAUSED, status=0, kind=Kind.UNREACHABLE),
            2,
            "Heap cannot be reached since 14:02 UTC, 2 events waiting, next try in 40 s",
        ),
        (
            HELD,
            2,
            "held: Heap refuses the app (404) since 14:02 UTC, 2 events waiting, next try in 40 s; "
            "check app_id, region and url",
        ),
        (
            replace(HELD, status=400, kind=Kind.REFUSED, since=NOW - 3 * DAY, until=NOW + 290),
            2,
            "held: Heap refuses every event (400) since 2026-11-21 14:05 UTC, 2 events waiting, next try in 5 min; "
            "check app_id, region and url",
        ),
        (
            replace(HELD, status=503, kind=Kind.BUSY),
            2,
            "held, and Heap answers 503 since 14:02 UTC, 2 events waiting, next try in 40 s; "
            "check app_id, region and url",
        ),
    ],
)
def test_a_lane_is_told_in_one_sentence(lane: LaneStatus, waiting: int | None, words: str) -> None:
    assert sentence(lane, waiting, NOW) == words


@pytest.mark.parametrize(
    ("waiting", "left", "words"),
    [
        (0, 321, "nothing waits; 321 events left for an app it had before"),
        (2, 1, "delivering; 1 event left for an app it had before"),
    ],
)
def test_what_waits_for_an_app_that_the_environment_had_before_is_told_apart(
    waiting: int, left: int, words: str
) -> None:
    assert sentence(OPEN, waiting, NOW, left) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (DAY, "24 h"), (3 * DAY, "3 days")],
)
def test_a_span_is_told_to_about_two_digits(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_a_clock_tells_the_date_of_another_day() -> None:
    assert clock(NOW - 60, NOW) == "14:04 UTC"
    assert clock(NOW - DAY, NOW) == "2026-11-23 14:05 UTC"


def test_one_of_something_is_singular() -> None:
    assert [count(number, "event") for number in (0, 1, 1000)] == ["0 events", "1 event", "1,000 events"]
