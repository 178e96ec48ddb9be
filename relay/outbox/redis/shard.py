"""What lies under one hash tag: a whole outbox. Each method is a script, and its numbers are this shard's own."""

import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from relay.core.daily import DAYS_KEPT
from relay.core.translate import OBSTACLES
from relay.errors import OutboxError, OutboxFull
from relay.model import Claim, Lane, Level, Ready, Sent, Settlement, StoredLetter, Trace, Usage, Which, Who
from relay.outbox import Put
from relay.outbox.bookkeeping import ATTEMPTS_KEPT, Total
from relay.outbox.redis import reading
from relay.outbox.redis.link import Given, Link, encoded
from relay.outbox.redis.parcel import parcel, storable
from relay.outbox.redis.wire import FORMAT, address, attempts_text, lane_name, number_name, who_name

log = structlog.get_logger(__name__)

# Of the keys. Another layout gets another number, and finds the keys of this one where they were.
LAYOUT = 1
# What dead letters and sizes of a journal page are read in.
PAGE = 1000
# How long what was captured of a forgotten identity is turned away, in seconds: no spool waits for longer.
TURNED_AWAY_SECONDS = 30 * 86_400.0
# How long what is moved to another tag is held here, in seconds: more than three calls take.
HANDING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of what the storage may hold; each tag holds a share of its own."""

    # Of all together.
    max_bytes: int
    dead_letter_bytes: int
    journal_entries: int
    journal_bytes: int
    # Remembered identities, of all environments together.
    memory_entries: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Which outbox it is, and the key of its fingerprints."""

    installation: str
    secret: bytes


# What a script is given, for an outbox with that secret; and what it stores as it is.
Build = Callable[[bytes], tuple[Given, Sequence[bytes]]]


class Shard:
    """One outbox on Redis, under one hash tag."""

    def __init__(self, link: Link, prefix: str, tag: str, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._link = link
        self._format = f"{prefix}format"
        self._at = f"{prefix}{LAYOUT}:{{{tag}}}:"
        self._bounds = bounds
        self._clock = clock
        self._facts: Facts | None = None
        self._me = secrets.token_hex(8)
        self._calls = 0
        # Names to put under, one for each put under way: a script knows a repeat of a name's last one.
        self._writers: list[str] = []

    # Which it is.

    async def open(self) -> Facts:
        """Learn which outbox it is; make one where there is none. Raises OutboxError for one of a newer relay."""
        await self._require_not_newer()
        made = secrets.token_hex(16), secrets.token_hex(32)
        installation, secret = await self._link.run("open", self._at, *made)
        facts = Facts(installation.decode(), bytes.fromhex(secret.decode()))
        if self._facts not in {None, facts}:
            log.warning("outbox.replaced", outbox=self._link.label, advice="what it held is gone; was Redis flushed?")
        self._facts = facts
        return facts

    async def _require_not_newer(self) -> None:
        """A newer layout's keys lie beside those of this one, and nobody looks after these any more."""
        if (found := await self._link.command("GET", self._format)) is None:
            await self._link.command("SET", self._format, LAYOUT, "NX")
            found = await self._link.command("GET", self._format)
        if (version := int(found or LAYOUT)) > LAYOUT:
            raise OutboxError(
                f"the outbox on {self._link.label} was written by a newer relay (its version is {version}, this relay"
                f" knows {LAYOUT}); run that relay, or name another prefix in outbox.url"
            )

    async def run(self, name: str, build: Build) -> Any:
        """What the script *name* says. Where Redis was flushed it is called again, on the outbox that is made then."""
        facts = self._facts or await self.open()
        try:
            return await self._call(name, facts, build)
        except OutboxError as failure:
            if "(REPLACED" not in str(failure):
                raise
        return await self._call(name, await self.open(), build)

    async def _call(self, name: str, facts: Facts, build: Build) -> Any:
        given, blobs = build(facts.secret)
        now = {"installation": facts.installation, "format": FORMAT, "sent": self._clock()}
        return await self._link.run(name, self._at, encoded({**given, **now}), *blobs)

    def _next_call(self) -> str:
        """What a call is known by when it is repeated."""
        self._calls += 1
        return f"{self._me} {self._calls}"

    async def _do(self, name: str, **given: Any) -> Any:
        return await self.run(name, lambda _: (given, ()))

    async def _do_for(self, identity: str, name: str, **given: Any) -> Any:
        return await self.run(name, lambda secret: ({**given, "who": who_name(secret, identity)}, ()))

    async def read(self, command: str, key: str, *words: str | bytes | int) -> Any:
        """The answer to a command about one of the keys."""
        return await self._link.command(command, self._at + key, *words)

    # Putting.

    async def put(self, put: Put) -> None:
        """Store all of *put*. Raises OutboxFull."""
        writer = self._writers.pop() if self._writers else secrets.token_hex(8)
        bounds = {
            "max_bytes": self._bounds.max_bytes,
            "dead_bytes": self._bounds.dead_letter_bytes,
            "journal_entries": self._bounds.journal_entries,
            "journal_bytes": self._bounds.journal_bytes,
            "memory_entries": self._bounds.memory_entries,
            "sent_bytes": SENT_BYTES,
            "writer": writer,
            "call": self._next_call(),
        }

        def build(secret: bytes) -> tuple[Given, Sequence[bytes]]:
            given, blobs = parcel(put, secret, journal=self._bounds.journal_entries > 0)
            return {**given, **bounds}, blobs

        try:
            outcome, *facts = await self.run("put", build)
        finally:
            self._writers.append(writer)
        if outcome == b"full":
            used, needed = map(int, facts)
            raise OutboxFull(
                f"the outbox on {self._link.label} is full: {used:,} of {self._bounds.max_bytes:,} bytes are in use,"
                f" and {needed:,} more do not fit"
            )

    async def recall(self, whos: Collection[Who]) -> dict[Who, Sent]:
        """What was sent last for *whos*."""
        reply = await self.run(
            "recall", lambda secret: ({"whos": [(name, who_name(secret, identity)) for name, identity in whos]}, ())
        )
        return dict(reading.sents(whos, reply))

    # Delivering.

    async def peek(self, lane: Lane, *, limit: int, max_bytes: int, now: float) -> Ready:
        events, size, oldest, next_due = await self._do(
            "due", lane=lane_name(lane), limit=limit, max_bytes=max_bytes, now=now
        )
        return Ready(events, size, reading.moment(oldest), reading.moment(next_due))

    async def claim(
        self, lane: Lane, *, limit: int, max_bytes: int, now: float, lease: float, token: str
    ) -> tuple[Claim, ...]:
        reply = await self._do(
            "due", lane=lane_name(lane), limit=limit, max_bytes=max_bytes, now=now, lease=lease, token=token
        )
        return tuple(reading.claims(lane, reply))

    async def renew(self, token: str, *, until: float) -> int:
        return int(await self._do("renew", token=token, until=until))

    async def settle(self, token: str, settlement: Settlement, *, now: float) -> set[int]:
        def named(number: int, **facts: object) -> Given:
            attempts = attempts_text(settlement.attempts.get(number, ()))
            return {"number": number_name(number), "attempts": attempts, **facts}

        settled = await self._do(
            "settle",
            token=token,
            call=self._next_call(),
            now=now,
            ack=[named(number) for number in settlement.ack],
            retry=[named(number, due=due) for number, due in settlement.retry.items()],
            dead=[
                named(number, reason=cause.reason, detail=storable(cause.detail))
                for number, cause in settlement.dead_letter.items()
            ],
            dead_bytes=self._bounds.dead_letter_bytes,
            attempts_kept=ATTEMPTS_KEPT,
        )
        return set(map(int, settled))

    # Sweeping.

    async def expire(self, *, before: float, now: float) -> Counter[str]:
        """A slice; empty at the end."""
        reply = await self._do("expire", before=before, now=now, dead_bytes=self._bounds.dead_letter_bytes)
        return Counter({name.decode(): int(events) for name, events in reading.groups(reply, 2)})

    async def drop_old(self, *, before: float) -> int:
        """A slice; 0 at the end."""
        return int(await self._do("drop_old", before=before))

    async def tidy(self, *, before: str) -> None:
        """Forget the days before that one, but for the last few, and what else is of no use after a day or a month."""
        await self._do("tidy", before=before, kept=DAYS_KEPT, forgotten=TURNED_AWAY_SECONDS)

    # Operating.

    async def letters(self, which: Which, *, after: int, limit: int) -> list[StoredLetter]:
        found: list[StoredLetter] = []
        going: bytes | int = after
        while going != b"" and len(found) < limit:
            going, *reply = await self._do(
                "letters", **_choice(which), after=int(going), limit=min(PAGE, limit - len(found))
            )
            found += reading.letters(reply, await self.lanes() if reply else {})
        return found

    async def count_letters(self, which: Which) -> int:
        total = 0
        going: bytes | int = 0
        while going != b"":
            going, chosen = await self._do("letters", **_choice(which), after=int(going), limit=0)
            total += chosen
        return total

    async def replay(self, numbers: Sequence[int], *, now: float) -> int:
        obstacles = dict.fromkeys(OBSTACLES, True)
        names = [number_name(number) for number in numbers]
        return int(await self._do("replay", numbers=names, now=now, obstacles=obstacles))

    async def drop(self, numbers: Sequence[int]) -> int:
        return int(await self._do("drop", numbers=[number_name(number) for number in numbers]))

    async def move(self, lane: Lane, to: Lane, *, now: float) -> int:
        """A slice; less than one at the end."""
        return int(await self._do("move", lane=lane_name(lane), to=lane_name(to), address=address(to), now=now))

    async def hand_over(self, lane: Lane, to: Lane, other: "Shard", *, now: float) -> int:
        """A slice to a lane under another tag; less than one at the end.

        Held here until it is there. What ends in between leaves it in both lanes, and the next call takes it from here.
        """
        token = secrets.token_hex(8)
        reply = await self._do("hand_over", lane=lane_name(lane), token=token, lease=HANDING_SECONDS, now=now)
        if not reply:
            return 0
        due = [float(text) for text in reply[2::4]]
        rows = [part for row, blob in zip(reply[1::4], reply[3::4], strict=True) for part in (row, blob)]
        given = {"lane": lane_name(to), "address": address(to), "due": due, "now": now}
        await other.run("take_over", lambda _: (given, rows))
        return int(await self._do("let_go", token=token))

    async def drop_lane(self, lane: Lane, *, now: float) -> int:
        """A slice; less than one at the end."""
        return int(await self._do("drop_lane", lane=lane_name(lane), now=now))

    async def forget(self, identity: str, among: str) -> int:
        """Erase it among what waits, the dead letters or the journal, page by page; return how many were."""
        erased, cursor = 0, "0"
        while True:
            page, some = await self._do_for(identity, "forget", among=among, cursor=cursor)
            cursor, erased = page.decode(), erased + int(some)
            if cursor == "0":
                return erased

    async def forget_sent(self, identity: str) -> int:
        return int(await self._do_for(identity, "forget_sent"))

    # Reading.

    async def installation(self) -> str:
        return (await self.open()).installation

    async def lanes(self) -> dict[str, Lane]:
        """Their addresses, by what they are called in keys."""
        return reading.lanes(await self.read("HGETALL", "lanes"))

    async def levels(self) -> list[Level]:
        return list(reading.levels(await self._do("levels")))

    async def totals(self) -> dict[Total, int]:
        return dict(reading.totals(await self.read("HGETALL", "books")))

    async def remembered(self) -> dict[str, int]:
        reply = reading.table(await self.read("HGETALL", "memories"))
        return {name.decode(): int(entries) for name, entries in reply.items() if int(entries)}

    async def trace(self, identity: str, *, limit: int, now: float) -> list[Trace]:
        found: list[Trace] = []
        seen = 0
        while len(found) < limit:
            reply = await self._do_for(identity, "trace", seen=seen, limit=limit - len(found), now=now)
            found += reading.traces(reply[1:])
            seen += reply[0]
            if reply[0] < PAGE:
                break
        return found

    async def usage(self) -> Usage:
        sizes = await self.read("HMGET", "meta", "bytes", "journal_bytes")
        remembered = sum((await self.remembered()).values())
        used = sum(int(size or 0) for size in sizes) + remembered * SENT_BYTES
        return Usage(used, self._bounds.max_bytes, await self._obstacle())

    async def _obstacle(self) -> str:
        """Why Redis stores nothing, though it may be read; empty where it does."""
        try:
            # Nothing is written, and it is refused where it would be (redis.io/docs/latest/commands/setrange).
            await self.read("SETRANGE", "nothing", 0, "")
        except OutboxError as failure:
            return str(failure)
        return ""


# What a remembered identity takes, measured.
SENT_BYTES = 220


def _choice(which: Which) -> Mapping[str, Any]:
    return {"environment": which.environment, "reason": which.reason, "since": which.since, "until": which.until}
