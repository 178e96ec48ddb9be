"""From the bytes of an exchange to what Flagsmith decided for whom."""

from collections.abc import Sequence

import msgspec

from relay.core.body import decode
from relay.core.parse import parse
from relay.core.recent import Recent
from relay.core.recognise import is_json
from relay.core.request import Asked, asked, names_transient
from relay.errors import CaptureRefused
from relay.model import Evaluation, Exchange, Flag, Verdict

# Flagsmith's values are scalars; what nests deeper than this was made to hurt whoever walks it.
MAX_NESTING = 32
NESTED = (list, dict)


class _Feature(msgspec.Struct):
    name: str


class _Member(msgspec.Struct):
    """One of "flags", in the shape that core, the Edge API and the Edge Proxy share."""

    feature: _Feature
    enabled: bool
    feature_state_value: object = None
    # Missing from the Edge Proxy and from core before 2.239.
    variant: object = None


class _Answer(msgspec.Struct):
    flags: list[_Member]
    # Missing from core before 2.135.
    identifier: object = None


class _Outline(msgspec.Struct):
    """An answer whose members are not read yet."""

    flags: list[msgspec.Raw]
    identifier: object = None


class _Found(msgspec.Struct):
    """What of an answer counts."""

    identifier: object
    flags: tuple[Flag, ...]
    # What tells these flags from others; 0: nothing does.
    mark: int = 0


class _Cover(msgspec.Struct):
    """An answer whose flags are not read yet."""

    flags: msgspec.Raw
    identifier: object = None


class _OutlinedMember(msgspec.Struct):
    feature: _Feature
    enabled: bool
    feature_state_value: msgspec.Raw = msgspec.Raw(b"null")
    variant: object = None


# Of a request that says no more than the answer.
NOTHING_MORE = Asked(None, transient=False)
# A decoder holds up the whole process until it is through, so a longer text is read in pieces.
PIECE_BYTES = 64 * 1024
# Flags of a longer text are not known again: all that are must stay small together.
KNOWN_BYTES = 16 * 1024

NOT_FLAGS = Verdict(False, "not_flags")
NO_IDENTITY = Verdict(False, "no_identity")

# Flags that were read lately by what Python's hash makes of their text, under a key that each process draws (SipHash,
# peps.python.org/pep-0456): most identities of an environment see the same few sets of flags.
KnownFlags = Recent[int, tuple[Flag, ...]]

_DECODER = msgspec.json.Decoder(_Answer)
_COVER = msgspec.json.Decoder(_Cover)
_OUTLINE = msgspec.json.Decoder(_Outline)
_OUTLINED_MEMBER = msgspec.json.Decoder(_OutlinedMember)
_MEMBER = msgspec.json.Decoder(_Member)


def evaluate(
    exchange: Exchange, *, max_decoded: int, max_flags: int, known: KnownFlags | None = None
) -> Evaluation | Verdict:
    """What the answer says, or why there is nothing to send: "not_flags" or "no_identity".

    An answer with a member that has no feature name or no enabled state is not one of flags: an event without that
    member would tell Heap that a feature is gone. Raises CaptureRefused: "undecodable" where the answer, or a request
    that alone names the identity, cannot be read; "too_large" past *max_decoded* bytes or *max_flags* flags.
    Flags that are *known*, by the same bounds, are not read again.

    Measured with Python 3.11: 30 flags (3.3 kB) take about 25 µs, 9 of them in the decoder; where they are known, 7 µs.
    """
    if not is_json(exchange.answer_type):
        return NOT_FLAGS
    found = _find(decode(exchange.answer_body, exchange.answer_encoding, max_decoded), max_flags, known)
    if found is None:
        return NOT_FLAGS
    request = _asked(exchange, found.identifier, max_decoded)
    identity = found.identifier if isinstance(found.identifier, str) else request.identifier
    if identity is None or not identity.strip():
        return NO_IDENTITY
    return Evaluation(identity, found.flags, request.transient, found.mark)


def _find(text: bytes, max_flags: int, known: KnownFlags | None) -> _Found | None:
    """What stands in the answer, None where it is something else than flags."""
    cover = _cover(text) if known is not None else None
    if cover is None or known is None:
        return _read(text, max_flags)
    mark = hash(bytes(cover.flags))
    if (flags := known.get(mark)) is None:
        if (read := _read(text, max_flags)) is None:
            return None
        known.put(mark, flags := read.flags)
    return _Found(cover.identifier, flags, mark)


def _cover(text: bytes) -> _Cover | None:
    """None where the flags of *text* are not to be known again, or it is no JSON as the standard has it."""
    try:
        return _COVER.decode(text) if len(text) <= KNOWN_BYTES else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _read(text: bytes, max_flags: int) -> _Found | None:
    answer = parse(_DECODER, text) if len(text) <= PIECE_BYTES else _read_in_pieces(text, max_flags)
    if answer is None:
        return None
    if len(answer.flags) > max_flags:
        raise CaptureRefused("too_large")
    return _Found(answer.identifier, _flags(answer.flags))


def _read_in_pieces(text: bytes, max_flags: int) -> _Answer | None:
    """The same from a long *text*, without ever building more than *max_flags* members or a nested value in one go."""
    try:
        outline = _OUTLINE.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return parse(_DECODER, text)
    if len(outline.flags) > max_flags:
        raise CaptureRefused("too_large")
    members = [_read_member(bytes(piece)) for piece in outline.flags]
    whole = [member for member in members if member is not None]
    return _Answer(whole, outline.identifier) if len(whole) == len(members) else None


def _read_member(piece: bytes) -> _Member | None:
    if len(piece) > PIECE_BYTES and _has_long_nested_value(piece):
        raise CaptureRefused("undecodable")
    return parse(_MEMBER, piece)


def _has_long_nested_value(piece: bytes) -> bool:
    """A long text is a value like others; a long list or object is none that Flagsmith gives."""
    try:
        value = bytes(_OUTLINED_MEMBER.decode(piece).feature_state_value)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return len(value) > PIECE_BYTES and value[:1] in {b"[", b"{"}


def _asked(exchange: Exchange, identifier: object, max_decoded: int) -> Asked:
    """The request, which may be unreadable as long as the answer names the identity by *identifier*."""
    is_named = isinstance(identifier, str)
    if is_named and not names_transient(exchange):
        return NOTHING_MORE
    try:
        return asked(exchange, max_decoded)
    except CaptureRefused:
        if is_named:
            return NOTHING_MORE
        raise


def _flags(members: Sequence[_Member]) -> tuple[Flag, ...]:
    if not all(
        _is_shallow(one.feature_state_value, MAX_NESTING)
        for one in members
        if isinstance(one.feature_state_value, NESTED)
    ):
        raise CaptureRefused("undecodable")
    # Not a function for each: there are dozens in a call.
    return tuple(
        [
            Flag(
                one.feature.name,
                one.enabled,
                one.feature_state_value,
                one.variant if isinstance(one.variant, str) else None,
            )
            for one in members
        ]
    )


def _is_shallow(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return levels > 0 and all(_is_shallow(member, levels - 1) for member in value)
