"""Heap's limits hold in every window, wherever it begins."""

from relay.sandbox.windows import LIMITS, Meter, Peaks, Violation

APP = "1"


def test_the_thirtieth_request_within_thirty_seconds_passes_and_the_next_does_not() -> None:
    meter = Meter()

    kept = [meter.count(APP, ["ada"], now=0.9 * number) for number in range(31)]

    assert kept == [True] * 30 + [False]
    assert meter.violations == [Violation("identity_requests", APP, "ada", 31, 27.0)]


def test_a_request_leaves_its_window_after_exactly_thirty_seconds() -> None:
    meter = Meter()

    assert all(meter.count(APP, ["ada"], now=float(number)) for number in range(200))
    assert meter.peaks.identity_requests == 30


def test_the_window_slides_so_that_a_burst_around_a_full_minute_shows() -> None:
    meter = Meter()

    assert meter.count(APP, ["ada"] * 600, now=59.0)
    assert not meter.count(APP, ["ada"] * 600, now=61.0)
    assert [violation.limit for violation in meter.violations] == ["identity_minute"]


def test_an_app_has_fifteen_thousand_events_a_minute() -> None:
    meter = Meter()
    people = [f"user-{number}" for number in range(1000)]

    assert all(meter.count(APP, people, now=float(number)) for number in range(15))
    assert not meter.count(APP, ["ada"], now=59.9)
    assert meter.violations == [Violation("app_minute", APP, None, 15_001, 59.9)]
    assert meter.peaks == Peaks(app_minute=15_001, identity_minute=15, identity_requests=15)


def test_apps_and_identities_are_limited_apart() -> None:
    meter = Meter()

    kept = [meter.count(app, [person] * 1000, now=0.0) for app in ("1", "2") for person in ("ada", "bob", None)]

    assert all(kept)
    assert meter.peaks == Peaks(app_minute=3_000, identity_minute=1_000, identity_requests=1)


def test_what_was_refused_still_counts() -> None:
    """A client that goes on asking stays over its limit, and it shows."""
    meter = Meter()
    for number in range(100):
        meter.count(APP, ["ada"], now=0.1 * number)

    assert not meter.count(APP, ["ada"], now=30.0)
    assert meter.peaks.identity_requests == 100
    assert meter.peaks.identity_requests > LIMITS["identity_requests"]


def test_hundreds_of_thousands_of_events_are_counted_without_a_slow_down() -> None:
    meter = Meter()

    for number in range(200):
        meter.count(APP, [f"user-{number}-{place}" for place in range(1000)], now=4.0 * number)

    assert meter.peaks == Peaks(app_minute=15_000, identity_minute=1, identity_requests=1)
    assert meter.violations == []
