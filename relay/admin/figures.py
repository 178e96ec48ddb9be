"""Read the outbox, the capture's counts and the lanes on a timer, so that whoever asks how it is waits for nothing."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from relay.admin.ledger import EMPTY, Ledger
from relay.capture import Capture
from relay.core.history import History
from relay.core.status import CapStatus, ForecastStatus, HourStatus
from relay.errors import OutboxError
from relay.metrics import Metrics
from relay.model import Book, Clock, Lane, Level, Usage
from relay.outbox import Outbox
from relay.sender import LaneState

if TYPE_CHECKING:
    from relay.outbox.spool import Spool

EVERY_SECONDS = 1.0
# Of an outbox that relays share: a thousand of them read it a hundred times a second.
SHARED_EVERY_SECONDS = 10.0
# For who asks it is read again, unless that was so lately; nobody waits longer for it.
FRESH_SECONDS = 1.0
PATIENCE = 1.0
# Forecasts that are told at a time; within a millisecond, as the event loop has to do it.
FEW = 100


class Reading(msgspec.Struct, frozen=True):
    """What was found at one moment; values only, so that any thread may go through it."""

    # The environments of the YAML, each with its Heap app.
    environments: Mapping[str, Lane] = {}
    # Which outbox it is; empty until it could be read.
    installation: str = ""
    books: Mapping[str, Book] = {}
    levels: Sequence[Level] = ()
    # Since when the oldest event of each environment waits, in seconds since 1970.
    oldest: Mapping[str, float] = {}
    usage: Usage | None = None
    # How many identities are remembered, by environment.
    remembered: Mapping[str, int] = {}
    # What the books are off by, and what is captured and in no book yet, by environment.
    differences: Mapping[str, int] = {}
    in_hand: Mapping[str, int] = {}
    lanes: Mapping[Lane, LaneState] = {}
    hours: Mapping[str, HourStatus] = {}
    # How near environments are to their daily caps.
    caps: Mapping[str, CapStatus] = {}
    # What a day brings, by environment of the YAML.
    forecasts: Mapping[str, ForecastStatus] = {}
    # When the outbox was read, in seconds since 1970; None where it could not be yet. And why it cannot be now.
    read_at: float | None = None
    problem: str = ""
    # Why it takes no new events; empty while it does.
    refusal: str = ""
    # Answers in the spool, by environment, and the bytes they take.
    spooled: Mapping[str, int] = {}
    spool_bytes: int = 0

    def kept(self) -> Mapping[str, Book]:
        """The books of the YAML's environments, then of others that still have something in the outbox."""
        others = {name: book for name, book in self.books.items() if book.waiting or book.dead_letters}
        return {name: self.books.get(name, EMPTY) for name in (*self.environments, *others)}

    def state(self, environment: str) -> LaneState | None:
        """How its Heap app stands; None where that is not known."""
        lane = self.environments.get(environment)
        return None if lane is None else self.lanes.get(lane)


class Figures:
    """The last reading. With a *spool* the outbox is one that relays share.

    `environments` may be exchanged at any time; it holds from the next reading on.
    """

    def __init__(
        self,
        outbox: Outbox,
        capture: Capture,
        lanes: Callable[[], Sequence[LaneState]],
        environments: Mapping[str, Lane],
        metrics: Metrics,
        clock: Clock,
        spool: "Spool | None" = None,
    ) -> None:
        self.environments = environments
        self.reading = Reading()
        self._outbox = outbox
        self._capture = capture
        self._lanes = lanes
        self._metrics = metrics
        self._clock = clock
        self._hours_in = History()
        self._hours_out = History()
        self._spool = spool
        # Monotonic: when it was read last, or that was tried.
        self._refreshed_at = float("-inf")
        # Set when somebody asks; and when the refresh that begins next is done.
        self._asked = asyncio.Event()
        self._next = asyncio.Event()
        self._ledger = Ledger(metrics, shared=spool is not None)

    async def run(self) -> None:
        """Refresh until cancelled."""
        every = SHARED_EVERY_SECONDS if self._spool else EVERY_SECONDS
        while True:
            done, self._next = self._next, asyncio.Event()
            await self.refresh()
            done.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._asked.wait()
            self._asked.clear()

    async def look(self) -> None:
        """Have `run` refresh now, unless it did just now; return once it has, or after a second, which is said."""
        if self._clock.monotonic() - self._refreshed_at < FRESH_SECONDS:
            return
        self._asked.set()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._next.wait()
        except TimeoutError:
            said = f"it was not read within {PATIENCE:g} s; see whether it is well"
            self.reading = replace(self.reading, problem=self.reading.problem or said)

    async def refresh(self) -> None:
        """Read once. Where the outbox cannot be read, its last figures stay, beside the reason."""
        try:
            found = await self._read()
        except OutboxError as failure:
            found = replace(self.reading, problem=str(failure))
        found = replace(
            found,
            environments=self.environments,
            lanes={state.lane: state for state in self._lanes()},
            caps=self._capture.commits.daily_cap.status(),
            forecasts=self._forecasts(),
            refusal=self._refusal(found),
            spooled=dict(self._spool.kept) if self._spool else {},
            spool_bytes=self._spool.size if self._spool else 0,
        )
        self.reading = await asyncio.to_thread(self._worked_up, found)
        self._refreshed_at = self._clock.monotonic()

    def in_hand(self) -> Counter[str]:
        """What this relay captured, and is in no book of the outbox yet."""
        return self._capture.counts.in_hand + (self._spool.kept if self._spool else Counter())

    async def _read(self) -> Reading:
        """What the outbox holds."""
        # A shared one may be away, and no commit waits for it; its books are not compared with what is captured here.
        async with nullcontext() if self._spool else self._capture.commits.committing:
            installation, books = await self._outbox.installation(), await self._outbox.books()
            captured, in_hand = dict(self._capture.counts.captured), dict(self._capture.counts.in_hand)
        return Reading(
            installation=installation,
            books=books,
            levels=await self._outbox.levels(),
            usage=await self._outbox.usage(),
            remembered=await self._outbox.remembered(),
            differences=await asyncio.to_thread(self._ledger.compare, installation, books, captured, in_hand),
            in_hand=in_hand,
            read_at=self._clock.wall(),
        )

    def _refusal(self, found: Reading) -> str:
        """Why the outbox takes no new events, though it could be read."""
        obstacle = found.usage.obstacle if found.usage else ""
        away = self._spool.problem if self._spool and not found.problem else None
        return obstacle or self._capture.commits.refusals.last or away or ""

    def _forecasts(self) -> dict[str, ForecastStatus]:
        """Those of the environments; a few are told anew, in turn, as what a day brings does not change soon."""
        told = self.reading.forecasts
        untold = [name for name in self.environments if name not in told]
        turns = [*untold, *(name for name in told if name in self.environments)]
        anew = {name: self._capture.commits.forecasts.tell(name) for name in turns[:FEW]}
        kept = {name: told[name] for name in turns[FEW:] if name in told}
        return kept | {name: forecast for name, forecast in anew.items() if forecast}

    # In a thread: with a thousand environments it takes a while.

    def _worked_up(self, found: Reading) -> Reading:
        """*found* with what follows from it; the counters of new environments begin, those of others end."""
        known = self.reading.environments
        self._metrics.begin(found.environments.keys() - known.keys())
        if gone := known.keys() - found.environments.keys():
            self._metrics.end(gone)
        hours = {} if found.read_at is None else self._hours(found.kept())
        return replace(found, oldest=oldest_by_environment(found.levels), hours=hours)

    def _hours(self, books: Mapping[str, Book]) -> dict[str, HourStatus]:
        now = self._clock.monotonic()
        self._hours_in.tell({name: book.captured for name, book in books.items()}, now)
        self._hours_out.tell({name: book.delivered for name, book in books.items()}, now)
        return {name: HourStatus(self._hours_in.of(name), self._hours_out.of(name)) for name in books}


def oldest_by_environment(levels: Iterable[Level]) -> dict[str, float]:
    """Since when the oldest event of each environment waits."""
    oldest: dict[str, float] = {}
    for level in levels:
        oldest[level.environment] = min(level.oldest, oldest.get(level.environment, level.oldest))
    return oldest
