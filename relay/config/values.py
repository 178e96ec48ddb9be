"""How one scalar of the YAML becomes the value of a setting.

Each type reads text (from the file), takes Python's own value as it is (from code), and carries its JSON Schema.
No mistake's text repeats the value: it may be a secret; who reports the mistake knows whether it may be shown.
"""

import functools
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, LiteralString, NoReturn

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from relay.config.document import Scalar

DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)
SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
SIZE = re.compile(r"(\d{1,12})(B|KiB|MiB|GiB|KB|MB|GB)", re.ASCII)
BYTES = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "GB": 10**9, "MB": 10**6, "KB": 10**3, "B": 1}
WHOLE = re.compile(r"0|[1-9]\d{0,14}", re.ASCII)
SIGNED = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?", re.ASCII)
DECIMAL = re.compile(r"\d{1,9}(\.\d{1,9})?|\.\d{1,9}", re.ASCII)
BOOLEANS = {**dict.fromkeys(("true", "yes", "on"), True), **dict.fromkeys(("false", "no", "off"), False)}
# What other readers of the file take for a number or a boolean where it stands without quotes.
NOT_TEXT = re.compile(
    r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[-+]?\d+)?|[-+]?0[xob][\da-f_]+|[-+]?\d+(:[0-5]?\d)+|true|false",
    re.ASCII | re.IGNORECASE,
)

DURATION_ADVICE = "write a number with its unit (ms, s, m, h or d), like 5s"
SIZE_ADVICE = "write a whole number with its unit (B, KiB, MiB, GiB, KB, MB or GB), like 4MiB"

# A scalar that is, or contains, a reference fits every setting.
REFERENCE = r"\$\{"


def mistake(text: str) -> PydanticCustomError:
    """The error of a value; *text* goes on from the value: "has no unit; write 5s"."""
    return PydanticCustomError("mistake", "{text}", {"text": text})


def refuse(text: str) -> NoReturn:
    raise mistake(text)


def hides(read: Callable[..., Any]) -> Callable[..., Any]:
    """Let a mistake that *read* finds say nothing of the value."""
    return _telling("secret_mistake", read)


def abridges(read: Callable[..., Any]) -> Callable[..., Any]:
    """Let a mistake that *read* finds say of the value no more than how it begins."""
    return _telling("abridged_mistake", read)


def _telling(kind: LiteralString, read: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(read)
    def reading(*args: Any) -> Any:
        try:
            return read(*args)
        except PydanticCustomError as error:
            raise PydanticCustomError(kind, "{text}", error.context) from error

    return reading


def reads(read: Callable[[str], Any], *takes: type, advice: str) -> BeforeValidator:
    """Read text with *read*, let values of the Python types *takes* pass, and refuse all else with *advice*."""

    def validate(value: Any) -> Any:
        if isinstance(value, str):
            return read(str(value))
        if type(value) in takes:
            return value
        return refuse(f"is empty; {advice}" if value is None else f"is not one plain value; {advice}")

    return BeforeValidator(validate)


def fits(test: Callable[[Any], bool], text: str) -> AfterValidator:
    """Refuse with *text* what does not pass *test*."""
    return AfterValidator(lambda value: value if test(value) else refuse(text))


def scalar_schema(pattern: str, **more: Any) -> WithJsonSchema:
    """A text of *pattern*, or with a reference."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$|{REFERENCE}", **more})


def or_reference(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [schema, {"type": "string", "pattern": REFERENCE}]})


# Durations: float seconds.


def read_duration(text: str) -> float:
    """Seconds; 0 needs no unit."""
    if found := DURATION.fullmatch(text):
        return float(found[1]) * SECONDS[found[2]]
    return 0.0 if text == "0" else refuse(f"{_flaw_of_number(text)}; {DURATION_ADVICE}")


def read_period_or_off(text: str) -> float | None:
    return None if text.lower() in {"off", "no", "false"} else read_duration(text)


def show_duration(seconds: float | None) -> str:
    """In the largest unit that makes it a whole number; one day is said as 24h."""
    if seconds is None:
        return "off"
    units = {unit: seconds / size for unit, size in SECONDS.items() if unit != "d" or seconds > size}
    unit = next((unit for unit, number in units.items() if number and number.is_integer()), "s")
    return f"{units[unit]:g}{unit}"


def _flaw_of_number(text: str) -> str:
    if text.startswith("-"):
        return "is negative"
    return "has no unit" if DECIMAL.fullmatch(text) else "is not understood"


_DURATION_PATTERN = r"0|\d+(?:\.\d+)?(?:ms|s|m|h|d)"
Duration = Annotated[
    float,
    reads(read_duration, int, float, advice=DURATION_ADVICE),
    fits(lambda seconds: seconds >= 0, "is negative; write 0 or more"),
    PlainSerializer(show_duration, when_used="json"),
    WithJsonSchema({"anyOf": [{"const": 0}, {"type": "string", "pattern": f"^(?:{_DURATION_PATTERN})$|{REFERENCE}"}]}),
]
Period = Annotated[
    Duration,
    fits(lambda seconds: seconds > 0, f"is 0, which cannot work here; {DURATION_ADVICE}"),
    scalar_schema(_DURATION_PATTERN.removeprefix("0|")),
]
# `off` is a boolean to readers of YAML 1.1.
PeriodOrOff = Annotated[
    float | None,
    reads(read_period_or_off, int, float, type(None), advice="write off, or a duration like 5s"),
    fits(lambda seconds: seconds is None or seconds > 0, "is 0, which cannot work here; write off instead"),
    PlainSerializer(show_duration, when_used="json"),
    WithJsonSchema(
        {"anyOf": [{"const": False}, {"type": "string", "pattern": f"^(?:off|{_DURATION_PATTERN[2:]})$|{REFERENCE}"}]}
    ),
]

# Sizes: whole bytes.


def read_size(text: str) -> int:
    """Bytes."""
    found = SIZE.fullmatch(text)
    return int(found[1]) * BYTES[found[2]] if found else refuse(f"{_flaw_of_number(text)}; {SIZE_ADVICE}")


def show_size(size: int) -> str:
    """In the largest unit that makes it a whole number."""
    unit = next(unit for unit, factor in BYTES.items() if size % factor == 0)
    return f"{size // BYTES[unit]}{unit}"


Size = Annotated[
    int,
    reads(read_size, int, advice=SIZE_ADVICE),
    fits(lambda size: size > 0, f"must be more than nothing; {SIZE_ADVICE}"),
    PlainSerializer(show_size, when_used="json"),
    scalar_schema(r"\d+(?:B|KiB|MiB|GiB|KB|MB|GB)"),
]

# Numbers and booleans.

WHOLE_ADVICE = "write a whole number in plain digits, like 1000"
DECIMAL_ADVICE = "write a number with a point, like 0.8"


def read_whole(text: str) -> int:
    return int(text) if WHOLE.fullmatch(text) else refuse(f"is not such a number; {WHOLE_ADVICE}")


def read_decimal(text: str) -> float:
    return float(text) if DECIMAL.fullmatch(text) else refuse(f"is not such a number; {DECIMAL_ADVICE}")


def read_boolean(text: str) -> bool:
    return BOOLEANS[text.lower()] if text.lower() in BOOLEANS else refuse("is not a boolean; write true or false")


Boolean = Annotated[bool, reads(read_boolean, bool, advice="write true or false"), or_reference({"type": "boolean"})]
Count = Annotated[
    int,
    reads(read_whole, int, advice=WHOLE_ADVICE),
    fits(lambda number: number >= 1, "must be 1 or more; " + WHOLE_ADVICE),
    or_reference({"type": "integer", "minimum": 1}),
]
CountOrNone = Annotated[
    int,
    reads(read_whole, int, advice=WHOLE_ADVICE),
    fits(lambda number: number >= 0, "is negative; " + WHOLE_ADVICE),
    or_reference({"type": "integer", "minimum": 0}),
]
Port = Annotated[
    int,
    reads(read_whole, int, advice="write a port, like 18080"),
    fits(lambda port: 0 <= port <= 65535, "is no port; write a number up to 65535 (0 takes any free port)"),
    or_reference({"type": "integer", "minimum": 0, "maximum": 65535}),
]
Part = Annotated[
    float,
    reads(read_decimal, int, float, advice=DECIMAL_ADVICE),
    fits(lambda part: 0 < part < 1, "is not between 0 and 1; " + DECIMAL_ADVICE),
    or_reference({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
]
Sample = Annotated[
    float,
    reads(read_decimal, int, float, advice=DECIMAL_ADVICE),
    fits(lambda part: 0 <= part <= 1, "is not from 0 to 1; " + DECIMAL_ADVICE),
    or_reference({"type": "number", "minimum": 0, "maximum": 1}),
]

# Text.


def read_text(value: Any, advice: str = 'write text, like "production"') -> str:
    """Text that every reader of the file takes for text, without control characters."""
    if not isinstance(value, str):
        return refuse(f"{'is empty' if value is None else 'is not text'}; {advice}")
    if isinstance(value, Scalar) and value.plain and NOT_TEXT.fullmatch(value):
        return refuse("is a number or a boolean in YAML, and text belongs here; put it in quotes")
    if not value.isprintable():
        return refuse("holds a character that cannot be seen; delete it")
    return str(value)


Text = Annotated[str, BeforeValidator(read_text), WithJsonSchema({"type": "string"})]
Word = Annotated[
    Text,
    fits(lambda text: text == text.strip() != "", "is empty or begins or ends with white space; write it without"),
    fits(lambda text: len(text) <= 100, "is longer than 100 characters; write a shorter one"),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 100}),
]


PLAIN_ADVICE = "write text, a number in plain digits, true or false"


def read_plain(value: Any) -> str | int | float | bool:
    """Text; or, written without quotes and as every reader of YAML takes it, a number or a boolean."""
    if type(value) in {bool, int, float}:
        return value  # type: ignore[no-any-return]  # pydantic passed it on
    if not (isinstance(value, Scalar) and value.plain):
        return read_text(value, PLAIN_ADVICE)
    if value in {"true", "false"}:
        return value == "true"
    if SIGNED.fullmatch(value):
        return float(value) if "." in value else int(value)
    if NOT_TEXT.fullmatch(value) or value.lower() in BOOLEANS:
        return refuse(f"is not the same to every reader of YAML; put it in quotes, or {PLAIN_ADVICE}")
    return read_text(value, PLAIN_ADVICE)


def utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


# Heap takes property values of fewer than 1,024 characters (developers.heap.io/reference/track-1); it counts in
# JavaScript. Its own SDKs drop names longer than 512 (github.com/heap/heap-swift-core-sdk).
Property = Annotated[
    str | int | float | bool,
    BeforeValidator(read_plain),
    fits(
        lambda value: not isinstance(value, str) or utf16_units(value) <= 1023,
        "is longer than 1,023 characters, more than Heap takes; shorten it",
    ),
    fits(lambda value: not isinstance(value, float) or math.isfinite(value), f"is no number; {PLAIN_ADVICE}"),
    WithJsonSchema({"anyOf": [{"type": "string", "maxLength": 1023}, {"type": ["number", "boolean"]}]}),
]
Properties = Annotated[
    dict[str, Property],
    fits(
        lambda properties: all(name.strip() and name.isprintable() and utf16_units(name) <= 512 for name in properties),
        "has a name that is empty, cannot be seen, or is longer than 512 characters; write another one",
    ),
]
