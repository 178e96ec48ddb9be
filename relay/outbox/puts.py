"""One put as bytes, and several as one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from relay.model import Coalescing, Event, JournalEntry, Verdict
from relay.outbox import Put

# As bytes. Identities in the journal may be any text, events' only what UTF-8 can hold.


class _Entry(msgspec.Struct, array_like=True):
    identity: bytes
    environment: str
    at: float
    method: str
    send: bool
    reason: str
    properties: bytes
    key: str


class _Content(msgspec.Struct, array_like=True):
    events: list[Event]
    tally: list[tuple[str, str, str, int]]
    journal: list[_Entry]
    fingerprints: dict[str, int]
    remember: dict[str, int]


_decoder = msgspec.msgpack.Decoder(_Content)


def can_be_kept(put: Put) -> bool:
    """Whether nothing in it depends on the moment that the tables learn of it, nor has `encode` to leave it out."""
    coalescing = put.coalescing
    if put.dead_letters or coalescing.repeats or coalescing.latest:
        return False
    # Which of two events with one key is stored, the tables decide.
    return bool(put.events or put.journal) and len({event.key for event in put.events}) == len(put.events)


def encode(put: Put) -> bytes:
    """*put* as bytes that `decode` reads, in this version and in later ones."""
    content = _Content(
        [*put.events],
        [(*total, count) for total, count in put.tally.items()],
        [_entry(one) for one in put.journal],
        {**put.coalescing.fingerprints},
        {**put.coalescing.remember},
    )
    return msgspec.msgpack.encode(content)


def decode(data: bytes) -> Put:
    """What `encode` made of it."""
    content = _decoder.decode(data)
    return Put(
        content.events,
        tally={(environment, book, reason): count for environment, book, reason, count in content.tally},
        journal=[_journal_entry(one) for one in content.journal],
        coalescing=Coalescing(content.fingerprints, content.remember),
    )


def _entry(one: JournalEntry) -> _Entry:
    identity = one.identity.encode(errors="surrogatepass")
    verdict = one.verdict
    return _Entry(identity, one.environment, one.at, one.method, verdict.send, verdict.reason, one.properties, one.key)


def _journal_entry(one: _Entry) -> JournalEntry:
    identity, verdict = one.identity.decode(errors="surrogatepass"), Verdict(one.send, one.reason)
    return JournalEntry(identity, one.environment, one.at, one.method, verdict, one.properties, one.key)


# Several as one.


def joined(puts: Iterable[Put]) -> Iterator[Put]:
    """*puts* as few: those in a row where none ends a memory that another fills."""
    row: list[Put] = []
    forgetful: set[str] = set()
    remembering: set[str] = set()
    for put in puts:
        if put.forgetful & remembering or put.remembering & forgetful:
            yield _join(row)
            row, forgetful, remembering = [], set(), set()
        row.append(put)
        forgetful |= put.forgetful
        remembering |= put.remembering
    if row:
        yield _join(row)


def _join(puts: Sequence[Put]) -> Put:
    tally: Counter[tuple[str, str, str]] = Counter()
    fingerprints: dict[str, int] = {}
    remember: dict[str, int] = {}
    for put in puts:
        tally.update(put.tally)
        fingerprints |= put.coalescing.fingerprints
        remember |= put.coalescing.remember
    return Put(
        [*chain.from_iterable(put.events for put in puts)],
        tally=tally,
        journal=[*chain.from_iterable(put.journal for put in puts)],
        coalescing=Coalescing(fingerprints, remember),
    )
