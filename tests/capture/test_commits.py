"""What was captured is committed, or counted as refused, and who waits for the commit hears of it."""

import asyncio
import json
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from relay import log as relay_log
from relay.capture import GATHER_SECONDS, Capture
from relay.capture.recording import CaptureLimits
from relay.metrics import Metrics
from relay.model import Book
from relay.outbox import Put
from relay.outbox.memory import MemoryOutbox
from tests.capture.capturing import ENVIRONMENT, LIMITS, answer, book_of, capturing, feed


async def test_what_is_not_committed_yet_is_at_risk_and_what_is_skipped_is_not() -> None:
    outbox = MemoryOutbox(max_bytes=10_000_000, dead_letter_share=0.25)
    capture = Capture(outbox, LIMITS, Metrics.on(CollectorRegistry()))

    feed(capture, answer())
    capture.skip(ENVIRONMENT, "already_captured")

    assert capture.counts.at_risk == 1


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
        assert "the last events were refused: the outbox in memory is full" in capture.commits.refusals.last

        outbox._max_bytes = 10_000_000
        feed(capture, answer())
        await capture.drained()
        assert capture.commits.refusals.last == ""


class BusyOutbox(MemoryOutbox):
    """Full; and while it is asked to take a journal, another answer comes."""

    more: Callable[[], object]
    seen: tuple[int, ...] = ()

    async def put(self, put: Put) -> None:
        if put.journal and len(self.seen) < 3:
            self.seen += ((await self.books()).get("tests", Book()).captured,)
            self.more()
        await super().put(put)


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

    async def put(self, put: Put) -> None:
        if self.broken:
            self.broken = False
            raise RuntimeError
        await super().put(put)


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
    assert capture.memory.held == capture.counts.in_hand.total() == 0
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


def test_a_commit_waits_for_company_less_than_ten_milliseconds() -> None:
    """What a kill may take of answered calls is bounded by it, and the README's readers count on that."""
    assert GATHER_SECONDS < 0.010
