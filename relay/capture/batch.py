"""What capture hands on from step to step: offers, cases to decide about, and a batch to put."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from relay.capture.coalescing import Mark, State
from relay.capture.reading import Prepared
from relay.core.coalesce import tolerated
from relay.model import Coalescing, DeadLetter, Environment, Event, Exchange, JournalEntry, Repeats, Who
from relay.outbox import NOTHING_SENT


# One of each is made for every call.
class Offer(msgspec.Struct):
    exchange: Exchange
    # Bytes reserved of the memory of all copies.
    size: int
    committed: "asyncio.Future[None] | None"
    # Of what is sent only as news.
    mark: Mark | None


class Case(msgspec.Struct):
    """What to decide about."""

    offer: Offer
    # Of what is sent only as news.
    state: State | None
    # None where the state is known without reading it.
    prepared: Prepared | None = None


@dataclass(slots=True)
class Batch:
    """What is put together."""

    events: list[Event] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    journal: list[JournalEntry] = field(default_factory=list)
    # Of the events that are to be remembered, by key; and the events' environments, by name.
    fingerprints: dict[str, int] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)
    # Those that are unchanged only if what comes before them in this put is stored.
    resting: list[Case] = field(default_factory=list)
    # Answers that were unchanged whatever becomes of the rest, by environment.
    unchanged: Counter[str] = field(default_factory=Counter)

    @property
    def is_empty(self) -> bool:
        return not (self.events or self.dead or self.journal)

    def entries(self) -> Iterator[Event]:
        """All that is new in the outbox."""
        yield from self.events
        yield from (letter.event for letter in self.dead)

    def coalescing(self, repeats: Mapping[Who, Repeats]) -> Coalescing:
        """How it stands to what was put before."""
        on_change = {each.name: each.on_change for each in self.environments.values() if each.on_change}
        memories = {name: rule.remember for name, rule in on_change.items()}
        heartbeats = {name: rule.heartbeat for name, rule in on_change.items()}
        latest = {each.name: tolerated(each.latest) for each in self.environments.values() if each.latest}
        if not (memories or latest or repeats):
            return NOTHING_SENT
        return Coalescing(self.fingerprints, memories, repeats, latest, heartbeats)
