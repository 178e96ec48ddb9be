"""The whole path on one machine with nothing else: stand-in Flagsmith, relay, strict stand-in Heap, sample traffic."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import yaml

from relay import config
from relay.app import Relay, running
from relay.model import Book
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap, StoredEvent

CLIENT_KEY = "sandbox-client-key"
SERVER_KEY = "ser.sandbox-server-key"
APP_ID = "1234567890"
ENVIRONMENT = "sandbox"
PEOPLE = ("ada", "grace", "linus", "margaret", "ken", "barbara", "dennis", "katherine")
# Slow enough to read along.
TRICKLE_SECONDS = 3.0
DELIVERY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Everything that runs in it."""

    relay: Relay
    flagsmith: StandInFlagsmith
    heap: StandInHeap
    http: aiohttp.ClientSession


Say = Callable[[str], None]


@asynccontextmanager
async def sandbox(*, port: int, admin_port: int, say: Say) -> AsyncIterator[Sandbox]:
    """Both stand-ins with a relay between them; each event is said as Heap stored it."""
    async with (
        StandInFlagsmith(client_key=CLIENT_KEY, server_key=SERVER_KEY) as flagsmith,
        StandInHeap(apps=[APP_ID]) as heap,
        aiohttp.ClientSession() as http,
    ):
        heap.on_stored = lambda event: say(describe(event))
        with TemporaryDirectory(prefix="relay-sandbox-") as folder:
            written = settings(flagsmith, heap, port, admin_port)
            async with running(load(Path(folder, "config.yaml"), written)) as relay:
                yield Sandbox(relay, flagsmith, heap, http)


def load(path: Path, written: dict[str, Any]) -> config.Config:
    """The configuration that *written* makes as a file at *path*."""
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    return config.load(path, {}).config


def settings(flagsmith: StandInFlagsmith, heap: StandInHeap, port: int, admin_port: int) -> dict[str, Any]:
    """The YAML of the relay between the stand-ins."""
    return {
        "listen": {"port": port},
        "admin": {"port": admin_port},
        "upstream": {"url": flagsmith.url},
        "shutdown": {"grace": "0s", "finish": "2s", "drain": "5s"},
        "environments": [
            {"name": ENVIRONMENT, "keys": [CLIENT_KEY, SERVER_KEY], "heap": {"app_id": APP_ID, "url": heap.url}}
        ],
    }


async def trickle(box: Sandbox, say: Say) -> None:
    """Greet, then one sample identity after the other, until cancelled."""
    say(greeting(box.relay))
    for number, person in enumerate(itertools.cycle(PEOPLE)):
        await identify(box, person, by_post=number % 2 == 1)
        await asyncio.sleep(TRICKLE_SECONDS)


async def sample(box: Sandbox, say: Say) -> bool:
    """A fixed sample, to its end in Heap; whether everything adds up."""
    for person in PEOPLE:
        for by_post in (False, True):
            await identify(box, person, by_post=by_post)
    expected = 2 * len(PEOPLE)
    await box.heap.wait_for_events(expected, APP_ID, within=DELIVERY_SECONDS)
    book = await settled_book(box.relay, expected)
    faults = faults_of(box, book, expected)
    for fault in faults:
        say(f"wrong: {fault}")
    say(f"{book.captured} captured = {book.delivered} delivered + {book.waiting} waiting; Heap has {expected} events")
    return not faults


async def settled_book(relay: Relay, delivered: int) -> Book:
    """The sandbox's book, once the last batch is settled in it."""
    async with asyncio.timeout(DELIVERY_SECONDS):
        while True:
            book = (await relay.outbox.books()).get(ENVIRONMENT, Book())
            if book.delivered >= delivered:
                return book
            await asyncio.sleep(0.05)


def faults_of(box: Sandbox, book: Book, expected: int) -> list[str]:
    """What does not add up, in words."""
    stored = len(box.heap.stored(APP_ID))
    checks = {
        f"{stored} events in Heap, {expected} calls made": stored == expected,
        f"the book says {book}": book == Book(captured=expected, delivered=expected),
        f"{box.heap.duplicates} events were sent twice": box.heap.duplicates == 0,
        f"Heap's limits were passed: {box.heap.violations}": not box.heap.violations,
    }
    return [words for words, holds in checks.items() if not holds]


async def identify(box: Sandbox, person: str, *, by_post: bool) -> None:
    """One *Get Identity Flags* call through the relay, as SDKs make it."""
    url, headers = f"{box.relay.url}/api/v1/identities/", {"X-Environment-Key": CLIENT_KEY}
    traits = [{"trait_key": "plan", "trait_value": "pro"}]
    call = (
        box.http.post(url, json={"identifier": person, "traits": traits}, headers=headers)
        if by_post
        else box.http.get(url, params={"identifier": person}, headers=headers)
    )
    async with call as answer:
        answer.raise_for_status()
        await answer.read()


def greeting(relay: Relay) -> str:
    """Where to point an SDK or curl at."""
    return "\n".join(
        (
            f"Point an SDK at    {relay.url}/api/v1/   environment key {CLIENT_KEY}",
            "or try             "
            f"curl '{relay.url}/api/v1/identities/?identifier=you' -H 'X-Environment-Key: {CLIENT_KEY}'",
            f"Health and metrics {relay.admin_url}/metrics",
            "Each event follows as Heap stored it; Ctrl-C ends.",
        )
    )


def describe(event: StoredEvent) -> str:
    """One stored event on one line."""
    properties = json.dumps(dict(event.properties), ensure_ascii=False)
    return f"Heap stored {event.event!r} for {event.identity} at {event.timestamp}: {properties}"
