"""An outbox with something in it for the commands to work on."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import CompletedProcess

from relay.model import Cause, DeadLetter, Event, JournalEntry, Lane, Verdict
from relay.outbox import Put
from relay.outbox.sqlite import SqliteOutbox
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID
from tests.test_process import run


def lane(heap: StandInHeap, app_id: str = APP_ID) -> Lane:
    return Lane(heap.url, app_id)


def event(number: int, where: Lane, *, environment: str = "tests", identity: str = "") -> Event:
    """One as the relay makes them, captured so many seconds ago."""
    identity, key, at = identity or f"user-{number}", f"{number:036x}", time.time() - number
    timestamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at))
    body = {
        "event": "Flagsmith Feature Flags",
        "identity": identity,
        "properties": {"dark_mode": True, "number": number},
        "timestamp": timestamp,
        "idempotency_key": key,
    }
    return Event(key, environment, where, identity, at, json.dumps(body).encode())


def dead(number: int, where: Lane, reason: str = "refused_by_heap", *, environment: str = "tests") -> DeadLetter:
    said = f"postBody.events[0].identity should not be user-{number}" if reason == "refused_by_heap" else ""
    return DeadLetter(event(number, where, environment=environment), Cause(reason, said))


def noted(one: Event, verdict: Verdict = Verdict(True, "every_call")) -> JournalEntry:  # noqa: B008 - it is frozen
    return JournalEntry(one.identity, one.environment, one.captured_at, "GET", verdict, b'{"dark_mode":true}', one.key)


@asynccontextmanager
async def outbox_of(config: Path, *, guest: bool = False) -> AsyncIterator[SqliteOutbox]:
    """The outbox beside *config*, made where it is missing, unless as a guest."""
    path = config.parent / "data" / "outbox.db"
    outbox = SqliteOutbox(path, max_bytes=2**28, dead_letter_share=0.5, journal_entries=1000, guest=guest)
    await outbox.open()
    try:
        yield outbox
    finally:
        await outbox.close()


async def fill(
    config: Path,
    events: Sequence[Event] = (),
    letters: Sequence[DeadLetter] = (),
    journal: Sequence[JournalEntry] = (),
) -> None:
    """Put all that into the outbox, and leave it."""
    async with outbox_of(config) as outbox:
        await outbox.put(Put(events, letters, journal=journal))


async def relay_command(*arguments: str) -> "CompletedProcess[str]":
    """`relay …` in a process of its own, while this one goes on."""
    return await asyncio.to_thread(run, *arguments)
