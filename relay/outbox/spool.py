"""Where events wait while a remote outbox is away: whole puts, in a storage of the relay's own, moved over later."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Collection, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog

from relay.core.recent import Recent
from relay.errors import OutboxError
from relay.model import Claim, Clock, Event, Lane, Sent, Settlement, Who
from relay.outbox import Intake, Outbox, Put
from relay.outbox.bookkeeping import RECENT
from relay.outbox.envelope import seal, unseal

log = structlog.get_logger(__name__)

T = TypeVar("T")

# How long the capture waits for the remote, in seconds: copies of answers pile up meanwhile. Redis takes a millisecond.
PATIENCE = 1.0
# Between two tries of a remote, or of a storage, that failed.
AGAIN_SECONDS = 1.0

# Entries that are moved over at a time, and their bytes: one by one each would wait for Redis, and for the disk.
TOGETHER = 8
TOGETHER_BYTES = 2**20

# The storage is a queue of one lane. All its entries are due at once, so that they are taken in the order they came,
# whatever the clock does; and nobody else takes any, so that a lease may end when it begins.
QUEUE = Lane("spool:", "")
ALWAYS = 0.0
# How the storage's own books name the answers that it keeps, so that they are known after a restart, too.
KEPT = ("skipped", "spooled")


class Spool:
    """The capture's way into a *remote* outbox that may be slow, down, read-only or full. Flags never notice.

    A put that fails there, or takes longer than *patience* seconds, is kept in *storage* and counts as done, and so are
    all after it until the remote works again; `run` moves them over then, the oldest first, with keys, time stamps,
    journal and memory as they are. Where the storage fails or is full as well, the put raises its OutboxError.

    Nothing kept is lost while the storage lives: until `run` saw a put stored over there, it stays. One whose answer
    was lost is put twice. Its keys make it one where they are stored still, and one at Heap in any case; only the books
    may count it twice, on both sides.

    What is known of identities is for that time what this process sent itself. Of days nothing is known.
    """

    def __init__(
        self, remote: Intake, storage: Outbox, clock: Clock | None = None, *, patience: float = PATIENCE
    ) -> None:
        self._remote = remote
        self._storage = storage
        self._clock = clock or Clock()
        self._patience = patience
        # Answers kept, by environment; and the bytes they take.
        self.kept: Counter[str] = Counter()
        self.size = 0
        # Why puts go into the storage; None while they go to the remote.
        self.problem: str | None = None
        # Monotonic: since when something is kept, or the remote away; None where neither is.
        self._begun_at: float | None = None
        self._moved = 0
        # The keys of entries that were put there and are still here, where the storage failed just then.
        self._carried: set[str] = set()
        # Whether what an earlier process left is counted.
        self._is_known = False
        self._sent: Recent[Who, Sent] = Recent(RECENT)
        # Held while what is kept and its counts change together.
        self._counting = asyncio.Lock()
        # Set while there is something to move, or to wait for; and while there is not.
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def open(self) -> None:
        """Find what an earlier process left. Raises OutboxError where the storage fails; it is tried again later."""
        self._wake()  # where it fails, `run` tries again
        try:
            await self._storage.open()
            await self._look_back()
        except OutboxError as failure:
            raise _of_the_spool(failure) from failure

    async def close(self) -> None:
        """Let go of the storage. Never raises."""
        await self._storage.close()

    # What the capture calls.

    async def put(self, put: Put) -> None:
        """Return once the remote or the storage has it. A tally alone is refused while the remote is away."""
        if self.problem is None and await self._took(put):
            return
        if not put.entries:
            raise OutboxError(f"counts alone wait until the outbox is back: {self.problem}")
        try:
            await self._keep(put)
        except OutboxError as failure:
            raise _of_the_spool(failure) from failure

    async def recall(self, whos: Collection[Who]) -> dict[Who, Sent]:
        """What the remote knows; while it is away, what went through here."""
        if self.problem is None:
            with suppress(OutboxError):
                return await self._asked(self._remote.recall(whos))
        return {who: sent for who in whos if (sent := self._sent.get(who))}

    def recollect(self, who: Who) -> Sent | None:  # noqa: ARG002 - the protocol's
        """Never: others put into the remote, too."""
        return None

    async def days(self) -> dict[str, dict[str, int]]:
        """What the remote counted."""
        if self.problem is not None:
            raise OutboxError(self.problem)
        return await self._asked(self._remote.days())

    # What happens beside it.

    async def run(self) -> None:
        """Move over what is kept whenever the remote works, until cancelled."""
        said = ""
        while True:
            await self._work.wait()
            try:
                await self._move()
                said = ""
            except OutboxError as failure:
                if str(failure) not in {said, self.problem}:
                    said = str(failure)
                    log.warning(
                        "spool.stuck", detail=str(_of_the_spool(failure)), consequence="what it keeps is not moved over"
                    )
                await asyncio.sleep(AGAIN_SECONDS)

    async def emptied(self) -> None:
        """Return once nothing is kept, and puts go to the remote."""
        await self._idle.wait()

    async def _took(self, put: Put) -> bool:
        try:
            await self._put(put)
        except OutboxError:
            return False
        return True

    async def _put(self, put: Put) -> None:
        await self._asked(self._remote.put(put))
        self._remember(put)

    async def _asked(self, call: Awaitable[T]) -> T:
        """What the remote answers in time. Where it does not, the spool begins, and OutboxError is raised."""
        try:
            async with asyncio.timeout(self._patience):
                return await call
        except OutboxError as failure:
            self._begin(str(failure))
            raise
        except TimeoutError as late:
            said = f"the outbox did not answer within {self._patience:g} s; see whether it is well"
            self._begin(said)
            raise OutboxError(said) from late

    async def _keep(self, put: Put) -> None:
        await self._look_back()
        counts = _count(put)
        entry = Event(secrets.token_hex(16), "", QUEUE, "", ALWAYS, seal(put))
        async with self._counting:
            await self._storage.put(Put([entry], tally={(name, *KEPT): answers for name, answers in counts.items()}))
            self.kept.update(counts)
            self.size += len(entry.body)
            self._wake()
        self._remember(put)

    def _remember(self, put: Put) -> None:
        for event in put.events:
            if (state := put.coalescing.fingerprints.get(event.key)) is not None:
                self._sent.put((event.environment, event.identity), Sent(state, event.captured_at))

    async def _look_back(self) -> None:
        """Learn what is kept from before."""
        async with self._counting:
            if not self._is_known:
                books, levels = await self._storage.books(), await self._storage.levels()
                self.kept.update({name: book.skipped.get(KEPT[1], 0) for name, book in books.items()})
                self.size = sum(level.size for level in levels)
                self._is_known = True
                if levels:
                    self._begin("an earlier process left something in the spool")

    async def _move(self) -> None:
        """Move some entries over; or find that none is kept, and that the remote works."""
        await self._look_back()
        together = 1 if self.problem else TOGETHER
        lease = await self._storage.claim(QUEUE, limit=together, max_bytes=TOGETHER_BYTES, now=ALWAYS, lease=0)
        if not lease.claims:
            await self._asked(self._remote.days())
            await self._end()
            return
        outcomes = await asyncio.gather(*(self._carry(one.event) for one in lease.claims), return_exceptions=True)
        carried = zip(lease.claims, outcomes, strict=True)
        await self._let_go(lease.token, [(claim, put) for claim, put in carried if isinstance(put, Put)])
        if failure := next((one for one in outcomes if isinstance(one, BaseException)), None):
            raise failure

    async def _carry(self, entry: Event) -> Put:
        """Put what *entry* keeps over there, unless it is; return it."""
        put = unseal(entry.body)
        if entry.key not in self._carried:
            await self._put(put)
            self._carried.add(entry.key)
            self._moved += 1
        return put

    async def _let_go(self, token: str, moved: Sequence[tuple[Claim, Put]]) -> None:
        """Keep no more what was *moved*."""
        if not moved:
            return
        self.problem = None  # new ones may go there, too: all is decided by when they were captured
        counts = sum((_count(put) for _, put in moved), Counter[str]())
        async with self._counting:
            settlement = Settlement(ack=frozenset(claim.id for claim, _ in moved))
            await self._storage.settle(token, settlement, now=ALWAYS)
            self.size -= sum(len(claim.event.body) for claim, _ in moved)
            self._carried.difference_update(claim.event.key for claim, _ in moved)
            await self._discount(counts)

    async def _discount(self, counts: Counter[str]) -> None:
        await self._storage.put(Put(tally={(name, *KEPT): -answers for name, answers in counts.items()}))
        self.kept.subtract(counts)

    def _begin(self, problem: str) -> None:
        self.problem = problem
        if self._begun_at is None:
            self._begun_at = self._clock.monotonic()
            log.warning("spool.begun", detail=problem, consequence="events wait in the spool, flags go on")
        self._wake()

    def _wake(self) -> None:
        self._work.set()
        self._idle.clear()

    async def _end(self) -> None:
        async with self._counting:
            if self.size:
                return  # one came meanwhile
            await self._discount(self.kept)  # what a kill between two commits left in the storage's books
            self._work.clear()
            self._idle.set()
        if self._begun_at is not None:
            seconds = round(self._clock.monotonic() - self._begun_at, 1)
            log.info("spool.emptied", commits=self._moved, seconds=seconds)
        self.problem, self._begun_at, self._moved = None, None, 0


def _of_the_spool(failure: OutboxError) -> OutboxError:
    """What the storage says, which knows nothing of any other outbox."""
    return type(failure)(str(failure).replace("the outbox", "the spool").replace("outbox.url", "outbox.spool"))


def _count(put: Put) -> Counter[str]:
    """The answers that *put* tells of, by environment."""
    counts = Counter(event.environment for event in put.stored)
    for (environment, _, _), answers in put.tally.items():
        counts[environment] += answers
    return counts
