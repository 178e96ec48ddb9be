"""JSON as servers really write it: what the standard forbids but Python and JavaScript emit is read too."""

import json
from typing import TypeVar

import msgspec

from relay.errors import CaptureRefused

# Python turns no longer run of digits into an integer (CVE-2020-10735); one that long stays text.
INTEGER_DIGITS = 4_300

# Python reads these in one go, holding up everything else in the process; a real answer with an odd value is small.
TOLERATED_BYTES = 2 * 1024 * 1024

# RecursionError: brackets nested a thousand deep. ValueError: bytes that are not UTF-8.
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)

T = TypeVar("T")


def parse(decoder: msgspec.json.Decoder[T], text: bytes) -> T | None:
    """A JSON text as the decoder's type, None where it has another shape.

    What strict JSON does not know, halves of surrogate pairs, numbers of any size, NaN and a byte order mark, is read
    more slowly; a number too large for a float is infinite. Raises CaptureRefused("undecodable") where *text* is not
    JSON at all.
    """
    try:
        return decoder.decode(text)
    except _UNREADABLE:
        found = _parse_tolerantly(text)
    try:
        return msgspec.convert(found, decoder.type)
    except msgspec.ValidationError:
        return None


def _parse_tolerantly(text: bytes) -> object:
    if len(text) > TOLERATED_BYTES:
        raise CaptureRefused("undecodable")
    try:
        return json.loads(text.decode("utf-8-sig"), parse_int=_integer)
    except _UNREADABLE as exc:
        raise CaptureRefused("undecodable") from exc


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= INTEGER_DIGITS else digits
