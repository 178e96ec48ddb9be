"""What each rule does to any evaluation, and which one has the word where several apply."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.core.identity import hashed, is_sampled
from relay.core.rules import Decision, decide
from relay.core.translate import OBSTACLES
from relay.model import DeadLetter, Environment, Evaluation, Event, Flag, Verdict
from tests.core.exchanges import ENVIRONMENT, KEY, RECEIVED_AT

NAMES = st.text(st.characters(), min_size=1, max_size=20)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
FLAGS = st.builds(Flag, NAMES, st.booleans(), VALUES, st.none() | st.text(max_size=5))
EVALUATIONS = st.builds(Evaluation, NAMES, st.lists(FLAGS, max_size=5).map(tuple), st.booleans())
ADA = Evaluation("ada", (Flag("dark_mode", True, None, None),), transient=False)


def decided(evaluation: Evaluation = ADA, **rules: Any) -> Decision:
    """What is decided about *evaluation* where *rules* are not the default."""
    return decide(evaluation, replace(ENVIRONMENT, **rules), key=KEY, captured_at=RECEIVED_AT)


def reason(evaluation: Evaluation = ADA, **rules: Any) -> str:
    return decided(evaluation, **rules).verdict.reason


def event(decision: Decision) -> dict[str, Any]:
    """What is sent, or set aside, or in shadow would be."""
    assert decision.translation is not None
    entry = decision.translation.entry
    found = json.loads((entry.event if isinstance(entry, DeadLetter) else entry).body)
    assert isinstance(found, dict)
    return found


def properties(evaluation: Evaluation, **rules: Any) -> dict[str, Any]:
    found = event(decided(evaluation, **rules))["properties"]
    assert isinstance(found, dict)
    return found


@given(evaluation=EVALUATIONS)
def test_without_rules_every_evaluation_is_sent_or_is_a_dead_letter(evaluation: Evaluation) -> None:
    decision = decided(evaluation)

    if isinstance(decision.entry, Event):
        assert decision.verdict == Verdict(True, "every_call")
    else:
        assert decision.verdict.reason in OBSTACLES
        assert not decision.verdict.send


@given(evaluation=EVALUATIONS)
def test_what_is_blocked_is_never_an_event(evaluation: Evaluation) -> None:
    found = decided(evaluation, blocks=lambda identity: identity == evaluation.identity)

    assert found == Decision(Verdict(False, "blocked"))


@given(evaluation=EVALUATIONS)
def test_the_raw_identity_is_what_is_blocked_whatever_heap_gets(evaluation: Evaluation) -> None:
    seen: list[str] = []

    decided(evaluation, blocks=seen.append, hash_key=b"key")

    assert seen == [evaluation.identity]


@given(evaluation=EVALUATIONS, identities=st.sets(NAMES))
def test_only_identities_that_are_meant_are_sent(evaluation: Evaluation, identities: set[str]) -> None:
    found = reason(evaluation, identities=re.compile("|".join(map(re.escape, identities)) or "(?!)"))

    assert (found == "filtered") == (evaluation.identity not in identities)


@given(evaluation=EVALUATIONS)
def test_transient_identities_are_skipped_only_where_that_is_asked_for(evaluation: Evaluation) -> None:
    assert (reason(evaluation, skip_transient=True) == "transient") == evaluation.transient
    assert reason(evaluation) != "transient"


@given(evaluation=EVALUATIONS, sample=st.floats(0, 1))
def test_the_sample_is_of_the_raw_identities_of_the_environment(evaluation: Evaluation, sample: float) -> None:
    found = reason(evaluation, sample=sample, hash_key=b"key")

    assert (found == "sampled_out") == (not is_sampled("production", evaluation.identity, sample))


@given(evaluation=EVALUATIONS, features=st.sets(NAMES))
def test_only_features_that_are_meant_become_properties(evaluation: Evaluation, features: set[str]) -> None:
    pattern = re.compile("|".join(map(re.escape, features)) or "(?!)")
    meant = tuple(flag for flag in evaluation.flags if flag.name in features)

    assert properties(evaluation, features=pattern) == properties(replace(evaluation, flags=meant))


@given(evaluation=EVALUATIONS)
def test_without_a_flag_an_event_is_skipped_only_where_that_is_asked_for(evaluation: Evaluation) -> None:
    assert (reason(evaluation, skip_empty=True) == "empty") == (not evaluation.flags)
    assert reason(evaluation) != "empty"


@given(evaluation=EVALUATIONS)
def test_an_event_is_empty_where_no_flag_is_left_by_the_filter_whatever_is_added(evaluation: Evaluation) -> None:
    none = re.compile("(?!)")

    assert reason(evaluation, features=none, skip_empty=True, extra_properties={"team": "growth"}) == "empty"
    assert properties(evaluation, features=none) == {}


@given(evaluation=EVALUATIONS)
def test_in_shadow_all_is_made_and_nothing_kept(evaluation: Evaluation) -> None:
    shadow, real = decided(evaluation, shadow=True), decided(evaluation)

    assert shadow == Decision(Verdict(False, "shadow"), None, real.translation)


@given(evaluation=EVALUATIONS, key=st.binary(min_size=16, max_size=40))
def test_a_hash_takes_the_place_of_any_identity_and_heap_takes_it(evaluation: Evaluation, key: bytes) -> None:
    found = decided(evaluation, hash_key=key)

    assert isinstance(found.entry, Event)
    assert found.entry.identity == event(found)["identity"] == hashed(evaluation.identity, key)
    assert event(found)["properties"] == event(decided(evaluation))["properties"]


@pytest.mark.parametrize("identity", ["x" * 2000, "a\0b", "half \ud83d", "  "])
def test_an_identity_that_heap_would_refuse_can_be_sent_as_its_hash(identity: str) -> None:
    assert decided(replace(ADA, identity=identity), hash_key=b"0123456789abcdef").verdict.send


@given(evaluation=EVALUATIONS)
def test_the_raw_identity_is_nowhere_in_what_is_stored_of_a_hashed_one(evaluation: Evaluation) -> None:
    """Also where it is set aside: the event that cannot be sent for its size."""
    evaluation = replace(evaluation, identity="🔑" + evaluation.identity)
    large = tuple(Flag(f"{number}", True, "x" * 1000, None) for number in range(800))

    entry = decided(replace(evaluation, flags=large), hash_key=b"0123456789abcdef").entry

    assert isinstance(entry, DeadLetter)
    assert entry.cause.reason == "event_too_large"
    assert evaluation.identity not in repr(entry)
    assert "🔑".encode() not in entry.event.body


NEVER = {
    "blocks": lambda _: True,
    "identities": re.compile("nobody"),
    "skip_transient": True,
    "sample": 0.0,
    "skip_empty": True,
    "shadow": True,
}
REASONS = ["blocked", "filtered", "transient", "sampled_out", "empty", "shadow"]


@pytest.mark.parametrize("first", range(len(REASONS)))
def test_of_several_reasons_the_first_in_the_documented_order_is_told(first: int) -> None:
    rules = dict(list(NEVER.items())[first:])

    assert reason(Evaluation("ada", (), transient=True), **rules) == REASONS[first]


def test_an_environment_does_not_show_its_key() -> None:
    """What a traceback or a debugger shows of it."""
    assert "secret" not in repr(Environment("a", ENVIRONMENT.lane, "Flags", hash_key=b"secret"))
