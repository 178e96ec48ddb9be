"""An hour by minutes, from totals."""

from relay.core.history import MINUTES, History


def test_growth_counts_for_the_minute_it_is_told_in() -> None:
    history = History()
    history.tell({"tests": 100}, 0.0)
    history.tell({"tests": 103}, 59.0)
    history.tell({"tests": 110}, 60.0)
    history.tell({"tests": 111}, 61.0)

    assert history.of("tests")[-3:] == (0, 3, 8)


def test_an_hour_has_sixty_minutes_whatever_passed() -> None:
    history = History()
    history.tell({"tests": 0}, 0.0)
    for minute in range(200):
        history.tell({"tests": minute}, 60.0 * minute)

    assert history.of("tests") == (1,) * MINUTES


def test_minutes_that_nobody_told_of_are_empty() -> None:
    history = History()
    history.tell({"tests": 0}, 0.0)
    history.tell({"tests": 5}, 1.0)
    history.tell({"tests": 7}, 180.0)
    assert history.of("tests")[-4:] == (5, 0, 0, 2)

    history.tell({"tests": 7}, 1e6)
    assert set(history.of("tests")) == {0}


def test_a_total_that_went_back_begins_anew() -> None:
    """The outbox was replaced by an older one: what it holds came earlier."""
    history = History()
    history.tell({"tests": 100}, 0.0)
    history.tell({"tests": 40}, 1.0)
    history.tell({"tests": 41}, 2.0)

    assert sum(history.of("tests")) == 1


def test_a_name_that_is_not_told_any_more_is_forgotten() -> None:
    history = History()
    history.tell({"tests": 1, "gone": 1}, 0.0)
    history.tell({"tests": 1}, 1.0)

    assert len(history.of("tests")) == MINUTES
    assert len(history.of("gone")) == 0
