"""What the scripts reply, read."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from relay.model import Cause, Claim, DeadLetter, Lane, Level, Sent, StoredLetter, Trace, Verdict, Who
from relay.outbox.bookkeeping import Total, fate
from relay.outbox.redis.wire import long, read_attempt, read_lane, unpack

Reply = Sequence[Any]


def groups(reply: Reply, size: int) -> Iterator[Reply]:
    """A flat reply's rows."""
    return (reply[start : start + size] for start in range(0, len(reply), size))


def table(reply: Any) -> Mapping[bytes, bytes]:
    """A hash: a list of fields and values in RESP2, a mapping in RESP3."""
    return reply if isinstance(reply, Mapping) else {field: value for field, value in groups(reply, 2)}  # noqa: C416  # no tuples


def moment(text: bytes | None) -> float | None:
    return None if text is None else float(text)


def claims(lane: Lane, reply: Reply) -> Iterator[Claim]:
    for number, attempts, blob in groups(reply, 3):
        yield Claim(int(number), unpack(blob, lane), attempts)


def sents(whos: Collection[Who], reply: Reply) -> Iterator[tuple[Who, Sent]]:
    for who, (mark, at) in zip(whos, groups(reply, 2), strict=True):
        if mark is not None:
            yield who, Sent(long(mark), float(at))


def lanes(reply: Any) -> dict[str, Lane]:
    return {name.decode(): read_lane(address) for name, address in table(reply).items()}


def levels(reply: Reply) -> Iterator[Level]:
    for address, environment, events, size, oldest in groups(reply, 5):
        yield Level(read_lane(address), environment.decode(), events, size, float(oldest))


def totals(reply: Any) -> Iterator[tuple[Total, int]]:
    for field, count in table(reply).items():
        book, reason, environment = field.decode().split("\0", 2)
        yield (environment, book, reason), int(count)


def letters(reply: Reply, lanes: Mapping[str, Lane]) -> Iterator[StoredLetter]:
    for number, lane, attempts, made_at, reason, detail, blob in groups(reply, 7):
        event = unpack(blob, lanes[lane.decode()])
        cause = Cause(reason.decode(), detail.decode())
        yield StoredLetter(int(number), DeadLetter(event, cause), float(made_at), attempts)


class _Entry(msgspec.Struct, array_like=True):
    """A journal entry as tables.lua has it."""

    who: str
    environment: str
    at: float
    method: str
    send: bool
    reason: str
    state: str
    key: str
    attempts: int
    delivered: bool
    unchanged: int
    # False: never.
    unchanged_at: float | bool
    gone: str
    answers: list[str]


_decode = msgspec.msgpack.Decoder(_Entry).decode


def traces(reply: Reply) -> Iterator[Trace]:
    for _, packed, properties, due, leased, reason, detail in groups(reply, 7):
        yield _trace(_decode(packed), properties, moment(due), bool(leased), _cause(reason, detail))


def _cause(reason: bytes | None, detail: bytes | None) -> Cause | None:
    return None if reason is None else Cause(reason.decode(), (detail or b"").decode())


def _trace(entry: _Entry, properties: bytes, due: float | None, leased: bool, cause: Cause | None) -> Trace:
    place = fate(entry.key, leased=None if due is None else leased, dead=cause is not None, delivered=entry.delivered)
    return Trace(
        environment=entry.environment,
        at=entry.at,
        method=entry.method,
        verdict=Verdict(entry.send, entry.reason),
        properties=properties,
        key=entry.key,
        attempts=entry.attempts,
        answers=tuple(map(read_attempt, entry.answers)),
        place=place,
        due=due if place == "waiting" else None,
        cause=cause or (Cause(entry.gone) if place == "gone" and entry.gone else None),
        unchanged=entry.unchanged,
        unchanged_at=None if isinstance(entry.unchanged_at, bool) else entry.unchanged_at,
    )
