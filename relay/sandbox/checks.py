"""What Heap refuses, and the words it does it in: those of the JSON Schema validator AJV before version 7.

One such text is public (github.com/iagomelanias/heap-php, issue 4); the others follow its dialect. Rules are those of
developers.heap.io/reference/track-1 and /bulk-track.
"""

import json
import re
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from relay.sandbox.knobs import Knobs

MAX_EVENTS = 1_000
MAX_EVENT_NAME = 1_024
MAX_IDENTITY = 255
MAX_VALUE = 1_023
MAX_USER_ID = 2**53 - 1
# Not on Heap's page; github.com/unstoppabledomains/resolution-service, pull request 200.
MIN_IDEMPOTENCY_KEY = 8

FIELDS = frozenset(
    {"event", "identity", "user_id", "properties", "timestamp", "idempotency_key", "session_id"},
)

_DIGITS = re.compile(r"[0-9]+")
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


class Unreadable(Exception):
    """The body is not one JSON document; the text says why."""


def parse(body: bytes, knobs: Knobs) -> object:
    """Read strict JSON (RFC 8259): no NaN or Infinity, nothing after the document, valid UTF-8."""
    hook = _unique_keys if knobs.duplicate_keys == "refuse" else None
    try:
        return json.loads(body.decode(), parse_constant=_no_constant, object_pairs_hook=hook)
    except (ValueError, RecursionError) as exc:
        raise Unreadable(f"Unexpected token in JSON: {exc}") from exc


def envelope(document: object) -> str | None:
    """What is wrong with the request around its events, before anybody looks for the app."""
    if not isinstance(document, dict):
        return "postBody should be object"
    if "app_id" not in document:
        return "postBody should have required property 'app_id'"
    if not isinstance(document["app_id"], str):
        return "postBody.app_id should be string"
    # Seen with "x" and "test-app-id" in live tests of Segment and heap-ruby.
    return None if _DIGITS.fullmatch(document["app_id"]) else "Bad Request"


def app_of(document: object) -> str | None:
    """The app that a request names, as far as it does."""
    app_id = document.get("app_id") if isinstance(document, dict) else None
    return app_id if isinstance(app_id, str) else None


def batch(document: object, knobs: Knobs) -> str | None:
    """What is wrong with the list of events as a list; a single track call has none."""
    if not isinstance(document, dict) or "events" not in document:
        return None
    events = document["events"]
    if "event" in document:
        return "postBody should match exactly one schema in oneOf"
    if not isinstance(events, list):
        return "postBody.events should be array"
    if not events and knobs.empty_events == "refuse":
        return "postBody.events should NOT have fewer than 1 items"
    if len(events) > MAX_EVENTS:
        return f"postBody.events should NOT have more than {MAX_EVENTS} items"
    return _extra(document, "postBody", frozenset({"app_id", "events"}), knobs)


def events_of(document: object) -> list[object]:
    """The events of a request; a single track call is taken as a batch of one, as Heap does."""
    if not isinstance(document, dict):
        return []
    if isinstance(document.get("events"), list):
        return list(document["events"])
    return [{name: value for name, value in document.items() if name != "app_id"}]


def event(given: dict[str, Any], path: str, now: float, knobs: Knobs) -> str | None:
    """The first thing wrong with one event; *now* is in seconds since 1970."""
    for check in _CHECKS:
        if wrong := check(given, path, knobs):
            return wrong
    if knobs.old_events == "refuse" and is_too_old(given, now, knobs):
        return f"{path}.timestamp should be later"
    return _extra(given, path, FIELDS, knobs)


def is_too_old(given: dict[str, Any], now: float, knobs: Knobs) -> bool:
    """Whether a checked event is older than Heap takes; *now* is in seconds since 1970."""
    if knobs.max_age_days is None or "timestamp" not in given:
        return False
    return now - _seconds(given["timestamp"]) > knobs.max_age_days * 86_400


def length(text: str, knobs: Knobs) -> int:
    """Characters, in the unit that this Heap counts."""
    if knobs.length_unit == "code_points" or text.isascii():
        return len(text)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _name(given: dict[str, Any], path: str, knobs: Knobs) -> str | None:
    if "event" not in given:
        return f"{path} should have required property 'event'"
    return _text(given["event"], f"{path}.event", MAX_EVENT_NAME, knobs)


def _who(given: dict[str, Any], path: str, knobs: Knobs) -> str | None:
    if "identity" in given and "user_id" in given:
        return f"{path} should match exactly one schema in oneOf"
    if "user_id" in given:
        return _user_id(given["user_id"], f"{path}.user_id")
    if "identity" not in given:
        return f"{path} should have required property 'identity'"
    return _text(given["identity"], f"{path}.identity", MAX_IDENTITY, knobs)


def _user_id(value: object, path: str) -> str | None:
    if not isinstance(value, str):
        return f"{path} should be string"
    # 16 digits say all up to the limit; int() of a much longer text is slow, and refused by Python itself.
    if not _DIGITS.fullmatch(value) or len(value) > 16 or int(value) > MAX_USER_ID:
        return f'{path} should match pattern "^[0-9]+$"'
    return None


def _properties(given: dict[str, Any], path: str, knobs: Knobs) -> str | None:
    properties = given.get("properties", {})
    path = f"{path}.properties"
    if not isinstance(properties, dict):
        return f"{path} should be object"
    for key, value in properties.items():
        if _text(key, path, knobs.max_property_key, knobs):
            return f"{path} property name {_quoted(key)} is invalid"
        if wrong := _value(value, _member(path, key), knobs):
            return wrong
    return None


def _value(value: object, path: str, knobs: Knobs) -> str | None:
    match value:
        case str():
            return _value_text(value, path, knobs)
        case bool() if knobs.booleans == "refuse":
            return f"{path} should be string,number"
        case None if knobs.nulls == "refuse":
            return f"{path} should be string,number"
        # 1e999 is JSON, and infinite once read.
        case int() | float() if not -sys.float_info.max <= value <= sys.float_info.max:
            return f"{path} should be number"
        case dict() if knobs.nested_objects == "refuse":
            return f"{path} should be string,number"
        case list():
            return _items(value, path, knobs)
    return None


def _value_text(value: str, path: str, knobs: Knobs) -> str | None:
    longest = sys.maxsize if knobs.long_values == "cut" else MAX_VALUE
    return _text(value, path, longest, knobs, shortest=0)


def _items(items: list[object], path: str, knobs: Knobs) -> str | None:
    """Every item of a list has to be a scalar: Heap joins them into one text."""
    for index, item in enumerate(items):
        if isinstance(item, (dict, list)):
            return f"{path}[{index}] should be string,number"
        if wrong := _value(item, f"{path}[{index}]", knobs):
            return wrong
    return None


def _timestamp(given: dict[str, Any], path: str, knobs: Knobs) -> str | None:
    if "timestamp" not in given:
        return None
    value = given["timestamp"]
    if _is_epoch(value):
        return None if knobs.epoch_timestamps == "accept" else f'{path}.timestamp should match format "date-time"'
    if not isinstance(value, str):
        return f"{path}.timestamp should be string"
    return None if _is_iso_with_zone(value) else f'{path}.timestamp should match format "date-time"'


def _idempotency_key(given: dict[str, Any], path: str, knobs: Knobs) -> str | None:
    if "idempotency_key" not in given:
        return None
    path = f"{path}.idempotency_key"
    if wrong := _text(given["idempotency_key"], path, sys.maxsize, knobs, shortest=0):
        return wrong
    if knobs.short_keys == "refuse" and len(given["idempotency_key"]) < MIN_IDEMPOTENCY_KEY:
        return f"{path} should NOT be shorter than {MIN_IDEMPOTENCY_KEY} characters"
    return None


def _session(given: dict[str, Any], path: str, knobs: Knobs) -> str | None:
    if "session_id" not in given:
        return None
    return _text(given["session_id"], f"{path}.session_id", sys.maxsize, knobs)


_CHECKS: tuple[Callable[[dict[str, Any], str, Knobs], str | None], ...] = (
    _name,
    _who,
    _properties,
    _timestamp,
    _idempotency_key,
    _session,
)


def _text(value: object, path: str, longest: int, knobs: Knobs, *, shortest: int = 1) -> str | None:
    if not isinstance(value, str):
        return f"{path} should be string"
    size = length(value, knobs)
    if size < shortest:
        return f"{path} should NOT be shorter than {shortest} characters"
    if size > longest:
        return f"{path} should NOT be longer than {longest} characters"
    if knobs.unstorable_text == "refuse" and _UNSTORABLE.search(value):
        return f'{path} should match pattern "^[^\\u0000\\ud800-\\udfff]*$"'
    return None


def _extra(given: dict[str, Any], path: str, known: frozenset[str], knobs: Knobs) -> str | None:
    if knobs.extra_fields == "accept" or given.keys() <= known:
        return None
    return f"{path} should NOT have additional properties"


def _is_epoch(value: object) -> bool:
    """Milliseconds since 1970, as i18n-ally sends them."""
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and len(value) <= 16
    return isinstance(value, int) and not isinstance(value, bool)


def _is_iso_with_zone(value: str) -> bool:
    if not _TIMESTAMP.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _seconds(timestamp: str | int) -> float:
    """A checked timestamp in seconds since 1970."""
    if _is_epoch(timestamp):
        return int(timestamp) / 1000
    return datetime.fromisoformat(str(timestamp)).timestamp()


def _member(path: str, key: str) -> str:
    """The path of a property as AJV writes it."""
    return f"{path}.{key}" if _IDENTIFIER.fullmatch(key) else f"{path}[{_quoted(key)}]"


def _quoted(key: str) -> str:
    return "'" + key.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return unique
