"""From what Flagsmith decided to the event that Heap will store."""

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from hashlib import sha256

import msgspec

from relay.core.batch import BATCH_BYTES
from relay.core.coalesce import fingerprint
from relay.core.identity import hashed
from relay.model import Cause, DeadLetter, Environment, Evaluation, Event, Flag, Scalar

# developers.heap.io/reference/track-1: an identity has at most 255 characters, a property value fewer than 1,024.
# Heap's own SDK (github.com/heap/heap-swift-core-sdk) counts in UTF-16 units, and drops keys longer than 512.
IDENTITY_UNITS = 255
VALUE_UNITS = 1_023
KEY_UNITS = 512
# What JavaScript, and so perhaps Heap, can still tell from its neighbours.
LARGEST_INTEGER = 2**53 - 1

# Why an event can never be sent as it is.
OBSTACLES = frozenset({"identity_unacceptable", "identity_too_long", "event_too_large"})

ENVELOPE = b'{"app_id":"","events":[]}'

# Follows the feature's name in the key of its variant.
VARIANT = ".variant"

# Heap's SDKs drop a key without a visible character.
BLANK_KEY = "(blank)"

_UNACCEPTABLE = re.compile("[\0\ud800-\udfff]")
_ENCODE = msgspec.json.Encoder().encode


class Properties(msgspec.Struct, frozen=True):
    """What a set of flags comes to, whoever has them."""

    # As they stand in an event's body: one JSON object.
    text: bytes
    # How often something was altered to be acceptable, by reason.
    altered: Mapping[str, int]
    # How many features they tell of.
    features: int
    # 64 bits that tell them, and the event and Heap app they are for, from others.
    fingerprint: int


class Translation(msgspec.Struct, frozen=True):
    """What becomes of an evaluation."""

    entry: Event | DeadLetter
    properties: Properties


def properties_of(flags: tuple[Flag, ...], environment: Environment) -> Properties:
    """What *flags* come to.

    They are in the answer's order, and rules that are not of the default add static properties or variants. Names and
    values that Heap would refuse are altered, and counted: "key_blank", "key_cut", "key_replaced", "key_renamed",
    "value_cut", "value_replaced", "value_nested", "value_not_finite", "integer_as_text". What rules would add under the
    name of a feature is left out: "added_left_out".
    """
    altered: Counter[str] = Counter()
    text = _ENCODE(_properties(flags, environment, altered))
    return Properties(text, altered, len(flags), fingerprint(environment.lane, environment.event, text))


def translate(
    evaluation: Evaluation,
    environment: Environment,
    *,
    key: str,
    captured_at: float,
    properties: Properties | None = None,
) -> Translation:
    """The event that Flagsmith's own integration would send, with *key* and *captured_at* (seconds since 1970) added.

    Rules that are not of the default put a hash in the identity's place. What cannot be altered without telling Heap an
    untruth is a dead letter: "identity_too_long" and "identity_unacceptable" (another identity is another person) and
    "event_too_large" (fewer flags are other flags). *properties* are those of its flags, where they are at hand.
    """
    properties = properties or properties_of(evaluation.flags, environment)
    name = evaluation.identity if environment.hash_key is None else hashed(evaluation.identity, environment.hash_key)
    identity = spelled_out(name)
    body = _ENCODE(
        {
            "event": environment.event,
            "identity": identity,
            "properties": msgspec.Raw(properties.text),
            "timestamp": _timestamp(captured_at),
            "idempotency_key": key,
        }
    )
    event = Event(key, environment.name, environment.lane, identity, captured_at, body)
    obstacle = _obstacle(name, event)
    return Translation(DeadLetter(event, Cause(obstacle)) if obstacle else event, properties)


def _obstacle(identity: str, event: Event) -> str:
    if _UNACCEPTABLE.search(identity):
        return "identity_unacceptable"
    if _units(identity) > IDENTITY_UNITS:
        return "identity_too_long"
    if len(event.body) > BATCH_BYTES - len(ENVELOPE) - len(event.lane.app_id):
        return "event_too_large"
    return ""


def _properties(flags: tuple[Flag, ...], environment: Environment, altered: Counter[str]) -> dict[str, Scalar]:
    """Of features with one name the last one counts, in the place of the first, as in Flagsmith's own dictionary."""
    # Flagsmith's rule: the value where there is one and the feature is enabled, else whether it is enabled.
    values = {
        flag.name: flag.enabled if not flag.enabled or flag.value is None else _value(flag.value, altered)
        for flag in flags
    }
    if environment.variants:
        values = _with_variants(values, {flag.name: flag for flag in flags}, altered)
    if not _are_plain(values):
        values = dict(zip(_keys(list(values), altered), values.values(), strict=True))
    return _with_extras(values, environment.extra_properties, altered)


def _with_variants(values: Mapping[str, Scalar], flags: Mapping[str, Flag], altered: Counter[str]) -> dict[str, Scalar]:
    """The variant of a feature comes right after its value, and like the value only where the feature is enabled."""
    found: dict[str, Scalar] = {}
    for name, flag in flags.items():
        found[name] = values[name]
        if not flag.enabled or flag.variant is None:
            continue
        if (key := name + VARIANT) in flags:
            altered["added_left_out"] += 1
        else:
            found[key] = _text(flag.variant, altered)
    return found


def _with_extras(values: dict[str, Scalar], extras: Mapping[str, Scalar], altered: Counter[str]) -> dict[str, Scalar]:
    """*extras* come last, and never in place of what Flagsmith said."""
    if not extras:
        return values
    if taken := extras.keys() & values.keys():
        altered["added_left_out"] += len(taken)
    return {**values, **{key: extra for key, extra in extras.items() if key not in taken}}


# Values.


def _value(value: object, altered: Counter[str]) -> Scalar:
    if isinstance(value, str):
        return _text(value, altered)
    if isinstance(value, bool):
        return value
    return _number(value, altered) if isinstance(value, int | float) else _nested(value, altered)


def _text(value: str, altered: Counter[str]) -> str:
    if len(value) <= VALUE_UNITS and value.isascii() and "\0" not in value:
        return value
    return _acceptable(value, VALUE_UNITS, "value", altered)


def _number(value: float, altered: Counter[str]) -> Scalar:
    if isinstance(value, int):
        if abs(value) <= LARGEST_INTEGER:
            return value
        altered["integer_as_text"] += 1
        return _text(str(value), altered)
    if math.isfinite(value):
        return value
    altered["value_not_finite"] += 1
    return json.dumps(value)


def _nested(value: object, altered: Counter[str]) -> str:
    altered["value_nested"] += 1
    return _text(json.dumps(value, ensure_ascii=False, separators=(",", ":")), altered)


# Keys.


def _are_plain(keys: Collection[str]) -> bool:
    """Whether nothing is to be altered in any of *keys*; most of it is asked of all of them at once."""
    text = "".join(keys)
    if not (text.isascii() and text.isprintable() and all(keys)):
        return False
    return not any(map(str.isspace, keys)) and max(map(len, keys), default=0) <= KEY_UNITS


def _keys(names: list[str], altered: Counter[str]) -> list[str]:
    """A key for each of the different *names*. Where two would share one, those that were altered get another.

    Which one depends on the name alone, as Flagsmith's order changes when flags are edited.
    """
    keys = [_key(name, altered) for name in names]
    shared = {key for key, times in Counter(keys).items() if times > 1}
    taken = set(keys)
    for place, (name, key) in enumerate(zip(names, keys, strict=True)):
        if key in shared and key != name:
            altered["key_renamed"] += 1
            keys[place] = _renamed(name, key, taken)
            taken.add(keys[place])
    return keys


def _key(name: str, altered: Counter[str]) -> str:
    key = _acceptable(name, KEY_UNITS, "key", altered)
    if key.strip():
        return key
    altered["key_blank"] += 1
    return BLANK_KEY


def _renamed(name: str, key: str, taken: set[str]) -> str:
    digest = sha256(name.encode(errors="surrogatepass")).hexdigest()
    # Eight digits, unless somebody has named a feature so.
    for digits in range(8, len(digest) + 1):
        mark = "~" + digest[:digits]
        if (renamed := _cut(key, KEY_UNITS - len(mark)) + mark) not in taken:
            return renamed
    raise AssertionError("56 prefixes of one hash are taken")


# Text.


def _acceptable(text: str, units: int, what: str, altered: Counter[str]) -> str:
    """*text* without NUL and halves of surrogate pairs, at most *units* long."""
    head = text[:units]
    replaced = _UNACCEPTABLE.sub("\ufffd", head)
    if replaced != head:
        altered[f"{what}_replaced"] += 1
    kept = _cut(replaced, units)
    if len(kept) < len(text):
        altered[f"{what}_cut"] += 1
    return kept


def _cut(text: str, units: int) -> str:
    """The longest beginning of *text* within *units* UTF-16 units; what is left of a pair cut in two is dropped."""
    return text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", "ignore")


def _units(text: str) -> int:
    """The length in UTF-16 units, as JavaScript and Heap's SDKs count."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def spelled_out(identity: str) -> str:
    """*identity*, with what no JSON text may hold written as an escape, so that it can be stored and shown."""
    if not _UNACCEPTABLE.search(identity):
        return identity
    return _UNACCEPTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", identity)


def _timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
