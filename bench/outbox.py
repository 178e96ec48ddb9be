"""Show that an outbox costs the same whether nothing waits or a million events do.

    python -m bench.outbox [--events 1000000] [--storage sqlite|memory] [--folder DIR]

An empty outbox and one that is being filled are measured in turns, so that whatever else the machine does meets both.
At the end two outboxes are measured likewise, one of them with a journal, to show what that costs: once where
identities see the same few sets of flags, and once where each sees its own. Then it tells what it takes to remember
an identity, and to replace an event that waits.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from relay.capture.coalescing import KNOWN, State
from relay.core.recent import Recent
from relay.model import Attempt, Coalescing, Environment, Event, JournalEntry, Lane, Sent, Settlement, Verdict
from relay.outbox import Outbox, Put
from relay.outbox.bookkeeping import RECENT
from relay.outbox.memory import MemoryOutbox
from relay.outbox.recollection import Recollection
from relay.outbox.sqlite import SqliteOutbox

T = TypeVar("T")

LANE = Lane("https://heapanalytics.com", "1234567890")
BEGAN = 1_800_000_000.0
# Events of one call, as in a busy relay: a commit's worth, a batch's worth.
BATCH = 250
ROUNDS = 30
# The outbox is filled with larger puts, which are not measured.
FILL = 1000
# About what thirty flags come to.
BODY = b'{"event":"Flagsmith Feature Flags","properties":{' + b'"some_feature_name":true,' * 28 + b"}}"
ROOM = 64 * 2**30
# The default of `outbox.journal`.
JOURNAL = 50_000


@dataclass(frozen=True)
class Stopwatch:
    """How long calls took, by name."""

    clock: Callable[[], float] = time.perf_counter
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def time(self, name: str, call: Awaitable[T]) -> T:
        """Await *call* and note how long it took."""
        began = self.clock()
        result = await call
        self.seconds[name].append(self.clock() - began)
        return result

    def median(self, name: str) -> float:
        """In milliseconds."""
        return statistics.median(self.seconds[name]) * 1000


class Source:
    """Events with keys in order of time, as the relay makes them, of identities that see so many sets of flags."""

    def __init__(
        self, states: int = 100, *, relay: int = 0, lane: Lane = LANE, environment: str = "production"
    ) -> None:
        self._made = 0
        self._states = states
        self._relay = relay
        self._lane = lane
        self._environment = environment

    def events(self, times: int) -> list[Event]:
        """The next *times* events, a hundredth of a second apart."""
        numbers = range(self._made, self._made + times)
        self._made += times
        return [
            Event(
                f"{number:012x}{self._relay:04x}{number * 7919:020x}",
                self._environment,
                self._lane,
                f"user-{number}",
                BEGAN + number / 100,
                BODY,
            )
            for number in numbers
        ]

    def journal(self, events: Sequence[Event]) -> list[JournalEntry]:
        """An entry for each of *events*."""
        return [
            JournalEntry(
                event.identity,
                event.environment,
                event.captured_at,
                "GET",
                Verdict(True, "every_call"),
                b"%d%b" % (int(event.identity[5:]) % self._states, BODY),
                event.key,
            )
            for event in events
        ]


async def fill(outbox: Outbox, source: Source, events: int) -> None:
    """Put so many more, a thousand at once."""
    for _ in range(events // FILL):
        await outbox.put(Put(source.events(FILL)))


async def compare(
    first: Outbox, second: Outbox, source: Source, clock: Callable[[], float] = time.perf_counter
) -> tuple[Stopwatch, Stopwatch]:
    """Time every call on both, in turns."""
    watches = Stopwatch(clock), Stopwatch(clock)
    for _ in range(ROUNDS):
        for outbox, watch in zip((first, second), watches, strict=True):
            await one_round(outbox, source, watch)
    return watches


async def one_round(outbox: Outbox, source: Source, watch: Stopwatch) -> None:
    """As much goes out as comes in."""
    now = BEGAN + 1e6
    limits = {"limit": BATCH, "max_bytes": 750_000}
    events = source.events(BATCH)
    await watch.time("put", outbox.put(Put(events, journal=source.journal(events))))
    await watch.time("peek", outbox.peek(LANE, **limits, now=now))
    lease = await watch.time("claim", outbox.claim(LANE, **limits, now=now, lease=60))
    await watch.time("renew", outbox.renew(lease.token, until=now + 90))
    numbers = [one.id for one in lease.claims]
    made = [Attempt(int(now), "delivered 200")]
    settlement = Settlement(ack=frozenset(numbers), attempts=dict.fromkeys(numbers, made))
    await watch.time("settle", outbox.settle(lease.token, settlement, now=now))
    await watch.time("books", outbox.books())
    await watch.time("levels", outbox.levels())
    await watch.time("usage", outbox.usage())


def report(title: str, first: Stopwatch, second: Stopwatch, names: tuple[str, str] = ("empty", "filled")) -> None:
    """Both medians of each call and of all together, and the second's as a multiple of the first's."""
    print(f"\n{title}, {BATCH} events a call, medians of {ROUNDS} in milliseconds")
    print(f"{'':>10}{names[0]:>10}{names[1]:>10}{'ratio':>10}")
    medians = {name: (first.median(name), second.median(name)) for name in first.seconds}
    medians["all"] = sum(before for before, _ in medians.values()), sum(after for _, after in medians.values())
    for name, (before, after) in medians.items():
        print(f"{name:>10}{before:>10.3f}{after:>10.3f}{after / before:>10.2f}")


async def run(empty: Outbox, filled: Outbox, events: int) -> None:
    """Measure and report at powers of ten, and at *events*."""
    source, waiting = Source(), 0
    await empty.open()
    await filled.open()
    try:
        for level in [*(level for level in (10_000, 100_000) if level < events), events]:
            await fill(filled, source, level - waiting)
            waiting = level
            report(f"{waiting:,} waiting", *await compare(empty, filled, source))
        usage = await filled.usage()
        print(f"\n{usage.size / 1e6:,.0f} MB in use, {usage.size / waiting:,.0f} bytes an event")
    finally:
        await empty.close()
        await filled.close()


async def run_journal(plain: Outbox, journal: Outbox, states: int) -> None:
    """Measure and report what a full journal costs, whose entries were all replaced once, in the processor's time."""
    source = Source(states)
    await plain.open()
    await journal.open()
    try:
        for _ in range(2 * JOURNAL // BATCH):
            await one_round(journal, source, Stopwatch())
        watches = await compare(plain, journal, source, time.process_time)
        report(f"CPU, identities see {states:,} sets of flags", *watches, ("plain", "journal"))
    finally:
        await plain.close()
        await journal.close()


async def run_memory(outbox: Outbox, identities: int) -> None:
    """Remember so many and have their events delivered; report what is left of each, on disk and in the process."""
    source = Source()
    await outbox.open()
    try:
        before = (await outbox.usage()).size
        for _ in range(identities // FILL):
            events = source.events(FILL)
            sent = Coalescing({event.key: hash(event.identity) for event in events}, {"production": identities})
            await outbox.put(Put(events, coalescing=sent))
            lease = await outbox.claim(LANE, limit=FILL, max_bytes=10**9, now=BEGAN + 1e6, lease=60)
            await outbox.settle(lease.token, Settlement(ack=frozenset(one.id for one in lease.claims)), now=BEGAN)
        used = (await outbox.usage()).size - before
        print(f"\n{identities:,} remembered: {used / identities:,.0f} bytes each in the storage", end="")
    finally:
        await outbox.close()
    print(f"; of {RECENT:,} in the process {bytes_of_copies():,.0f}, and of known bytes {bytes_of_known():,.0f}")


def bytes_of_copies() -> float:
    """What the process holds of each who was asked for lately."""

    def learn() -> Recollection:
        copy = Recollection()
        for number in range(RECENT):
            copy.learn(
                ("installation", 0), {("production", f"user-{number}"): Sent(number << 40, number / 7)}, doubts=0
            )
        return copy

    return grown_by(learn) / RECENT


def bytes_of_known() -> float:
    """What it holds of each exchange whose bytes it knows, but for whose it is, which it has already."""
    environment = Environment("production", LANE, "Flagsmith Feature Flags")

    def learn() -> Recent[tuple[int, int], State]:
        known: Recent[tuple[int, int], State] = Recent(KNOWN)
        for number in range(KNOWN):
            known.put((number << 40, -number << 41), State(environment, ("production", "user"), number << 40))
        return known

    return grown_by(learn) / KNOWN


def grown_by(make: Callable[[], object]) -> float:
    """The bytes that what is made takes."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    made = make()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del made
    return after - before


async def run_latest(empty: Outbox, filled: Outbox, events: int) -> None:
    """Measure and report what it takes to replace what waits, with so many events waiting."""
    source = Source()
    watches = Stopwatch(), Stopwatch()
    latest = Coalescing(latest={"production": 0})
    await empty.open()
    await filled.open()
    try:
        await fill(filled, source, events)
        for _ in range(ROUNDS):
            older = source.events(BATCH)
            newer = [replace(one, key=one.key[::-1], captured_at=one.captured_at + 1) for one in older]
            for outbox, watch in zip((empty, filled), watches, strict=True):
                await outbox.put(Put(older, coalescing=latest))
                await watch.time("replace", outbox.put(Put(newer, coalescing=latest)))
        report(f"{events:,} waiting", *watches)
    finally:
        await empty.close()
        await filled.close()


def make(storage: str, folder: Path, name: str, journal_entries: int = 0) -> Outbox:
    """A closed outbox with room for all of it."""
    if storage == "memory":
        return MemoryOutbox(max_bytes=ROOM, dead_letter_share=0.25, journal_entries=journal_entries)
    path = folder / f"{name}.db"
    return SqliteOutbox(path, max_bytes=ROOM, dead_letter_share=0.25, journal_entries=journal_entries)


def measure(storage: str, folder: Path, events: int) -> None:
    """All of it, in *folder*."""
    asyncio.run(run(make(storage, folder, "empty"), make(storage, folder, "filled"), events))
    for states in (100, 10 * JOURNAL):
        plain, journal = (make(storage, folder, f"{states}-{entries}", entries) for entries in (0, JOURNAL))
        asyncio.run(run_journal(plain, journal, states))
    asyncio.run(run_memory(make(storage, folder, "memory"), events))
    asyncio.run(run_latest(make(storage, folder, "latest-empty"), make(storage, folder, "latest-filled"), events))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.outbox", description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="how many wait at the end")
    parser.add_argument("--storage", choices=["sqlite", "memory"], default="sqlite")
    parser.add_argument("--folder", type=Path, help="where the file is made; a temporary folder otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(options.storage, Path(folder), options.events)


if __name__ == "__main__":
    main()
