"""Sending on change: what capture makes of answers, whatever comes together and whatever fails."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import brotli
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from relay.capture import Capture
from relay.capture.keys import time_ordered_key
from relay.capture.recording import CaptureLimits
from relay.metrics import Metrics
from relay.model import Book, Cause, Environment, Lane, Latest, OnChange, Settlement
from relay.outbox import Outbox
from relay.outbox.memory import MemoryOutbox
from relay.outbox.sqlite import SqliteOutbox

LANE = Lane("https://heapanalytics.com", "11")
NOON = 1_800_000_000.0
ON_CHANGE = Environment("tests", LANE, "Flagsmith Feature Flags", on_change=OnChange(heartbeat=3600.0, remember=100))
LIMITS = CaptureLimits(max_answer=100_000, max_decoded=1_000_000, max_flags=100, memory=10_000_000)


def answer(state: object, identity: str | None = "ada", *, padding: int = 0) -> bytes:
    flags = [
        {"feature": {"name": "color"}, "enabled": True, "feature_state_value": state},
        {"feature": {"name": "dark_mode"}, "enabled": True, "feature_state_value": None},
    ]
    return json.dumps({"identifier": identity, "flags": flags, "padding": "x" * padding}).encode()


def feed(
    capture: Capture,
    body: bytes,
    at: float = NOON,
    *,
    environment: Environment = ON_CHANGE,
    coding: str = "",
    asked: str = "ada",
) -> None:
    recording = capture.begin(environment, "GET", f"/api/v1/identities/?identifier={asked}", "", "")
    recording.answered("application/json", coding)
    recording.answer_chunk(body)
    recording.finish(at)


class Keys:
    """Makes keys, one for each answer that was read."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, at: float) -> str:
        self.made += 1
        return time_ordered_key(at)


@asynccontextmanager
async def capturing(
    outbox: Outbox, *, keys: Callable[[float], str] = time_ordered_key, registry: CollectorRegistry | None = None
) -> AsyncIterator[Capture]:
    await outbox.open()
    capture = Capture(outbox, LIMITS, Metrics.on(registry or CollectorRegistry()), new_key=keys)
    running = asyncio.create_task(capture.run())
    try:
        yield capture
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await outbox.close()


def in_memory(max_bytes: int = 10_000_000) -> MemoryOutbox:
    return MemoryOutbox(max_bytes=max_bytes, dead_letter_share=0.25, journal_entries=50)


@pytest.fixture(params=["memory", "sqlite"])
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Outbox:
    if request.param == "memory":
        return in_memory()
    return SqliteOutbox(tmp_path / "outbox.db", max_bytes=10_000_000, dead_letter_share=0.25, journal_entries=50)


async def book(capture: Capture, outbox: Outbox) -> Book:
    await capture.drained()
    return (await outbox.books())["tests"]


async def told(outbox: Outbox, identity: str = "ada") -> list[tuple[object, str]]:
    """The colors that were sent for an identity with the reasons, oldest first."""
    found = await outbox.trace(identity, limit=50, now=NOON)
    return [(json.loads(each.properties)["color"], each.verdict.reason) for each in reversed(found)]


# Which are sent.


@pytest.mark.parametrize("together", [False, True])
async def test_there_and_back_again_is_sent_three_times(outbox: Outbox, together: bool) -> None:
    """In one commit as in several, and when the bytes are known from before, too."""
    async with capturing(outbox) as capture:
        for number, state in enumerate("ABABB"):
            feed(capture, answer(state), NOON + number)
            if not together:
                await capture.drained()

        assert await book(capture, outbox) == Book(captured=5, waiting=4, skipped={"unchanged": 1})
        assert await told(outbox) == [
            ("A", "first_seen"),
            ("B", "flags_changed"),
            ("A", "flags_changed"),
            ("B", "flags_changed"),
        ]


async def test_an_unchanged_answer_is_sent_again_after_the_heartbeat(outbox: Outbox) -> None:
    async with capturing(outbox) as capture:
        for at in (0, 3599, 3600, 3601):
            feed(capture, answer("A"), NOON + at)
            await capture.drained()

        assert await told(outbox) == [("A", "first_seen"), ("A", "heartbeat")]


async def test_flags_in_another_order_are_the_same_flags(outbox: Outbox) -> None:
    async with capturing(outbox) as capture:
        feed(capture, answer("A"))
        document = json.loads(answer("A"))
        feed(capture, json.dumps({**document, "flags": document["flags"][::-1]}).encode())

        assert await book(capture, outbox) == Book(captured=2, waiting=1, skipped={"unchanged": 1})


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 2)), max_size=6), max_size=8)
)
async def test_whatever_comes_together_every_change_is_sent_and_nothing_else(
    bursts: list[list[tuple[str, int, int]]],
) -> None:
    """The padding has some answers be the same flags in other bytes."""
    outbox = in_memory()
    expected: dict[str, list[int]] = {"a": [], "b": []}
    async with capturing(outbox) as capture:
        for burst in bursts:
            for identity, state, padding in burst:
                feed(capture, answer(state, identity, padding=padding))
                if expected[identity][-1:] != [state]:
                    expected[identity].append(state)
            await capture.drained()

        for identity, states in expected.items():
            assert [state for state, _ in await told(outbox, identity)] == states


async def test_an_environment_that_sends_every_call_does(outbox: Outbox) -> None:
    async with capturing(outbox) as capture:
        for _ in range(3):
            feed(capture, answer("A"), environment=replace(ON_CHANGE, on_change=None))

        assert await book(capture, outbox) == Book(captured=3, waiting=3)
        assert await outbox.remembered() == {}


async def test_calls_that_were_sent_regardless_are_not_taken_for_unchanged(outbox: Outbox) -> None:
    async with capturing(outbox) as capture:
        feed(capture, answer("A"), NOON)
        await capture.drained()
        feed(capture, answer("B"), NOON + 1, environment=replace(ON_CHANGE, on_change=None))
        await capture.drained()
        feed(capture, answer("A"), NOON + 2)
        await capture.drained()

        assert [state for state, _ in await told(outbox)] == ["A", "B", "A"]


async def test_what_heap_refused_is_sent_again(outbox: Outbox) -> None:
    async with capturing(outbox) as capture:
        feed(capture, answer("A"), NOON)
        await capture.drained()
        lease = await outbox.claim(LANE, limit=9, max_bytes=10**6, now=NOON, lease=60)
        refused = {claim.id: Cause("refused_by_heap") for claim in lease.claims}
        await outbox.settle(lease.token, Settlement(dead_letter=refused), now=NOON)
        feed(capture, answer("A"), NOON + 1)

        assert await book(capture, outbox) == Book(captured=2, waiting=1, dead_letters={"refused_by_heap": 1})


# What fails.


async def test_what_could_not_be_stored_was_not_sent() -> None:
    """Nor is what was thought unchanged only for it."""
    outbox = in_memory(max_bytes=1)
    async with capturing(outbox) as capture:
        for number in range(3):
            feed(capture, answer("A"), NOON + number)

        assert await book(capture, outbox) == Book(captured=3, refused={"outbox_full": 3})
        assert await outbox.remembered() == {}


# What it costs.


async def test_known_bytes_are_not_read_again(outbox: Outbox) -> None:
    keys = Keys()
    async with capturing(outbox, keys=keys) as capture:
        for number in range(5):
            feed(capture, answer("A"), NOON + number)
            await capture.drained()

        assert await book(capture, outbox) == Book(captured=5, waiting=1, skipped={"unchanged": 4})
        assert keys.made == 1


async def test_known_bytes_are_not_decoded_again() -> None:
    """Brotli is decoded in a thread; a known answer needs neither."""
    outbox, keys = in_memory(), Keys()
    async with capturing(outbox, keys=keys) as capture:
        for _ in range(3):
            feed(capture, brotli.compress(answer("A", padding=50_000)), coding="br")
            await capture.drained()

        assert await book(capture, outbox) == Book(captured=3, waiting=1, skipped={"unchanged": 2})
        assert keys.made == 1


async def test_the_same_answer_to_another_request_is_read(outbox: Outbox) -> None:
    """Whom it is about may stand in the request alone."""
    async with capturing(outbox) as capture:
        for asked in ("ada", "bob", "ada"):
            feed(capture, answer("A", None), asked=asked)
            await capture.drained()

        assert (len(await told(outbox, "ada")), len(await told(outbox, "bob"))) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        replace(ON_CHANGE, event="Other"),
        replace(ON_CHANGE, lane=Lane(LANE.url, "22")),
        replace(ON_CHANGE, extra_properties={"a": 1}),
    ],
)
async def test_by_other_rules_known_bytes_are_read_again(outbox: Outbox, other: Environment) -> None:
    async with capturing(outbox) as capture:
        feed(capture, answer("A"))
        await capture.drained()
        feed(capture, answer("A"), environment=other)

        assert await book(capture, outbox) == Book(captured=2, waiting=2)


async def test_a_crowd_of_unchanged_answers_is_told_a_part_at_a_time() -> None:
    """So that no commit is long; whoever waits for the end has all of it told."""
    outbox, registry = in_memory(), CollectorRegistry()
    roomy = replace(ON_CHANGE, on_change=OnChange(0.0, 10_000))
    async with capturing(outbox, registry=registry) as capture:
        for _ in range(3):
            for number in range(300):
                feed(capture, answer("A", f"user-{number}"), environment=roomy)
        await capture.drained()

        for number in range(250, 300):
            (found,) = await outbox.trace(f"user-{number}", limit=9, now=NOON)
            assert (found.unchanged, found.unchanged_at) == (2, NOON)
    assert registry.get_sample_value("relay_skipped_total", {"environment": "tests", "reason": "unchanged"}) == 600
    assert registry.get_sample_value("relay_events_total", {"environment": "tests", "reason": "first_seen"}) == 300


# The valve.


async def test_a_newer_event_replaces_the_waiting_one_where_the_lane_is_behind(outbox: Outbox) -> None:
    behind = replace(ON_CHANGE, latest=Latest(after=0.01, share=0.8))
    async with capturing(outbox) as capture:
        for number in range(5):
            feed(capture, answer(number), NOON + number, environment=behind)
            await capture.drained()

        # 0.8 of 250 events a second are two in ten milliseconds: it is behind once three wait.
        assert await book(capture, outbox) == Book(captured=5, waiting=2, superseded=3)
        lease = await outbox.claim(LANE, limit=9, max_bytes=10**6, now=NOON + 9, lease=60)
        assert Counter(json.loads(claim.event.body)["properties"]["color"] for claim in lease.claims) == {3: 1, 4: 1}
