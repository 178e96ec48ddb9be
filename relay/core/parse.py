"""JSON as servers really write it: what the standard forbids but Python and JavaScript emit is read too."""

import json

import msgspec

from relay.errors import CaptureRefused

# Python turns no longer run of digits into an integer (CVE-2020-10735); one that long stays text.
INTEGER_DIGITS = 4_300

_STRICT = msgspec.json.Decoder()
# RecursionError: brackets nested a thousand deep. ValueError: bytes that are not UTF-8.
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


def parse(text: bytes) -> object:
    """The value of a JSON text. Raises CaptureRefused("undecodable") where there is none."""
    try:
        return _STRICT.decode(text)
    except UNREADABLE:
        return parse_tolerantly(text)


def parse_tolerantly(text: bytes) -> object:
    """As `parse`, but slower: allows halves of surrogate pairs, numbers of any size, NaN and a byte order mark.

    A number too large for a float is infinite.
    """
    try:
        return json.loads(text.decode("utf-8-sig"), parse_int=_integer)
    except UNREADABLE as exc:
        raise CaptureRefused("undecodable") from exc


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= INTEGER_DIGITS else digits
