"""The gauges say what the outbox holds, and the counters what left it by the hands of others."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from relay.admin.figures import Figures
from relay.capture import Capture
from relay.metrics import Metrics
from relay.model import Cause, Clock, DeadLetter, Event, Lane
from relay.outbox.keeper import Keeper
from relay.outbox.memory import MemoryOutbox
from relay.outbox.sqlite import SqliteOutbox
from relay.recording import CaptureLimits
from tests.outbox.boxes import opened
from tests.test_app import sample

LANE = Lane("https://heapanalytics.com", "11")
LIMITS = CaptureLimits(max_answer=1000, max_decoded=1000, max_flags=10, memory=1000)


def event(number: int, captured_at: float = 1000.0, *, environment: str = "tests") -> Event:
    return Event(f"{number:032}", environment, LANE, "ada", captured_at, b"{}")


@pytest.fixture
async def outbox() -> AsyncIterator[MemoryOutbox]:
    outbox = MemoryOutbox(max_bytes=1_000_000, dead_letter_share=0)
    await outbox.open()
    yield outbox
    await outbox.close()


class Time:
    """Both clocks, to be turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = Clock(lambda: self.now, lambda: self.now)


async def test_what_a_cap_dropped_is_counted_once(outbox: MemoryOutbox) -> None:
    registry = CollectorRegistry()
    metrics = Metrics.on(registry)
    figures = Figures(outbox, Capture(outbox, LIMITS, metrics), metrics, Clock())
    await figures.refresh()

    await outbox.put([], [DeadLetter(event(1), Cause("identity_too_long"))], {})
    await figures.refresh()
    await figures.refresh()

    assert sample(registry, "relay_dropped_total", environment="tests", reason="dead_letters_full") == 1


async def test_what_was_dropped_before_the_start_is_not_counted_again(outbox: MemoryOutbox) -> None:
    await outbox.put([], [DeadLetter(event(1), Cause("identity_too_long"))], {})
    registry = CollectorRegistry()
    metrics = Metrics.on(registry)
    figures = Figures(outbox, Capture(outbox, LIMITS, metrics), metrics, Clock())

    await figures.refresh()

    assert not sample(registry, "relay_dropped_total", environment="tests", reason="dead_letters_full")


async def test_gauges_follow_the_outbox(outbox: MemoryOutbox) -> None:
    time, registry = Time(), CollectorRegistry()
    metrics = Metrics.on(registry)
    figures = Figures(outbox, Capture(outbox, LIMITS, metrics), metrics, time.clock)
    await outbox.put([event(1, 900.0), event(2, 950.0)], [], {})

    await figures.refresh()

    assert sample(registry, "relay_outbox_events", environment="tests") == 2
    assert sample(registry, "relay_outbox_oldest_seconds") == 100
    assert sample(registry, "relay_outbox_capacity_bytes") == 1_000_000


async def test_a_difference_in_the_books_is_seen(outbox: MemoryOutbox) -> None:
    """The metric compares two counts made apart from each other, so it can fail: here the capture saw one more."""
    registry = CollectorRegistry()
    metrics = Metrics.on(registry)
    capture = Capture(outbox, LIMITS, metrics)
    figures = Figures(outbox, capture, metrics, Clock())
    await figures.refresh()

    capture.captured["tests"] += 1
    await figures.refresh()

    assert sample(registry, "relay_books_difference", environment="tests") == 1


# An outbox that is replaced while the relay runs.


def sqlite_outbox(path: Path) -> SqliteOutbox:
    return SqliteOutbox(path, max_bytes=10**9, dead_letter_share=0.25)


async def replace(outbox: SqliteOutbox, path: Path, by: Path) -> None:
    """Put another file in the place of the outbox's own, and let it notice."""
    shutil.move(by, path)
    with capture_logs():
        await outbox.put([], [], {})


async def drop_before(outbox: SqliteOutbox, moment: float) -> None:
    """Drop the dead letters made before *moment*."""
    await outbox.sweep(expired_before=0, forget_before=moment, now=1000.0)


async def test_an_older_copy_begins_the_figures_anew(tmp_path: Path) -> None:
    path, copy, registry = tmp_path / "outbox.db", tmp_path / "copy.db", CollectorRegistry()
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put([event(1)], [], {})
    shutil.copy(path, copy)
    async with opened(sqlite_outbox(path)) as outbox:
        metrics = Metrics.on(registry)
        figures = Figures(outbox, Capture(outbox, LIMITS, metrics), metrics, Clock())
        await outbox.put([event(2)], [], {})
        await figures.refresh()

        await replace(outbox, path, copy)
        await figures.refresh()

    assert sample(registry, "relay_outbox_events", environment="tests") == 1
    assert not sample(registry, "relay_books_difference", environment="tests")


async def test_an_older_copy_that_has_dropped_fewer_counts_nothing(tmp_path: Path) -> None:
    path, copy, registry = tmp_path / "outbox.db", tmp_path / "copy.db", CollectorRegistry()
    letters = [DeadLetter(event(number, number * 100.0), Cause("identity_too_long")) for number in range(3)]
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put([], letters, {})
        await drop_before(outbox, 50.0)
    shutil.copy(path, copy)
    async with opened(sqlite_outbox(path)) as outbox:
        await drop_before(outbox, 150.0)
        metrics = Metrics.on(registry)
        figures = Figures(outbox, Capture(outbox, LIMITS, metrics), metrics, Clock())
        await figures.refresh()

        await replace(outbox, path, copy)
        await figures.refresh()

    assert not sample(registry, "relay_dropped_total", environment="tests", reason="dead_letter_expired")
    assert not sample(registry, "relay_books_difference", environment="tests")


@pytest.mark.parametrize("held", [1, 9])
async def test_another_outbox_begins_the_figures_anew_whatever_it_holds(tmp_path: Path, held: int) -> None:
    path, other, registry = tmp_path / "outbox.db", tmp_path / "other.db", CollectorRegistry()
    async with opened(sqlite_outbox(other)) as outbox:
        await outbox.put([event(number) for number in range(held)], [], {})
    async with opened(sqlite_outbox(path)) as outbox:
        metrics = Metrics.on(registry)
        figures = Figures(outbox, Capture(outbox, LIMITS, metrics), metrics, Clock())
        await outbox.put([event(1), event(2), event(3, environment="gone")], [], {})
        await figures.refresh()

        await replace(outbox, path, other)
        await figures.refresh()

    assert sample(registry, "relay_outbox_events", environment="tests") == held
    assert not sample(registry, "relay_outbox_events", environment="gone")
    assert not sample(registry, "relay_books_difference", environment="tests")


# Sweeping.


async def test_what_waits_too_long_expires_after_two_sweeps_that_agree(outbox: MemoryOutbox) -> None:
    time, registry = Time(), CollectorRegistry()
    keeper = Keeper(outbox, max_age=60, dead_letter_max_age=3600, metrics=Metrics.on(registry), clock=time.clock)
    await outbox.put([event(1, 900.0)], [], {})

    await keeper.sweep()
    assert (await outbox.books())["tests"].waiting == 1
    time.now += 600
    await keeper.sweep()

    assert (await outbox.books())["tests"].waiting == 0
    assert sample(registry, "relay_dead_letters_total", environment="tests", reason="expired") == 1
