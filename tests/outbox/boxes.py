"""Outboxes and events for the tests."""

import atexit
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import TypeVar

from relay.model import Attempt, Book, Cause, Coalescing, DeadLetter, Event, JournalEntry, Lane, Lease, Verdict
from relay.outbox import Outbox, Put
from relay.outbox.memory import MemoryOutbox
from relay.outbox.redis import RedisOutbox
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.servers import RedisServer

BACKENDS = ["memory", "sqlite", "redis"]
# More bytes of bodies than there are.
ANY = 10**9
ROOMY = 64 * 2**20

LANE = Lane("https://heapanalytics.com", "1111111111")
OTHER_LANE = Lane("https://heapanalytics.com", "2222222222")
NOON = 1_800_000_000.0
EVERY_CALL = Verdict(True, "every_call")

AnyOutbox = TypeVar("AnyOutbox", bound=Outbox)

_numbers: Iterator[int] = count()


def make_outbox(
    backend: str, folder: Path, *, max_bytes: int = ROOMY, dead_letter_share: float = 0.25, journal_entries: int = 1000
) -> Outbox:
    """A closed outbox; a SQLite one has its file in *folder*, one on Redis its keys under the folder's name."""
    if backend == "memory":
        return MemoryOutbox(max_bytes=max_bytes, dead_letter_share=dead_letter_share, journal_entries=journal_entries)
    if backend == "redis":
        return RedisOutbox(
            replace(shared_redis().address, prefix=f"{folder}:"),
            max_bytes=max_bytes,
            dead_letter_share=dead_letter_share,
            journal_entries=journal_entries,
        )
    return SqliteOutbox(
        folder / "outbox.db",
        max_bytes=max_bytes,
        dead_letter_share=dead_letter_share,
        journal_entries=journal_entries,
    )


@cache
def shared_redis() -> RedisServer:
    """One server for all tests that only need some Redis: each has a folder of its own, and so a prefix."""
    folder = tempfile.TemporaryDirectory()
    server = RedisServer(Path(folder.name))
    server.start()
    atexit.register(folder.cleanup)
    atexit.register(server.kill)
    return server


@asynccontextmanager
async def opened(outbox: AnyOutbox) -> AsyncIterator[AnyOutbox]:
    """The outbox, open within the context."""
    await outbox.open()
    try:
        yield outbox
    finally:
        await outbox.close()


def event(
    captured_at: float = NOON,
    *,
    key: str = "",
    environment: str = "production",
    lane: Lane = LANE,
    identity: str = "ada",
    size: int = 100,
) -> Event:
    """An event with a key of its own and a body of *size* bytes."""
    return Event(key or f"{next(_numbers):036x}", environment, lane, identity, captured_at, b"x" * size)


def events(times: int, captured_at: float = NOON, *, size: int = 100, lane: Lane = LANE) -> list[Event]:
    """So many events of one moment."""
    return [event(captured_at, size=size, lane=lane) for _ in range(times)]


async def fill(outbox: Outbox, size: int, *, at_once: int = 1) -> None:
    """Put events with bodies of *size* bytes until the outbox takes no more."""
    while True:
        await outbox.put(Put(events(at_once, size=size)))


def dead_letter(captured_at: float = NOON, *, size: int = 100) -> DeadLetter:
    """An event that was never to be sent."""
    return DeadLetter(event(captured_at, size=size), Cause("identity_too_long"))


def tried(second: int = 0, answer: str = "busy 503") -> Attempt:
    """A request that ended so many seconds past noon."""
    return Attempt(int(NOON) + second, answer)


def noted(
    event: Event, *, verdict: Verdict = EVERY_CALL, properties: bytes = b'{"dark_mode":true}', sent: bool = True
) -> JournalEntry:
    """The journal entry of the evaluation that *event* was made of, or was not."""
    key = event.key if sent else ""
    return JournalEntry(event.identity, event.environment, event.captured_at, "GET", verdict, properties, key)


def sent(*events: Event, state: int = 1, remember: int = 1000) -> Coalescing:
    """What a put has to know to remember *events*, all of one state."""
    return Coalescing({event.key: state for event in events}, {event.environment: remember for event in events})


async def claim(outbox: Outbox, now: float = NOON, *, limit: int = 1000, max_bytes: int = ANY) -> Lease:
    return await outbox.claim(LANE, limit=limit, max_bytes=max_bytes, now=now, lease=60)


async def book(outbox: Outbox) -> Book:
    return (await outbox.books())["production"]


def taken(lease: Lease) -> list[Event]:
    return [one.event for one in lease.claims]


def ids(lease: Lease) -> list[int]:
    return [one.id for one in lease.claims]
