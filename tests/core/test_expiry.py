"""Events expire by two readings of the clock, never by one."""

from relay.core.expiry import APART_SECONDS, NEVER, Sweep, sweep

NOON = 1_800_000_000.0
DAY = 86_400.0


def test_one_sweep_makes_nothing_old() -> None:
    first = Sweep(NOON, 0)

    assert sweep(None, first) == (first, NEVER)


def test_two_sweeps_ten_minutes_apart_agree_on_the_earlier_time() -> None:
    first, second = Sweep(NOON, 0), Sweep(NOON + 600, 600)

    assert sweep(first, second) == (second, NOON)


def test_two_sweeps_closer_together_make_nothing_old_and_the_first_still_counts() -> None:
    first, second = Sweep(NOON, 0), Sweep(NOON + 599, 599)

    assert sweep(first, second) == (first, NEVER)


def test_a_clock_that_is_a_month_ahead_at_one_sweep_makes_nothing_old() -> None:
    first, astray, third = Sweep(NOON, 0), Sweep(NOON + 30 * DAY, 600), Sweep(NOON + 1200, 1200)

    remembered, reached = sweep(first, astray)
    assert reached == NOON

    _, reached = sweep(remembered, third)
    assert reached == NOON + 1200


def test_a_clock_set_back_counts_from_where_it_was_set() -> None:
    _, reached = sweep(Sweep(NOON, 0), Sweep(NOON - DAY, 600))

    assert reached == NOON - DAY


def test_wall_time_between_sweeps_proves_nothing() -> None:
    """The clock may have jumped: only the one that never jumps tells how far apart they are."""
    _, reached = sweep(Sweep(NOON, 0), Sweep(NOON + DAY, APART_SECONDS - 1))

    assert reached == NEVER
