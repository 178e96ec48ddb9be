"""What one put brings under one hash tag, as its script wants it."""

from collections.abc import Sequence

from relay.core.daily import day_of
from relay.model import Coalescing, DeadLetter, Event, JournalEntry
from relay.outbox import Put
from relay.outbox.redis.link import Given
from relay.outbox.redis.wire import address, lane_name, pack, properties_name, short, who_name


def parcel(put: Put, secret: bytes, *, journal: bool) -> tuple[Given, Sequence[bytes]]:
    """The script's arguments: names of things are made with the outbox's *secret*."""
    states: dict[bytes, int] = {}
    coalescing = put.coalescing
    given = {
        "events": [_event(secret, event, coalescing) for event in put.events],
        "letters": [_letter(secret, letter) for letter in put.dead_letters],
        "entries": [_entry(secret, entry, states) for entry in put.journal] if journal else [],
        "states": [properties_name(secret, properties) for properties in states],
        "lanes": {lane_name(lane): address(lane) for lane in {event.lane for event in put.stored}},
        "latest": dict(coalescing.latest),
        "remember": dict(coalescing.remember),
        "heartbeats": dict(coalescing.heartbeats),
        "repeats": _repeats(secret, coalescing),
        "tally": [
            {"environment": environment, "book": book, "reason": reason, "count": count}
            for (environment, book, reason), count in put.tally.items()
        ],
    }
    return given, [*map(pack, put.stored), *states]


def _stored(secret: bytes, event: Event) -> Given:
    return {
        "key": event.key,
        "environment": event.environment,
        "lane": lane_name(event.lane),
        "size": len(event.body),
        "captured_at": event.captured_at,
        "who": who_name(secret, event.identity),
    }


def _event(secret: bytes, event: Event, coalescing: Coalescing) -> Given:
    mark = coalescing.fingerprints.get(event.key)
    told = {"day": day_of(event.captured_at), "mark": "" if mark is None else short(mark)}
    return _stored(secret, event) | told


def _letter(secret: bytes, letter: DeadLetter) -> Given:
    return _stored(secret, letter.event) | {"reason": letter.cause.reason, "detail": storable(letter.cause.detail)}


def _entry(secret: bytes, entry: JournalEntry, states: dict[bytes, int]) -> list[object]:
    """As tables.lua has it; *states* are those of one put, each once, counted from 1."""
    state = states.setdefault(entry.properties, len(states) + 1)
    who = who_name(secret, entry.identity)
    verdict = (entry.verdict.send, entry.verdict.reason)
    return [who, entry.environment, entry.at, entry.method, *verdict, state, entry.key, 0, False, 0, False, "", []]


def _repeats(secret: bytes, coalescing: Coalescing) -> list[Given]:
    return [
        {"environment": name, "who": who_name(secret, identity), "times": repeat.times, "at": repeat.at}
        for (name, identity), repeat in coalescing.repeats.items()
    ]


def storable(detail: str) -> str:
    """*detail* without halves of surrogate pairs: it is somebody else's text, and no UTF-8 has them."""
    return detail.encode(errors="replace").decode()
