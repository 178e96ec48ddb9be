"""What the strict Heap refuses, check by check, and the words it does it in."""

from typing import Any

import pytest

from relay.sandbox import checks
from relay.sandbox.knobs import Knobs
from tests.sandbox.asking import WALL, event

STRICT = Knobs()
PATH = "postBody.events[7]"
CLEF = "\N{MUSICAL SYMBOL G CLEF}"  # one code point, two UTF-16 units
FORMAT = 'should match format "date-time"'
STORABLE = 'should match pattern "^[^\\u0000\\ud800-\\udfff]*$"'


def judged(changes: dict[str, Any], knobs: Knobs = STRICT) -> str | None:
    return checks.event(event(**changes), PATH, WALL, knobs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"event": ...}, " should have required property 'event'"),
        ({"event": 1}, ".event should be string"),
        ({"event": ""}, ".event should NOT be shorter than 1 characters"),
        ({"event": "e" * 1025}, ".event should NOT be longer than 1024 characters"),
        ({"identity": ...}, " should have required property 'identity'"),
        ({"identity": None}, ".identity should be string"),
        ({"identity": 7}, ".identity should be string"),
        ({"identity": ""}, ".identity should NOT be shorter than 1 characters"),
        ({"identity": "i" * 256}, ".identity should NOT be longer than 255 characters"),
        ({"identity": CLEF * 128}, ".identity should NOT be longer than 255 characters"),
        ({"identity": "a\0b"}, f".identity {STORABLE}"),
        ({"identity": "a\ud800"}, f".identity {STORABLE}"),
        ({"user_id": "1"}, " should match exactly one schema in oneOf"),
        ({"identity": ..., "user_id": 1}, ".user_id should be string"),
        ({"identity": ..., "user_id": "x"}, '.user_id should match pattern "^[0-9]+$"'),
        ({"identity": ..., "user_id": "9007199254740992"}, '.user_id should match pattern "^[0-9]+$"'),
        ({"properties": []}, ".properties should be object"),
        ({"properties": None}, ".properties should be object"),
        ({"properties": {"": 1}}, ".properties property name '' is invalid"),
        ({"properties": {"k" * 1024: 1}}, f".properties property name '{'k' * 1024}' is invalid"),
        ({"properties": {"a": "v" * 1024}}, ".properties.a should NOT be longer than 1023 characters"),
        ({"properties": {"a b'": CLEF * 512}}, ".properties['a b\\''] should NOT be longer than 1023 characters"),
        ({"properties": {"a": "\udfff"}}, f".properties.a {STORABLE}"),
        ({"properties": {"a": {}}}, ".properties.a should be string,number"),
        ({"properties": {"a": float("inf")}}, ".properties.a should be number"),
        ({"properties": {"a": 10**400}}, ".properties.a should be number"),
        ({"properties": {"a": [1, {}]}}, ".properties.a[1] should be string,number"),
        ({"properties": {"a": [[]]}}, ".properties.a[0] should be string,number"),
        ({"timestamp": None}, ".timestamp should be string"),
        ({"timestamp": 1.5}, ".timestamp should be string"),
        ({"timestamp": ""}, f".timestamp {FORMAT}"),
        ({"timestamp": "2026-02-03"}, f".timestamp {FORMAT}"),
        ({"timestamp": "2026-02-03T04:05:06"}, f".timestamp {FORMAT}"),
        ({"timestamp": "2026-02-30T04:05:06Z"}, f".timestamp {FORMAT}"),
        ({"timestamp": 1_770_091_506_000}, f".timestamp {FORMAT}"),
        ({"timestamp": "1770091506000"}, f".timestamp {FORMAT}"),
        ({"idempotency_key": None}, ".idempotency_key should be string"),
        ({"idempotency_key": 12345678}, ".idempotency_key should be string"),
        ({"idempotency_key": "1234567"}, ".idempotency_key should NOT be shorter than 8 characters"),
        ({"session_id": 5}, ".session_id should be string"),
    ],
)
def test_an_event_that_breaks_a_rule_is_refused_by_its_path(changes: dict[str, Any], words: str) -> None:
    assert judged(changes) == PATH + words


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"event": "e" * 1024},
        {"identity": "i" * 255},
        {"identity": CLEF * 127},
        {"identity": " "},
        {"identity": ..., "user_id": "9007199254740991"},
        {"properties": ...},
        {"properties": {}},
        {"properties": {"k" * 1023: "v" * 1023}},
        {"properties": {"a": "", "b": 0, "c": -1.5, "d": True, "e": None, "f": ["x", 1, None, False]}},
        {"timestamp": ...},
        {"timestamp": "2017-03-10T22:21:56+00:00"},
        {"timestamp": "2024-01-01T00:00:00.123456+05:30"},
        {"idempotency_key": ...},
        {"idempotency_key": "12345678"},
        {"session_id": "s"},
        {"library": "relay"},
    ],
)
def test_an_event_at_the_edge_of_every_rule_is_accepted(changes: dict[str, Any]) -> None:
    assert judged(changes) is None


@pytest.mark.parametrize(
    ("knobs", "changes"),
    [
        (Knobs(max_property_key=512), {"properties": {"k" * 513: 1}}),
        (Knobs(booleans="refuse"), {"properties": {"a": True}}),
        (Knobs(nulls="refuse"), {"properties": {"a": None}}),
        (Knobs(extra_fields="refuse"), {"library": "relay"}),
        (Knobs(max_age_days=1), {"timestamp": "2026-02-02T04:05:05Z"}),
    ],
)
def test_a_knob_refuses_what_is_accepted_by_default(knobs: Knobs, changes: dict[str, Any]) -> None:
    assert judged(changes) is None
    assert judged(changes, knobs) is not None


@pytest.mark.parametrize(
    ("knobs", "changes"),
    [
        (Knobs(length_unit="code_points"), {"identity": CLEF * 255}),
        (Knobs(unstorable_text="accept"), {"identity": "a\0\ud800"}),
        (Knobs(long_values="cut"), {"properties": {"a": "v" * 5000}}),
        (Knobs(nested_objects="drop"), {"properties": {"a": {"b": 1}}}),
        (Knobs(epoch_timestamps="accept"), {"timestamp": 1_770_091_506_000}),
        (Knobs(epoch_timestamps="accept"), {"timestamp": "1770091506000"}),
        (Knobs(short_keys="ignore"), {"idempotency_key": "short"}),
    ],
)
def test_a_knob_accepts_what_is_refused_by_default(knobs: Knobs, changes: dict[str, Any]) -> None:
    assert judged(changes) is not None
    assert judged(changes, knobs) is None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "postBody should be object"),
        ("text", "postBody should be object"),
        ({}, "postBody should have required property 'app_id'"),
        ({"app_id": 123}, "postBody.app_id should be string"),
        ({"app_id": ""}, "Bad Request"),
        ({"app_id": "test-app-id"}, "Bad Request"),
        ({"app_id": "12\n"}, "Bad Request"),
        ({"app_id": "\N{ARABIC-INDIC DIGIT ONE}"}, "Bad Request"),
    ],
)
def test_a_request_has_to_name_its_app_in_digits(document: object, words: str) -> None:
    assert checks.envelope(document) == words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"events": {}}, "postBody.events should be array"),
        ({"events": None}, "postBody.events should be array"),
        ({"events": []}, "postBody.events should NOT have fewer than 1 items"),
        ({"events": [1] * 1001}, "postBody.events should NOT have more than 1000 items"),
        ({"events": [1], "event": "e"}, "postBody should match exactly one schema in oneOf"),
    ],
)
def test_a_batch_is_a_list_of_one_to_a_thousand(fields: dict[str, Any], words: str) -> None:
    assert checks.batch({"app_id": "1", **fields}, STRICT) == words
    assert checks.batch({"app_id": "1", "events": [1] * 1000}, STRICT) is None


def test_a_batch_may_carry_other_fields_unless_the_knob_says_no() -> None:
    document = {"app_id": "1", "events": [1], "library": "relay"}

    assert checks.batch(document, STRICT) is None
    assert checks.batch(document, Knobs(extra_fields="refuse")) == "postBody should NOT have additional properties"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b"{} {}",
        b"{}\0",
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": "\xff"}',
        b'{"a": "\n"}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b"1" * 10_000,
    ],
)
def test_only_one_strict_json_document_is_read(text: bytes) -> None:
    with pytest.raises(checks.Unreadable):
        checks.parse(text, STRICT)


def test_a_repeated_name_is_read_where_the_knob_allows_it() -> None:
    assert checks.parse(b'{"a": 1, "a": 2}', Knobs(duplicate_keys="accept")) == {"a": 2}
