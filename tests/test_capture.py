"""Capture: what the proxy hands over becomes an event, a count, or both; it never waits and never raises."""

import asyncio
import gzip
import itertools
import json
import sys
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import brotli
import pytest
from prometheus_client import CollectorRegistry

from relay import log as relay_log
from relay.capture import GATHER_SECONDS, Capture, time_ordered_key
from relay.core.identity import hashed
from relay.metrics import Metrics
from relay.model import Book, Cause, Clock, Coalescing, DeadLetter, Environment, Event, JournalEntry, Lane, Verdict
from relay.outbox import NOTHING_SENT, Tally
from relay.outbox.memory import MemoryOutbox
from relay.recording import OVERHEAD_BYTES, CaptureLimits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LANE = Lane("https://heapanalytics.com", "11")
ENVIRONMENT = Environment("tests", LANE, "Flagsmith Feature Flags")
CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
TARGET = "/api/v1/identities/?identifier=ada"
LIMITS = CaptureLimits(max_answer=100_000, max_decoded=1_000_000, max_flags=100, memory=1_000_000)


def answer(identity: str = "ada", *, padding: int = 0) -> bytes:
    flag = {"feature": {"name": "dark_mode"}, "enabled": True, "feature_state_value": None}
    return json.dumps({"identifier": identity, "flags": [flag], "padding": "x" * padding}).encode()


def feed(
    capture: Capture, body: bytes, *, coding: str = "", environment: Environment = ENVIRONMENT
) -> "asyncio.Future[None] | None":
    recording = capture.begin(environment, "GET", TARGET, "", "")
    recording.answered("application/json", coding)
    recording.answer_chunk(body)
    return recording.finish(1_800_000_000.0)


@asynccontextmanager
async def capturing(
    limits: CaptureLimits = LIMITS,
    *,
    max_bytes: int = 10_000_000,
    before_answer: bool = False,
    clock: Clock | None = None,
    new_key: Callable[[float], str] = time_ordered_key,
) -> AsyncIterator[tuple[Capture, MemoryOutbox]]:
    outbox = MemoryOutbox(max_bytes=max_bytes, dead_letter_share=0.25, journal_entries=10)
    await outbox.open()
    metrics = Metrics.on(CollectorRegistry())
    capture = Capture(outbox, limits, metrics, before_answer=before_answer, clock=clock, new_key=new_key)
    running = asyncio.create_task(capture.run())
    try:
        yield capture, outbox
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await outbox.close()


async def book_of(capture: Capture, outbox: MemoryOutbox) -> Book:
    await capture.drained()
    return (await outbox.books())["tests"]


async def test_an_identity_answer_becomes_a_waiting_event() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer())

        assert await book_of(capture, outbox) == Book(captured=1, waiting=1)


@pytest.mark.parametrize(("seconds", "turns"), [(0.0, 1), (0.002, 20)])
async def test_after_a_slice_of_reading_the_event_loop_has_its_turn(seconds: float, turns: int) -> None:
    """A slice is a millisecond; here *seconds* pass whenever somebody looks at the clock."""
    looks, turn = itertools.count(), 0
    read_in: list[int] = []

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def new_key(at: float) -> str:
        read_in.append(turn)
        return time_ordered_key(at)

    async with capturing(clock=Clock(monotonic=lambda: next(looks) * seconds), new_key=new_key) as (capture, _):
        turning = asyncio.create_task(take_turns())
        for _ in range(20):
            feed(capture, answer())
        await capture.drained()
        turning.cancel()

    assert len(set(read_in)) == turns


async def test_an_evaluation_is_noted_in_the_journal_with_its_event() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer())
        await capture.drained()

        (found,) = await outbox.trace("ada", limit=9, now=1_800_000_001.0)

    assert (found.environment, found.at, found.method) == ("tests", 1_800_000_000.0, "GET")
    assert (found.verdict, found.place) == (Verdict(True, "every_call"), "waiting")
    assert found.properties == b'{"dark_mode":true}'


async def test_an_evaluation_that_can_never_be_sent_is_noted_with_the_reason() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer("a" * 300))
        await capture.drained()

        (found,) = await outbox.trace("a" * 300, limit=9, now=1_800_000_001.0)

    assert (found.verdict, found.place) == (Verdict(False, "identity_too_long"), "dead_letter")
    assert found.cause == Cause("identity_too_long")


async def test_what_a_rule_skips_is_counted_and_noted_with_its_reason_and_no_properties() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer(), environment=replace(ENVIRONMENT, sample=0.0))

        assert await book_of(capture, outbox) == Book(captured=1, skipped={"sampled_out": 1})
        (found,) = await outbox.trace("ada", limit=9, now=1_800_000_001.0)

    assert (found.verdict, found.place) == (Verdict(False, "sampled_out"), "not_sent")
    assert (found.key, found.properties) == ("", b"{}")


@pytest.mark.parametrize("identity", ["ada", "a" * 300])
async def test_in_shadow_the_outbox_gets_counts_and_keyed_fingerprints_and_no_flags(
    identity: str,
) -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer(identity), environment=replace(ENVIRONMENT, shadow=True))

        assert await book_of(capture, outbox) == Book(captured=1, skipped={"shadow": 1})
        (found,) = await outbox.trace(identity, limit=9, now=1_800_000_001.0)

    assert (found.verdict, found.place) == (Verdict(False, "shadow"), "not_sent")
    assert (found.key, found.properties) == ("", b"{}")


async def test_the_journal_knows_a_hashed_identity_by_the_name_that_operators_know() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer("ada\0"), environment=replace(ENVIRONMENT, hash_key=b"0123456789abcdef"))
        await capture.drained()

        (found,) = await outbox.trace("ada\\u0000", limit=9, now=1_800_000_001.0)
        (claim,) = (await outbox.claim(LANE, limit=9, max_bytes=10_000, now=1_800_000_001.0, lease=60)).claims

    assert (found.verdict, found.key) == (Verdict(True, "every_call"), claim.event.key)
    assert claim.event.identity == hashed("ada\0", b"0123456789abcdef")


async def test_an_answer_without_flags_is_skipped_and_counted() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, b'{"detail": "Missing identifier"}')

        assert await book_of(capture, outbox) == Book(captured=1, skipped={"not_flags": 1})


async def test_what_is_not_committed_yet_is_at_risk_and_what_is_skipped_is_not() -> None:
    outbox = MemoryOutbox(max_bytes=10_000_000, dead_letter_share=0.25)
    capture = Capture(outbox, LIMITS, Metrics.on(CollectorRegistry()))

    feed(capture, answer())
    capture.skip(ENVIRONMENT, "already_captured")

    assert capture.at_risk == 1


async def test_a_skip_alone_reaches_the_books() -> None:
    async with capturing() as (capture, outbox):
        capture.skip(ENVIRONMENT, "already_captured")

        assert await book_of(capture, outbox) == Book(captured=1, skipped={"already_captured": 1})


async def test_an_answer_above_max_answer_is_refused_and_gives_its_memory_back() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer(padding=LIMITS.max_answer))

        assert await book_of(capture, outbox) == Book(captured=1, refused={"too_large": 1})
        assert capture.memory.held == 0


async def test_what_cannot_be_decoded_is_refused() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, b'{"identifier": "ada", "flags": [')

        assert await book_of(capture, outbox) == Book(captured=1, refused={"undecodable": 1})


async def test_copies_past_the_memory_of_all_are_refused() -> None:
    body = answer(padding=5_000)
    room_for_two = 2 * (len(body) + OVERHEAD_BYTES + len(TARGET))
    limits = CaptureLimits(max_answer=100_000, max_decoded=100_000, max_flags=10, memory=room_for_two)
    async with capturing(limits) as (capture, outbox):
        for _ in range(3):
            feed(capture, body)

        assert await book_of(capture, outbox) == Book(captured=3, waiting=2, refused={"memory": 1})


async def test_memory_is_given_back_after_the_commit() -> None:
    async with capturing() as (capture, _):
        for _ in range(50):
            feed(capture, answer())
        await capture.drained()

        assert capture.memory.held == 0


async def test_a_copy_that_came_in_tiny_pieces_weighs_little_more_than_its_bytes() -> None:
    async with capturing() as (capture, _):
        recording = capture.begin(ENVIRONMENT, "POST", TARGET, "", "")
        tracemalloc.start()
        try:
            for number in range(40_000):
                recording.request_chunk(number.to_bytes(2))
                recording.answer_chunk(number.to_bytes(2))
            weight, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert weight < 1.5 * capture.memory.held


async def test_a_discarded_recording_leaves_no_trace() -> None:
    async with capturing() as (capture, outbox):
        recording = capture.begin(ENVIRONMENT, "GET", TARGET, "", "")
        recording.answer_chunk(b"half an ans")
        recording.discard()
        recording.discard()

        assert capture.memory.held == 0
        assert await outbox.books() == {}


async def test_a_large_answer_does_not_hold_up_small_ones() -> None:
    limits = CaptureLimits(max_answer=10_000_000, max_decoded=10_000_000, max_flags=100, memory=20_000_000)
    async with capturing(limits) as (capture, outbox):
        feed(capture, answer("large", padding=3_000_000))
        feed(capture, answer("small"))

        assert await book_of(capture, outbox) == Book(captured=2, waiting=2)


@pytest.mark.parametrize(("coding", "encode"), CODERS.items())
@pytest.mark.parametrize("padding", [0, 900_000])
async def test_what_a_coded_answer_holds_decides_whether_the_loop_reads_it(
    coding: str, encode: Callable[[bytes], bytes], padding: int
) -> None:
    """A kilobyte may hold a megabyte. Of brotli nobody knows before it is all decoded."""
    readers: list[threading.Thread] = []

    def new_key(at: float) -> str:
        readers.append(threading.current_thread())
        return time_ordered_key(at)

    async with capturing(new_key=new_key) as (capture, outbox):
        feed(capture, encode(answer(padding=padding)), coding=coding)

        assert await book_of(capture, outbox) == Book(captured=1, waiting=1)
        assert [reader is threading.main_thread() for reader in readers] == [not padding and coding != "br"]


async def test_a_full_outbox_refuses_the_new_and_counts_it() -> None:
    async with capturing(max_bytes=1) as (capture, outbox):
        feed(capture, answer())

        assert await book_of(capture, outbox) == Book(captured=1, refused={"outbox_full": 1})


async def test_a_full_outbox_is_said_once_and_how_much_it_cost_when_it_is_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    relay_log.configure("info", console=False)
    async with capturing(max_bytes=1) as (capture, outbox):
        for _ in range(3):
            feed(capture, answer())
            await capture.drained()
        outbox._max_bytes = 10_000_000
        feed(capture, answer())
        await capture.drained()

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["reason"], line.get("refused")) for line in lines] == [
        ("capture.refused", "outbox_full", None),
        ("capture.resumed", "outbox_full", 3),
    ]


async def test_why_the_last_events_were_refused_is_known_until_one_is_stored() -> None:
    async with capturing(max_bytes=1) as (capture, outbox):
        feed(capture, answer())
        await capture.drained()
        assert "the last events were refused: the outbox in memory is full" in capture.refusal

        outbox._max_bytes = 10_000_000
        feed(capture, answer())
        await capture.drained()
        assert capture.refusal == ""


class BusyOutbox(MemoryOutbox):
    """Full; and while it is asked to take a journal, another answer comes."""

    more: Callable[[], object]
    seen: tuple[int, ...] = ()

    async def put(
        self,
        events: Sequence[Event],
        dead_letters: Sequence[DeadLetter],
        tally: Tally,
        journal: Sequence[JournalEntry] = (),
        coalescing: Coalescing = NOTHING_SENT,
    ) -> None:
        if journal and len(self.seen) < 3:
            self.seen += ((await self.books()).get("tests", Book()).captured,)
            self.more()
        await super().put(events, dead_letters, tally, journal, coalescing)


async def test_a_full_outbox_that_takes_no_journal_takes_the_counts_without_waiting_for_a_pause() -> None:
    outbox = BusyOutbox(max_bytes=1, dead_letter_share=0.25, journal_entries=10)
    capture = Capture(outbox, LIMITS, Metrics.on(CollectorRegistry()))
    outbox.more = lambda: feed(capture, answer(), environment=replace(ENVIRONMENT, sample=0.0))
    outbox.more()
    running = asyncio.create_task(capture.run())

    assert await book_of(capture, outbox) == Book(captured=4, skipped={"sampled_out": 4})
    assert outbox.seen == (0, 1, 2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


class BrokenOutbox(MemoryOutbox):
    """Has the bug that nobody found; it shows once."""

    broken = True

    async def put(
        self,
        events: Sequence[Event],
        dead_letters: Sequence[DeadLetter],
        tally: Tally,
        journal: Sequence[JournalEntry] = (),
        coalescing: Coalescing = NOTHING_SENT,
    ) -> None:
        if self.broken:
            self.broken = False
            raise RuntimeError
        await super().put(events, dead_letters, tally, journal, coalescing)


async def test_a_bug_in_the_outbox_costs_the_events_of_one_commit_and_leaks_nothing() -> None:
    """The task ends for its supervisor, which starts it again; the large answer was not read yet, and is later."""
    outbox = BrokenOutbox(max_bytes=10_000_000, dead_letter_share=0.25, journal_entries=10)
    limits = CaptureLimits(max_answer=20_000_000, max_decoded=20_000_000, max_flags=100, memory=20_000_000)
    capture = Capture(outbox, limits, Metrics.on(CollectorRegistry()), before_answer=True)
    large, small = feed(capture, answer("large", padding=9_000_000)), feed(capture, answer("small"))
    assert large is not None
    assert small is not None

    with pytest.raises(ExceptionGroup):
        await capture.run()
    assert (small.done(), large.done()) == (True, False)

    restarted = asyncio.create_task(capture.run())
    assert await book_of(capture, outbox) == Book(captured=2, waiting=1, refused={"outbox_error": 1})
    assert capture.memory.held == capture.in_hand.total() == 0
    assert large.done()
    restarted.cancel()
    await asyncio.gather(restarted, return_exceptions=True)


async def test_before_answer_the_future_ends_with_the_commit() -> None:
    async with capturing(before_answer=True) as (capture, outbox):
        committed = feed(capture, answer())

        assert committed is not None
        await committed
        assert (await outbox.books())["tests"].waiting == 1


async def test_after_answer_there_is_nothing_to_wait_for() -> None:
    async with capturing() as (capture, _):
        assert feed(capture, answer()) is None


async def test_a_request_body_too_large_to_keep_does_not_cost_the_event() -> None:
    async with capturing() as (capture, outbox):
        recording = capture.begin(ENVIRONMENT, "POST", TARGET, "application/json", "")
        recording.request_chunk(b"x" * 2_000_000)
        recording.answered("application/json", "")
        recording.answer_chunk(answer())
        recording.finish(1_800_000_000.0)

        assert await book_of(capture, outbox) == Book(captured=1, waiting=1)


@pytest.mark.parametrize("at", [0.0, 1_800_000_000.0, 9_999_999_999.0])
def test_keys_are_ascii_of_at_least_32_characters_and_follow_the_time(at: float) -> None:
    key = time_ordered_key(at)

    assert key.isascii()
    assert len(key) >= 32
    assert key < time_ordered_key(at + 0.002)


def test_a_commit_waits_for_company_less_than_ten_milliseconds() -> None:
    """What a kill may take of answered calls is bounded by it, and the README's readers count on that."""
    assert GATHER_SECONDS < 0.010
