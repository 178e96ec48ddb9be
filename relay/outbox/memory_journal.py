"""The journal of an outbox in memory: what was decided for whom, and what became of it."""

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from relay.model import Attempt, JournalEntry, Repeats
from relay.outbox.bookkeeping import ATTEMPTS_KEPT, identity_fingerprint

# What an entry with as many attempts as are kept takes, and a set of properties beside its text: objects and their
# places in tables, measured.
ENTRY_BYTES = 1260
STATE_BYTES = 120


class Noted(msgspec.Struct):
    """An entry with what became of its event."""

    number: int
    # The identity's fingerprint.
    who: int
    # Without the identity.
    entry: JournalEntry
    attempts: int = 0
    answers: tuple[Attempt, ...] = ()
    delivered: bool = False
    unchanged: int = 0
    unchanged_at: float | None = None
    # Why its event is neither stored nor delivered.
    gone: str = ""


class _State(msgspec.Struct):
    """A set of properties, once however many entries have it."""

    properties: bytes
    entries: int = 0


class MemoryJournal:
    """The newest entries: at most *entries*, and at most *max_bytes* together."""

    def __init__(self, *, entries: int, max_bytes: int) -> None:
        self._entries = entries
        self._max_bytes = max_bytes
        self._secret = secrets.token_bytes(32)
        # By their numbers, in the order they come in. A plain dict finds its first key the more slowly, the more were
        # removed before it.
        self._noted: OrderedDict[int, Noted] = OrderedDict()
        self._states: dict[bytes, _State] = {}
        self.size = 0

    def weigh(self, journal: Iterable[JournalEntry]) -> int:
        """Bytes that *journal* adds at most."""
        return sum(ENTRY_BYTES + STATE_BYTES + len(entry.properties) for entry in journal) if self._entries else 0

    def add(self, number: int, entry: JournalEntry) -> None:
        """Note an entry; the oldest make room."""
        who = identity_fingerprint(self._secret, entry.identity)
        if entry.properties not in self._states:
            self._states[entry.properties] = _State(entry.properties)
            self.size += STATE_BYTES + len(entry.properties)
        state = self._states[entry.properties]
        state.entries += 1
        self._noted[number] = Noted(number, who, replace(entry, identity="", properties=state.properties))
        self.size += ENTRY_BYTES
        while len(self._noted) > self._entries or self.size > self._max_bytes:
            self._remove(next(iter(self._noted)))

    def note_attempts(
        self, numbers: Iterable[int], attempts: Mapping[int, Sequence[Attempt]], *, delivered: bool
    ) -> None:
        """Count the *attempts* of those *numbers* that are here, and keep the last ones."""
        for number in numbers:
            if noted := self._noted.get(number):
                made = attempts.get(number, ())
                noted.attempts += len(made)
                noted.answers = (noted.answers + tuple(made))[-ATTEMPTS_KEPT:]
                noted.delivered = delivered

    def note_repeats(self, repeats: Mapping[int, Repeats]) -> None:
        """Count answers that were like the entries with these numbers, those that are here."""
        for number, repeat in repeats.items():
            if noted := self._noted.get(number):
                noted.unchanged, noted.unchanged_at = noted.unchanged + repeat.times, repeat.at

    def note_gone(self, number: int, reason: str) -> None:
        """Note why the event with that *number* is neither stored nor delivered."""
        if noted := self._noted.get(number):
            noted.gone = reason

    def trace(self, identity: str) -> Iterator[Noted]:
        """What is noted of *identity*, newest first."""
        who = identity_fingerprint(self._secret, identity)
        return (noted for noted in reversed(self._noted.values()) if noted.who == who)

    def forget(self, identity: str) -> int:
        """Remove what is noted of *identity*; return how many entries that were."""
        numbers = [noted.number for noted in self.trace(identity)]
        for number in numbers:
            self._remove(number)
        return len(numbers)

    def _remove(self, number: int) -> None:
        properties = self._noted.pop(number).entry.properties
        state = self._states[properties]
        state.entries -= 1
        self.size -= ENTRY_BYTES
        if not state.entries:
            del self._states[properties]
            self.size -= STATE_BYTES + len(properties)
