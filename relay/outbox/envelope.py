"""One put as bytes, so that another storage can keep it whole until its own one is back."""

import msgspec

from relay.errors import OutboxError
from relay.model import Cause, Coalescing, DeadLetter, Event, JournalEntry, Lane, Repeats, Verdict
from relay.outbox import Put

# Of the form below, in every envelope. Another version's relay may have to read it.
FORMAT = 1


# Names of people are bytes here: JSON may spell half a character, which no UTF-8 has.
_Event = tuple[str, str, str, str, bytes, float, bytes]
_Entry = tuple[bytes, str, float, str, bool, str, bytes, str]


class _Written(msgspec.Struct, array_like=True, frozen=True):
    format: int
    events: list[_Event]
    dead_letters: list[tuple[_Event, str, str]]
    tally: list[tuple[str, str, str, int]]
    journal: list[_Entry]
    fingerprints: dict[str, int]
    remember: dict[str, int]
    repeats: list[tuple[str, bytes, int, float]]
    latest: dict[str, int]
    heartbeats: dict[str, float]


def seal(put: Put) -> bytes:
    """*put* as bytes."""
    coalescing = put.coalescing
    written = _Written(
        FORMAT,
        events=[_event(event) for event in put.events],
        dead_letters=[(_event(letter.event), letter.cause.reason, letter.cause.detail) for letter in put.dead_letters],
        tally=[(*total, count) for total, count in put.tally.items()],
        journal=[_entry(entry) for entry in put.journal],
        fingerprints=dict(coalescing.fingerprints),
        remember=dict(coalescing.remember),
        repeats=[(name, _name(who), each.times, each.at) for (name, who), each in coalescing.repeats.items()],
        latest=dict(coalescing.latest),
        heartbeats=dict(coalescing.heartbeats),
    )
    return msgspec.msgpack.encode(written)


def unseal(envelope: bytes) -> Put:
    """The put that was sealed. Raises OutboxError for what this version cannot read."""
    try:
        written = msgspec.msgpack.decode(envelope, type=_Written)
    except msgspec.DecodeError as error:
        raise OutboxError("the spool holds what this version cannot read; move its file away") from error
    if written.format > FORMAT:
        raise OutboxError("the spool holds what a newer version put there; run that one until it is empty")
    coalescing = Coalescing(
        written.fingerprints,
        written.remember,
        {(name, _text(who)): Repeats(times, at) for name, who, times, at in written.repeats},
        written.latest,
        written.heartbeats,
    )
    return Put(
        events=[_read_event(*event) for event in written.events],
        dead_letters=[DeadLetter(_read_event(*event), Cause(*cause)) for event, *cause in written.dead_letters],
        tally={(environment, book, reason): count for environment, book, reason, count in written.tally},
        journal=[_read_entry(*entry) for entry in written.journal],
        coalescing=coalescing,
    )


def _event(event: Event) -> _Event:
    lane = event.lane
    name = _name(event.identity)
    return event.key, event.environment, lane.url, lane.app_id, name, event.captured_at, event.body


def _read_event(key: str, environment: str, url: str, app_id: str, name: bytes, at: float, body: bytes) -> Event:
    return Event(key, environment, Lane(url, app_id), _text(name), at, body)


def _entry(entry: JournalEntry) -> _Entry:
    verdict = entry.verdict
    said = (entry.method, verdict.send, verdict.reason, entry.properties, entry.key)
    return _name(entry.identity), entry.environment, entry.at, *said


def _read_entry(
    name: bytes, environment: str, at: float, method: str, send: bool, reason: str, properties: bytes, key: str
) -> JournalEntry:
    return JournalEntry(_text(name), environment, at, method, Verdict(send, reason), properties, key)


def _name(identity: str) -> bytes:
    return identity.encode(errors="surrogatepass")


def _text(name: bytes) -> str:
    return name.decode(errors="surrogatepass")
