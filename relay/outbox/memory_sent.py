"""The change memory of an outbox in memory: what was sent last for whom."""

from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Mapping

import msgspec

from relay.core.coalesce import newest
from relay.model import Event, Repeats, Sent, Who

# What a remembered identity takes beside its text: objects and its places in tables, measured.
ENTRY_BYTES = 360


class _Entry(msgspec.Struct, frozen=True):
    sent: Sent
    # Of its event.
    number: int


class MemorySent:
    """At most *most* identities of all environments together; they go in the order in which they were used last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_name: defaultdict[str, OrderedDict[str, _Entry]] = defaultdict(OrderedDict)
        self.size = 0

    def recall(self, whos: Collection[Who]) -> dict[Who, Sent]:
        """What is remembered of *whos*."""
        found = {who: self._entry(who) for who in whos}
        return {who: entry.sent for who, entry in found.items() if entry is not None}

    def remembered(self) -> dict[str, int]:
        """How many identities are, by environment."""
        return {name: len(entries) for name, entries in self._by_name.items() if entries}

    def remember(self, number: int, event: Event, fingerprint: int) -> None:
        """Remember that an event was sent, unless a later one was."""
        who, sent = (event.environment, event.identity), Sent(fingerprint, event.captured_at)
        last = self._entry(who)
        if newest(sent, last.sent if last else None) is sent:
            self._remove(who)
            self._by_name[event.environment][event.identity] = _Entry(sent, number)
            self.size += _size_of(event.identity)

    def touch(self, repeats: Mapping[Who, Repeats]) -> dict[int, Repeats]:
        """Note who was used just now; return the repeats by the numbers of the events they repeat."""
        by_number: dict[int, Repeats] = {}
        for who, repeat in repeats.items():
            if entry := self._entry(who):
                self._by_name[who[0]].move_to_end(who[1])
                by_number[entry.number] = repeat
        return by_number

    def trim(self, limits: Mapping[str, int]) -> None:
        """Forget who was used least lately, until each environment has at most its limit, and all have the whole."""
        for name, limit in limits.items():
            while len(self._by_name.get(name, ())) > limit:
                self._evict(name)
        while sum(map(len, self._by_name.values())) > self._most:
            self._evict(max(self._by_name, key=lambda name: len(self._by_name[name])))

    def end(self, environments: Iterable[str]) -> None:
        """Begin the memories of *environments* anew."""
        for name in environments:
            self.size -= sum(map(_size_of, self._by_name.pop(name, ())))

    def unsay(self, number: int, event: Event) -> None:
        """Forget that an event was sent, where nothing newer was: it will not reach Heap."""
        who = (event.environment, event.identity)
        if (entry := self._entry(who)) and entry.number == number:
            self._remove(who)

    def forget(self, identity: str) -> int:
        """Forget *identity*; return how many environments remembered it."""
        return sum(self._remove((name, identity)) for name in self._by_name)

    def _entry(self, who: Who) -> _Entry | None:
        entries = self._by_name.get(who[0])
        return entries.get(who[1]) if entries else None

    def _evict(self, name: str) -> None:
        self._remove((name, next(iter(self._by_name[name]))))

    def _remove(self, who: Who) -> bool:
        if self._entry(who) is None:
            return False
        del self._by_name[who[0]][who[1]]
        self.size -= _size_of(who[1])
        return True


def _size_of(identity: str) -> int:
    return ENTRY_BYTES + len(identity)
