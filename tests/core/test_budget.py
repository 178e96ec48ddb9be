"""The budgets keep Heap's limits whatever is asked of them, and waste little of what they allow."""

import random
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.budget import (
    APP_EVENTS,
    FARTHEST,
    IDENTITY_EVENTS,
    IDENTITY_REQUESTS,
    PLANS,
    Budget,
    Limit,
    Rate,
    rate_of,
    rate_within,
)
from relay.model import Claim, Event, Lane

LANE = Lane("https://heap.test", "1")
SHARES = [0.01, 0.5, 0.8, 0.95, 1.0]
# What a sender of a hot identity does: waits so many seconds, then sends so many events at once, or starts anew.
STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 1.0, 5.0, 31.0]), st.integers(0, 3), st.sampled_from([False] * 15 + [True])),
    min_size=50,
    max_size=150,
)


def claim(number: int, identity: str = "ada") -> Claim:
    return Claim(number, Event(f"{number:032}", "tests", LANE, identity, 0.0, b"{}"), 0)


def claims(identity: str, count: int, first: int = 0) -> list[Claim]:
    return [claim(first + number, identity) for number in range(count)]


class Arrivals:
    """What Heap saw: when, and how many."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._seen: list[tuple[float, int]] = []

    def add(self, at: float, count: int) -> None:
        self._seen.append((at, count))

    def fullest(self) -> int:
        """The most in any window."""
        seen = sorted(self._seen)
        moments = [at for at, _ in seen]
        sums = [0]
        for _, count in seen:
            sums.append(sums[-1] + count)
        starts = [bisect_left(moments, at - self._limit.window) for at in moments]
        return max((sums[index + 1] - sums[start] for index, start in enumerate(starts)), default=0)


class Watch:
    """Heap's three limits, as a strict observer counts them."""

    def __init__(self) -> None:
        self._app = Arrivals(APP_EVENTS)
        self._events: dict[str, Arrivals] = defaultdict(lambda: Arrivals(IDENTITY_EVENTS))
        self._requests: dict[str, Arrivals] = defaultdict(lambda: Arrivals(IDENTITY_REQUESTS))

    def see(self, part: Sequence[Claim], at: float) -> None:
        self._app.add(at, len(part))
        for identity, events in Counter(claim.event.identity for claim in part).items():
            self._events[identity].add(at, events)
            self._requests[identity].add(at, 1)

    def peaks(self) -> tuple[int, int, int]:
        """The fullest windows: events of the app, events of an identity, requests that name an identity."""
        events = max((arrivals.fullest() for arrivals in self._events.values()), default=0)
        requests = max((arrivals.fullest() for arrivals in self._requests.values()), default=0)
        return self._app.fullest(), events, requests

    def assert_kept(self) -> None:
        app, events, requests = self.peaks()
        assert app <= APP_EVENTS.amount
        assert events <= IDENTITY_EVENTS.amount
        assert requests <= IDENTITY_REQUESTS.amount


def greedy_life(share: float, start: float, rng: random.Random, watch: Watch, *, seconds: float) -> float:
    """A process that always wants more than it may, with idle spells, slow answers and repeats; return its end."""
    budget, now, end = Budget(share, start), start, start + seconds
    while now < end:
        wanted = [
            claim(number, rng.choice(["hot", "warm", str(rng.random())])) for number in range(rng.randint(1, 1000))
        ]
        part = budget.select(wanted, now, rng.choice([0.0, 5.0])).go
        for _ in range(rng.choice([1, 1, 4])):
            if not part:
                break
            now += budget.wait_for(part, now)
            budget.pay(part, now)
            answered = now + rng.choice([0.0, 0.01, 0.5, 9.9])
            watch.see(part, rng.uniform(now, answered))
            now = answered
        now += rng.choice([0.0, 0.0, 0.02, 1.0, 30.0])
    return now


@pytest.mark.parametrize("share", SHARES)
def test_no_window_is_exceeded_under_greed_repeats_and_slow_answers(share: float) -> None:
    watch = Watch()

    greedy_life(share, 1000.0, random.Random(1), watch, seconds=300)

    watch.assert_kept()


@pytest.mark.parametrize("share", SHARES)
def test_no_window_is_exceeded_in_a_crash_loop_whose_memory_is_lost(share: float) -> None:
    rng, watch, now = random.Random(2), Watch(), 1000.0

    while now < 1200:
        now = greedy_life(share, now, rng, watch, seconds=rng.choice([0.5, 2, 7, 20, 100]))

    watch.assert_kept()


@given(share=st.floats(0.01, 1.0), steps=STEPS)
def test_no_30_seconds_name_an_identity_more_often_than_the_share_says(
    share: float, steps: list[tuple[float, int, bool]]
) -> None:
    """A share of less than one request is one: it has to be sent at some time."""
    now, watch = 1000.0, Watch()
    budget = Budget(share, now)

    for gap, events, crash in steps:
        now += gap
        part = claims("hot", events or 1)
        now += budget.wait_for(part, now) if events else 0.0
        budget = Budget(share, now) if crash else budget
        if go := budget.select(part, now).go:
            budget.pay(go, now)
            watch.see(go, now)

    assert watch.peaks()[2] <= max(1, int(share * IDENTITY_REQUESTS.amount))


def test_at_a_share_of_four_fifths_no_window_has_more_than_the_stated_numbers() -> None:
    """And greed gets near them."""
    budget, watch = Budget(0.8, -60.0), Watch()
    backlog = [*claims("hot", 100), *(claim(number, str(number)) for number in range(100, 1200))]

    for step in range(200):
        now = step / 2
        for _ in range(4):
            if part := budget.select(backlog, now).go:
                budget.pay(part, now)
                watch.see(part, now)

    app, events, requests = watch.peaks()
    assert 12_900 <= app <= 13_000
    assert 850 <= events <= 867
    assert 23 <= requests <= 24


def test_few_identities_that_could_use_the_budget_do() -> None:
    """Fifteen are as many as an app's limit holds of an identity's; the sixteenth is for rounding."""
    budget, now, sent = Budget(0.8, -60.0), 0.0, 0
    backlog = [claim(number, str(number % 16)) for number in range(2000)]

    while now < 60:
        if part := budget.select(backlog, now).go[:1000]:
            budget.pay(part, now)
            sent += len(part)
        now += 1.0

    assert sent >= 0.95 * 0.8 * APP_EVENTS.amount


@pytest.mark.parametrize("share", [0.05, 0.8])
@pytest.mark.parametrize("fits", [75, 1000])
def test_a_backlog_of_many_identities_uses_the_budget(share: float, fits: int) -> None:
    """75 events is what 750 kB hold of events of 10 kB."""
    budget, now, sent = Budget(share, -60.0), 0.0, 0
    backlog = [claim(number, str(number)) for number in range(20_000)]

    while now < 60:
        part = budget.select(backlog[sent : sent + fits], now).go
        if part:
            budget.pay(part, now)
            sent += len(part)
        now += 0.3

    assert sent >= 0.95 * share * APP_EVENTS.amount
    assert budget.used(now) >= 0.95


def test_a_new_process_has_nothing_to_spend() -> None:
    assert Budget(0.8, 50.0).tokens(50.0) == 0
    assert Budget(0.8, 50.0).select([claim(1)], 50.0).go == ()


def test_an_identity_first_seen_later_need_not_wait() -> None:
    assert len(Budget(0.8, 0.0).select(claims("new", 60), 10.0).go) == 60


def test_what_was_waited_for_is_there() -> None:
    now = 1e6 + 0.1
    budget = Budget(0.77, now)
    part = [claim(1, "a"), claim(2, "b"), claim(3, "b")]

    for _ in range(1000):
        now += budget.wait_for(part, now)
        assert budget.select(part, now).go == tuple(part)
        budget.pay(part, now)


def test_events_of_a_busy_identity_do_not_block_the_others() -> None:
    budget = Budget(0.8, 0.0)
    waiting = [*claims("hot", 500), *claims("calm", 5, first=500)]

    selection = budget.select(waiting, 100.0)

    assert {500, 501, 502, 503, 504} < {claim.id for claim in selection.go}
    assert len(selection.go) == 66 + 5
    assert all(ahead > 0 for ahead in selection.later.values())


def test_events_put_off_come_back_when_their_identity_has_room() -> None:
    """In groups that one request may carry, so each is looked at about once."""
    budget, now = Budget(0.8, 0.0), 100.0
    due = dict.fromkeys(range(1000), now)
    looks = 0

    while due:
        now = max(now + 0.01, min(due.values()))
        ready = [claim(number, "hot") for number, at in due.items() if at <= now]
        selection = budget.select(ready, now)
        looks += len(ready)
        due.update({number: now + ahead for number, ahead in selection.later.items()})
        budget.pay(selection.go, now)
        for sent in selection.go:
            del due[sent.id]

    assert looks <= 2100
    assert now <= 100 + 1000 / rate_of(IDENTITY_EVENTS, 0.8).per_second * 1.05


def test_nothing_is_put_off_for_more_than_five_minutes() -> None:
    selection = Budget(0.8, 0.0).select(claims("hot", 10_000), 100.0)

    assert max(selection.later.values()) == FARTHEST


def test_events_over_the_lanes_budget_stay_due() -> None:
    budget = Budget(0.8, 0.0)

    selection = budget.select([claim(number, str(number)) for number in range(1300)], 10.0)

    assert len(selection.go) == 1000
    assert set(selection.later.values()) == {0.0}


def test_the_memory_of_identities_is_bounded() -> None:
    budget, now = Budget(0.8, 0.0), 0.0

    for number in range(0, 20_000, 200):
        now += 1.0
        budget.pay(budget.select([claim(number + i, str(number + i)) for i in range(200)], now).go, now)
    assert len(budget._identities) <= 200 * 10


def test_the_memory_of_what_was_put_off_is_bounded() -> None:
    budget = Budget(0.8, 0.0)

    budget.select([claim(number, str(number)) for number in range(PLANS + 1000)], 0.0)

    assert len(budget._plans) <= PLANS


def test_half_of_what_a_share_leaves_is_never_saved_up() -> None:
    """The other half is for a request that travelled for long."""
    assert rate_of(APP_EVENTS, 0.8) == Rate(200.0, 1000.0)
    assert rate_of(IDENTITY_EVENTS, 0.8).burst == pytest.approx(66.67, abs=0.01)
    for share in SHARES:
        rate = rate_of(APP_EVENTS, share)
        assert rate.per_second * 60 + 2 * rate.burst <= APP_EVENTS.amount


def test_the_requests_of_a_window_are_its_rate_and_its_burst() -> None:
    rate = rate_within(IDENTITY_REQUESTS, 0.8)

    assert rate.per_second * 30 + rate.burst == pytest.approx(24)
    assert rate.burst == pytest.approx(5 * rate.per_second)


@pytest.mark.parametrize("share", [0.01, 0.04, 0.066])
def test_a_share_too_small_for_two_requests_in_a_window_still_allows_one_in_each_two(share: float) -> None:
    rate = rate_within(IDENTITY_REQUESTS, share)

    assert rate.burst == 1.0
    assert 1 / rate.per_second == pytest.approx(2 / share)


def test_of_what_others_spent_over_a_long_time_the_last_minutes_part_is_used() -> None:
    budget = Budget(0.8, 0.0)

    budget.others_paid(1200, 400.0, 1000.0)

    assert budget.used(1000.0) == pytest.approx(120 / (60 * budget.rate.per_second))
