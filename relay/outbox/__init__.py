"""Where events wait until Heap has them: the promises every storage keeps."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from relay.fleet import Member
from relay.model import (
    Book,
    Coalescing,
    DeadLetter,
    Event,
    Forgotten,
    JournalEntry,
    Lane,
    Lease,
    Level,
    Ready,
    Sent,
    Settlement,
    StoredLetter,
    Trace,
    Usage,
    Which,
    Who,
)

# (environment, "skipped" | "refused", reason) → how many, since they were last handed over.
Tally = Mapping[tuple[str, str, str], int]

# Of a put whose events are sent whatever was sent before.
NOTHING_SENT = Coalescing()

# A member that was silent for so long is forgotten.
FORGOTTEN_SECONDS = 86_400.0

# A due time further ahead than this counts as reached: the clock jumped back, and nothing may wait for years.
AHEAD_SECONDS = 600.0


class Put(msgspec.Struct, frozen=True):
    """What one call puts."""

    events: Sequence[Event] = ()
    # That were never to be sent.
    dead_letters: Sequence[DeadLetter] = ()
    tally: Tally = {}
    journal: Sequence[JournalEntry] = ()
    # How the events stand to what was put before.
    coalescing: Coalescing = NOTHING_SENT

    @property
    def entries(self) -> int:
        """What it adds to the storage, but for counts."""
        return len(self.events) + len(self.dead_letters) + len(self.journal)

    @property
    def stored(self) -> list[Event]:
        """All events that it adds, the dead letters' too."""
        return [*self.events, *(letter.event for letter in self.dead_letters)]

    @property
    def forgetful(self) -> set[str]:
        """The environments that do not know any more what was sent last."""
        return {event.environment for event in self.events if event.key not in self.coalescing.fingerprints}

    @property
    def remembering(self) -> set[str]:
        """The environments that will."""
        return {event.environment for event in self.events if event.key in self.coalescing.fingerprints}


class Intake(Protocol):
    """What the capture half needs of an outbox. Every method raises OutboxError where it fails."""

    async def put(self, put: Put) -> None:
        """Return once all of *put* would survive a crash; all or nothing.

        Adds to the books: captured by its events, dead letters and tally, and each of the tally's counts. An event
        whose key is stored already (waiting or dead) is left as it is and not counted again. New events are due since
        they were captured, and count towards that UTC day. Raises OutboxFull where events do not fit (a tally alone
        always does).

        Its journal is noted as far as the storage keeps one: the oldest entries go. An entry with a key is noted
        together with its event or dead letter of the same put, and not where that key was stored already.

        Events with a fingerprint are remembered as what was sent last, where nothing with a later time stamp is. Past
        an environment's limit, or a quarter of the storage for all together, who was used least lately is forgotten,
        to the hour. An event without a fingerprint ends the memory of its environment, which does not know any more
        what was sent last. An event that becomes a dead letter, is superseded, dropped or forgotten is not remembered
        any more.

        An event of an environment in *latest* replaces those of the same identity, environment and lane that were
        captured before it and are not claimed, and were put under the same rule; while more than the tolerated number
        waited in the lane before this put. They count as superseded, and it is due as early as the first of them.

        *repeats* are added to the journal's entries of what they repeat, and count as use.

        Where several relays share the storage, an event of an environment in *heartbeats* that is unchanged by now, as
        another relay has sent the same since this one asked, is not stored: it counts as skipped ("unchanged").
        """

    async def recall(self, whos: Collection[Who]) -> dict[Who, Sent]:
        """What was sent last for *whos*, as far as it is remembered.

        What another process took from the memory is noticed within a second; what this one did, at once.
        """

    def recollect(self, who: Who) -> Sent | None:
        """What `recall` would find of *who*, where that is certain without a look into the storage; else None."""

    async def days(self) -> dict[str, dict[str, int]]:
        """How many events each environment has put, by the UTC day ("2026-11-24") of their capture; the last few days.

        Whatever becomes of them later, they count. Dead letters made at capture do not.
        """


class Outbox(Intake, Protocol):
    """Safe storage for events. Every method raises OutboxError when the storage fails, and then changed nothing.

    A storage that failed, at `open` too, is tried again by later calls: once it works, everything goes on.
    Times are seconds since 1970. An event is due when its due time is reached, or lies more than 10 minutes
    ahead (the clock jumped back).
    """

    async def open(self) -> None:
        """Make the storage ready, create or migrate it. Raises OutboxInUse while another relay owns it."""

    async def close(self) -> None:
        """Let go of everything; what was put stays. Never raises."""

    async def remembered(self) -> dict[str, int]:
        """How many identities are remembered, by environment."""

    async def arrival(self, lane: Lane, timeout: float) -> None:
        """Return once an event was put into *lane* by this process since the last call, or after *timeout* seconds."""

    async def peek(self, lane: Lane, *, limit: int, max_bytes: int, now: float) -> Ready:
        """What `claim` with the same arguments would find."""

    async def claim(self, lane: Lane, *, limit: int, max_bytes: int, now: float, lease: float) -> Lease:
        """Lease the due events that are longest due; nobody else sees them before *now* + *lease*.

        In order of due time, then of their arrival. At most *limit* of them, and at most *max_bytes* of bodies
        (the first is taken whatever its size). The lease has no claims where nothing is due.
        """

    async def renew(self, token: str, *, until: float) -> int:
        """Let the lease end at *until* instead; return how many of its claims are still held under the token."""

    async def settle(self, token: str, settlement: Settlement, *, now: float) -> frozenset[int]:
        """Carry out *settlement* in one transaction; return the ids that were still held under the token.

        Claims it does not name stay leased. Whatever somebody else claimed meanwhile is theirs, and is left
        alone. Dead letters past their share of the storage push out the oldest ones, counted as dropped
        ("dead_letters_full"). Attempts are counted, and the journal keeps the last five of each event.
        """

    async def sweep(self, *, expired_before: float, drop_before: float, now: float) -> Counter[str]:
        """Dead-letter as "expired" what waits since before *expired_before* and is not leased.

        Drop dead letters made before *drop_before* ("dead_letter_expired"). Works in slices, each of them all
        or nothing, so that others get their turn. Returns how many expired, by environment. Forgets the counts of
        days before *now*'s, but for the last few.
        """

    # What an operator asks for. Each works in slices, all or nothing each, so that others get their turn; what stops it
    # halfway leaves the rest for the next call. Guests may call them while the relay runs.

    async def dead_letters(self, which: Which, *, after: int = 0, limit: int) -> list[StoredLetter]:
        """At most *limit* of the chosen dead letters whose numbers are higher than *after*, ascending."""

    async def count_dead_letters(self, which: Which) -> int:
        """How many dead letters are chosen."""

    async def replay(self, numbers: Iterable[int], *, now: float) -> int:
        """Let dead letters wait again, due at *now*; return how many do.

        Key, time stamp and body stay as they are; attempts are counted anew, and age counts from *now*. Left alone is
        what is stored no more, and what could never be sent ("identity_too_long", "identity_unacceptable",
        "event_too_large"). They go to the lane they were captured for. A sender in another process sees them with its
        next `peek`.
        """

    async def drop(self, numbers: Iterable[int]) -> int:
        """Drop dead letters ("operator"); return how many were there."""

    async def move(self, lane: Lane, to: Lane, *, now: float) -> int:
        """Let what waits in *lane*, and is not leased at *now*, wait in the lane *to*; return how many do."""

    async def drop_lane(self, lane: Lane, *, now: float) -> int:
        """Drop what waits in *lane* and is not leased at *now* ("orphaned"); return how many that were."""

    async def forget(self, identity: str) -> Forgotten:
        """Erase *identity*: what waits, leased or not, and dead letters ("forgotten"); its journal; its memory.

        A request in flight may still reach Heap; its settlement finds the event gone. What is captured during the
        call may stay. Nothing of it is left in the storage's files, unless somebody reads in them just then: in that
        case it is overwritten in the course of time. Looks through all that is stored.
        """

    async def levels(self) -> list[Level]:
        """What waits, by lane and environment; flat in cost however much does."""

    async def installation(self) -> str:
        """Which storage this is: made up with it, and kept with what it holds."""

    async def books(self) -> dict[str, Book]:
        """The totals by environment name."""

    async def trace(self, identity: str, *, limit: int, now: float) -> list[Trace]:
        """What the journal knows of *identity*, newest first; reads all of it where there is less than *limit*."""

    async def announce(self, member: Member, *, now: float) -> None:
        """Let `members` tell of *member* in the place of what it told before; seen *now*, or by the storage's clock."""

    async def depart(self, name: str) -> None:
        """Let `members` tell of that one no more: it ended in order, and left nothing behind."""

    async def members(self, *, now: float) -> list[Member]:
        """The relays on this storage, by name; one that was silent for a day is forgotten.

        A storage that one process has for itself knows of that one alone. A shared one has to bear a thousand that
        announce themselves every ten seconds, and a list of them for each look at a status.
        """

    async def usage(self) -> Usage:
        """The storage in use against `max_bytes`, and whether the disk has room for more."""
