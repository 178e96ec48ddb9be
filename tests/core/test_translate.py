import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.translate import translate
from relay.model import Cause, DeadLetter, Evaluation, Event, Flag
from tests.core.exchanges import ENVIRONMENT, KEY, RECEIVED_AT

# Heap counts characters in UTF-16 units; an emoji has two.
EMOJI = "😀"


def translated(*flags: Flag, identity: str = "ada") -> tuple[Event | DeadLetter, dict[str, int]]:
    result = translate(Evaluation(identity, flags, transient=False), ENVIRONMENT, key=KEY, captured_at=RECEIVED_AT)
    return result.entry, dict(result.properties.altered)


def body(entry: Event | DeadLetter) -> dict[str, Any]:
    event = entry.event if isinstance(entry, DeadLetter) else entry
    found = json.loads(event.body)
    assert isinstance(found, dict)
    return found


def properties(*flags: Flag) -> dict[str, Any]:
    found = body(translated(*flags)[0])["properties"]
    assert isinstance(found, dict)
    return found


def altered(*flags: Flag) -> dict[str, int]:
    return translated(*flags)[1]


def flag(name: str = "a", value: object = None, *, enabled: bool = True) -> Flag:
    return Flag(name, enabled, value, None)


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def test_an_event_says_who_saw_what_when_and_under_which_key() -> None:
    entry, _ = translated(flag("dark_mode"), flag("copy", "Buy now"))

    text = (
        b'{"event":"Flagsmith Feature Flags","identity":"ada","properties":{"dark_mode":true,"copy":"Buy now"},'
        b'"timestamp":"2023-11-14T22:13:20.123Z","idempotency_key":"018bcfe568f4d3b07384d113edec49ea"}'
    )
    assert entry == Event(KEY, "production", ENVIRONMENT.lane, "ada", RECEIVED_AT, text)


def test_the_properties_are_told_as_they_stand_in_the_event() -> None:
    flags = (flag("dark_mode"), flag("copy", "Größe 🎉"), flag("b" * 600))

    told = translate(Evaluation("ada", flags, transient=False), ENVIRONMENT, key=KEY, captured_at=RECEIVED_AT)

    assert isinstance(told.entry, Event)
    assert b'"properties":' + told.properties.text + b',"timestamp"' in told.entry.body
    assert json.loads(told.properties.text) == properties(*flags)


def test_an_evaluation_without_flags_has_empty_properties() -> None:
    assert properties() == {}


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.9996, "2023-11-14T22:13:20.999Z"),
        (1_794_471_233.763666, "2026-11-12T08:13:53.763Z"),
    ],
)
def test_the_timestamp_is_utc_in_milliseconds(at: float, text: str) -> None:
    entry = translate(Evaluation("ada", (), transient=False), ENVIRONMENT, key=KEY, captured_at=at).entry

    assert body(entry)["timestamp"] == text


@pytest.mark.parametrize("value", ["foo", "", "1.5", "Größe 🎉", 1, 0, -1, 2**53 - 1, True, False, 1.5, -0.25])
def test_an_enabled_feature_with_a_value_is_its_value_with_its_type(value: object) -> None:
    found = properties(flag("a", value))["a"]

    assert (found, type(found)) == (value, type(value))
    assert altered(flag("a", value)) == {}


@pytest.mark.parametrize("value", ["foo", 1, True, {"nested": 1}, math.nan, None])
def test_a_disabled_feature_is_false_whatever_its_value(value: object) -> None:
    assert properties(flag("a", value, enabled=False)) == {"a": False}
    assert altered(flag("a", value, enabled=False)) == {}


def test_an_enabled_feature_without_a_value_is_true() -> None:
    assert properties(flag("a", None)) == {"a": True}


def test_of_features_with_one_name_the_last_counts_in_the_place_of_the_first() -> None:
    found = properties(flag("a", 1), flag("b", 2), flag("a", 3))

    assert list(found.items()) == [("a", 3), ("b", 2)]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("x" * 1023, "x" * 1023),
        ("x" * 1024, "x" * 1023),
        (EMOJI * 511 + "x", EMOJI * 511 + "x"),
        (EMOJI * 512, EMOJI * 511),
        ("x" + EMOJI * 512, "x" + EMOJI * 511),
        ("é" * 2000, "é" * 1023),
        ("x" * 2_000_000, "x" * 1023),
    ],
)
def test_a_long_value_is_cut_at_1023_utf_16_units_between_characters(value: str, kept: str) -> None:
    assert properties(flag("a", value)) == {"a": kept}
    assert altered(flag("a", value)) == ({} if kept == value else {"value_cut": 1})


@pytest.mark.parametrize(
    ("value", "kept"),
    [("a\0b", "a\ufffdb"), ("\ud83d", "\ufffd"), ("x\ude00\ud83dy", "x\ufffd\ufffdy"), ("\0" * 9, "\ufffd" * 9)],
)
def test_nul_and_halves_of_pairs_in_a_value_are_replaced(value: str, kept: str) -> None:
    assert properties(flag("a", value)) == {"a": kept}
    assert altered(flag("a", value)) == {"value_replaced": 1}


def test_a_value_may_be_both_cut_and_replaced() -> None:
    assert properties(flag("a", "\0" * 3000)) == {"a": "\ufffd" * 1023}
    assert altered(flag("a", "\0" * 3000)) == {"value_cut": 1, "value_replaced": 1}


@pytest.mark.parametrize(
    ("value", "text", "reason"),
    [
        (2**53, "9007199254740992", "integer_as_text"),
        (-(2**70), str(-(2**70)), "integer_as_text"),
        (math.nan, "NaN", "value_not_finite"),
        (math.inf, "Infinity", "value_not_finite"),
        (-math.inf, "-Infinity", "value_not_finite"),
        ({"a": [1, None, "é"]}, '{"a":[1,null,"é"]}', "value_nested"),
        ([], "[]", "value_nested"),
    ],
)
def test_what_json_or_heap_cannot_hold_becomes_text(value: object, text: str, reason: str) -> None:
    assert properties(flag("a", value)) == {"a": text}
    assert altered(flag("a", value)) == {reason: 1}


def test_a_long_nested_value_becomes_text_and_is_cut() -> None:
    assert properties(flag("a", ["x" * 3000])) == {"a": '["' + "x" * 1021}
    assert altered(flag("a", ["x" * 3000])) == {"value_nested": 1, "value_cut": 1}


@pytest.mark.parametrize("name", ["a", "x" * 512, "Größe der Kacheln", EMOJI * 256, "a.b[0]/$c d", " a ", "\t-"])
def test_an_acceptable_name_is_the_key_as_it_stands(name: str) -> None:
    assert properties(flag(name)) == {name: True}
    assert altered(flag(name)) == {}


@pytest.mark.parametrize(
    ("name", "key", "reason"),
    [
        ("x" * 513, "x" * 512, "key_cut"),
        ("x" + EMOJI * 256, "x" + EMOJI * 255, "key_cut"),
        ("a\0b", "a\ufffdb", "key_replaced"),
        ("a\ud800", "a\ufffd", "key_replaced"),
        ("", "(blank)", "key_blank"),
        (" \u3000", "(blank)", "key_blank"),
    ],
)
def test_an_unacceptable_name_is_altered(name: str, key: str, reason: str) -> None:
    assert properties(flag(name)) == {key: True}
    assert altered(flag(name)) == {reason: 1}


def test_names_that_would_share_a_key_get_two_that_do_not_depend_on_the_order() -> None:
    long = "x" * 512
    flags = [flag(long + "a", 1), flag(long, 2), flag(long + "b", 3)]

    found = properties(*flags)

    assert found[long] == 2
    assert sorted(found.values()) == [1, 2, 3]
    assert all(len(key) <= 512 for key in found)
    assert properties(*reversed(flags)) == found
    assert altered(*flags) == {"key_cut": 2, "key_renamed": 2}


def test_a_key_that_was_made_distinct_never_takes_the_name_of_another_feature() -> None:
    long = "x" * 512
    taken = next(key for key in properties(flag(long), flag(long + "a")) if key != long)

    found = properties(flag(long), flag(long + "a", 1), flag(taken, 2))

    assert len(found) == 3
    assert found[taken] == 2


@pytest.mark.parametrize("identity", ["x" * 255, EMOJI * 127 + "x", " a ", "Jürgen"])
def test_an_identity_of_at_most_255_utf_16_units_is_sent_as_it_is(identity: str) -> None:
    entry, _ = translated(identity=identity)

    assert isinstance(entry, Event)
    assert entry.identity == body(entry)["identity"] == identity


@pytest.mark.parametrize("identity", ["x" * 256, EMOJI * 128])
def test_a_longer_identity_is_a_dead_letter_and_never_cut(identity: str) -> None:
    entry, _ = translated(identity=identity)

    assert isinstance(entry, DeadLetter)
    assert entry.cause == Cause("identity_too_long")
    assert entry.event.identity == body(entry)["identity"] == identity


@pytest.mark.parametrize(
    ("identity", "shown"),
    [("ada\0", "ada\\u0000"), ("ada\ud800", "ada\\ud800"), ("\0" + "x" * 300, "\\u0000" + "x" * 300)],
)
def test_an_identity_that_no_json_may_hold_is_a_dead_letter_that_can_be_stored(identity: str, shown: str) -> None:
    """Replacing a character could make it somebody else's."""
    entry, _ = translated(identity=identity)

    assert isinstance(entry, DeadLetter)
    assert entry.cause == Cause("identity_unacceptable")
    assert entry.event.identity == body(entry)["identity"] == shown


def test_an_event_may_fill_a_request_and_no_byte_more() -> None:
    request = b'{"app_id":"1234567890","events":[]}'
    flags = [flag(f"{number:04}", "x" * 1000) for number in range(742)]
    almost = translated(*flags, flag("rest", ""))[0]
    assert isinstance(almost, Event)
    room = 750_000 - len(request) - len(almost.body)

    full = translated(*flags, flag("rest", "x" * room))[0]
    over = translated(*flags, flag("rest", "x" * (room + 1)))[0]

    assert isinstance(full, Event)
    assert isinstance(over, DeadLetter)
    assert over.cause == Cause("event_too_large")


# Whatever Flagsmith decides, Heap's documented schema is kept (developers.heap.io/reference/bulk-track).

TEXTS = st.text(st.characters()) | st.sampled_from(
    ["", " ", "\0", "\ud800", "x" * 2000, EMOJI * 300, "x" + EMOJI * 600]
)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.lists(st.floats() | TEXTS, max_size=2)
    | st.dictionaries(TEXTS, st.integers(), max_size=2)
)
FLAGS = st.builds(Flag, name=TEXTS, enabled=st.booleans(), value=VALUES, variant=st.none())
EVALUATIONS = st.builds(
    Evaluation, identity=TEXTS.filter(str.strip), flags=st.lists(FLAGS, max_size=6).map(tuple), transient=st.booleans()
)


def pairs_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def strictly(text: bytes) -> dict[str, Any]:
    found = json.loads(text.decode(), parse_constant=refuse, object_pairs_hook=pairs_without_repeats)
    assert list(found) == ["event", "identity", "properties", "timestamp", "idempotency_key"]
    return dict(found)


def is_acceptable_value(value: object) -> bool:
    if isinstance(value, str):
        return units(value) <= 1023 and "\0" not in value
    return isinstance(value, bool) or (isinstance(value, int | float) and math.isfinite(value))


@given(evaluation=EVALUATIONS)
def test_every_event_is_one_that_heap_accepts(evaluation: Evaluation) -> None:
    entry = translate(evaluation, ENVIRONMENT, key=KEY, captured_at=RECEIVED_AT).entry
    event = entry.event if isinstance(entry, DeadLetter) else entry

    found = strictly(event.body)

    assert found["identity"] == event.identity
    assert isinstance(entry, DeadLetter) or (1 <= units(found["identity"]) <= 255 and "\0" not in found["identity"])
    assert all(key.strip() and units(key) <= 512 and "\0" not in key for key in found["properties"])
    assert all(is_acceptable_value(value) for value in found["properties"].values())


@given(evaluation=EVALUATIONS)
def test_no_feature_is_left_out_or_moved(evaluation: Evaluation) -> None:
    entry = translate(evaluation, ENVIRONMENT, key=KEY, captured_at=RECEIVED_AT).entry
    expected = {flag.name: flag.enabled and (flag.value is None or flag.value) for flag in evaluation.flags}

    found = body(entry)["properties"]

    assert len(found) == len(expected)
    for (name, value), (key, kept) in zip(expected.items(), found.items(), strict=True):
        if isinstance(value, bool) or is_plain(value, 1023):
            assert kept == value
        if is_plain(name, 512):
            assert key == name


def is_plain(text: object, length: int) -> bool:
    return (
        isinstance(text, str) and text.isascii() and text.isprintable() and 0 < len(text.strip()) <= len(text) <= length
    )


@given(evaluation=EVALUATIONS)
def test_the_same_evaluation_is_the_same_bytes(evaluation: Evaluation) -> None:
    first, second = (translate(evaluation, ENVIRONMENT, key=KEY, captured_at=RECEIVED_AT) for _ in range(2))

    assert first == second
