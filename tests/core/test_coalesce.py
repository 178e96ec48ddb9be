"""What is sent on change: news, and what was unchanged for long."""

import json
import random
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.coalesce import AHEAD_SECONDS, decide, fingerprint, newest, tolerated
from relay.model import Lane, Latest, Sent, Verdict

LANE = Lane("https://heapanalytics.com", "1111111111")
NOON = 1_800_000_000.0
DAY = 86_400.0
UNCHANGED = Verdict(False, "unchanged")

moments = st.floats(NOON - 10 * DAY, NOON + 10 * DAY)
heartbeats = st.sampled_from([0.0, 1.0, 60.0, DAY])
prints = st.integers(0, 3)
sents = st.builds(Sent, prints, moments)
# As an event may have them.
texts = st.text(st.characters(codec="utf-8"), max_size=9)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
properties = st.dictionaries(texts, st.booleans() | numbers | texts, max_size=6)


def told(found: dict[str, object], *, lane: Lane = LANE, event: str = "Flags") -> int:
    return fingerprint(lane, event, json.dumps(found, ensure_ascii=False).encode())


def replay(states: list[int], heartbeat: float = 0.0, every: float = 1.0) -> list[str]:
    """The reasons for an identity's answers, one after the other, with what they make known."""
    last: Sent | None = None
    reasons = []
    for number, state in enumerate(states):
        at = NOON + number * every
        verdict = decide(state, at, last, heartbeat)
        if verdict.send:
            last = newest(Sent(state, at), last)
        reasons.append(verdict.reason)
    return reasons


# Verdicts.


@given(prints, moments, heartbeats)
def test_what_nothing_was_sent_for_is_sent(state: int, now: float, heartbeat: float) -> None:
    assert decide(state, now, None, heartbeat) == Verdict(True, "first_seen")


@given(prints, moments, sents, heartbeats)
def test_what_differs_is_sent_whenever(state: int, now: float, last: Sent, heartbeat: float) -> None:
    assert (decide(state, now, last, heartbeat).reason == "flags_changed") == (state != last.fingerprint)


@given(moments, sents)
def test_without_a_heartbeat_the_same_is_never_sent_again(now: float, last: Sent) -> None:
    assert decide(last.fingerprint, now, last, 0.0) == UNCHANGED


@pytest.mark.parametrize(
    ("passed", "reason"),
    [
        (0.0, "unchanged"),
        (59.9, "unchanged"),
        (60.0, "heartbeat"),
        (1e6, "heartbeat"),
        (-AHEAD_SECONDS, "unchanged"),
        (-AHEAD_SECONDS - 1, "heartbeat"),
    ],
)
def test_the_same_is_sent_again_once_the_heartbeat_passed_or_the_clock_jumped_back(passed: float, reason: str) -> None:
    assert decide(1, NOON + passed, Sent(1, NOON), 60.0) == Verdict(reason == "heartbeat", reason)


def test_there_and_back_again_is_sent_three_times() -> None:
    assert replay([1, 2, 1]) == ["first_seen", "flags_changed", "flags_changed"]


@given(st.lists(prints))
def test_every_change_is_sent_and_nothing_else(states: list[int]) -> None:
    assert [reason != "unchanged" for reason in replay(states)] == [
        place == 0 for _, group in groupby(states) for place, _ in enumerate(group)
    ]


@given(st.integers(1, 50), st.integers(1, 10))
def test_an_unchanged_state_is_sent_once_in_every_heartbeat(answers: int, heartbeat: int) -> None:
    sent = [place for place, reason in enumerate(replay([1] * answers, heartbeat)) if reason != "unchanged"]

    assert sent == list(range(0, answers, heartbeat))


# What is remembered.


@given(sents, sents)
def test_the_one_that_was_captured_last_is_remembered(one: Sent, other: Sent) -> None:
    assert newest(one, None) == one
    if abs(one.at - other.at) <= AHEAD_SECONDS:
        assert newest(one, other).at == max(one.at, other.at)


def test_of_one_moment_the_one_that_was_decided_last_is_remembered() -> None:
    assert newest(Sent(1, NOON), Sent(2, NOON)) == Sent(1, NOON)


def test_one_from_far_ahead_is_not_remembered_for_years() -> None:
    assert newest(Sent(1, NOON), Sent(2, NOON + AHEAD_SECONDS + 1)) == Sent(1, NOON)


# Fingerprints.


@given(properties, st.randoms(use_true_random=False))
def test_the_order_of_properties_does_not_count(found: dict[str, object], chance: random.Random) -> None:
    shuffled = list(found.items())
    chance.shuffle(shuffled)

    assert told(dict(shuffled)) == told(found)


@given(properties, properties)
def test_other_properties_have_another_fingerprint(one: dict[str, object], other: dict[str, object]) -> None:
    if json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True):
        assert told(one) != told(other)


def test_a_value_is_not_taken_for_another_that_looks_like_it() -> None:
    values = [True, 1, "1", "true", 1.5, "", False, 0, "null"]

    assert len({told({"a": value}) for value in values}) == len(values)


def test_another_name_of_the_event_and_another_heap_app_are_changes() -> None:
    first = told({"a": True})

    assert told({"a": True}, event="Other") != first
    assert told({"a": True}, lane=Lane(LANE.url, "2")) != first
    assert told({"a": True}, lane=Lane("https://c.eu.heap-api.com", LANE.app_id)) != first


@given(properties)
def test_a_fingerprint_fits_into_64_bits_with_a_sign(found: dict[str, object]) -> None:
    assert -(2**63) <= told(found) < 2**63


# The valve.


@pytest.mark.parametrize(("share", "after", "events"), [(0.8, 600.0, 120_000), (0.2, 600.0, 30_000), (0.8, 0.0, 0)])
def test_as_many_may_wait_as_the_budget_drains_in_the_time(share: float, after: float, events: int) -> None:
    assert tolerated(Latest(after, share)) == events
