"""The gauges say what the outbox holds, and the counters what left it by the hands of others."""

import asyncio
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from relay.admin.figures import FEW
from relay.admin.status import status_of
from relay.core.settle import Answer, Kind
from relay.errors import OutboxError
from relay.model import Cause, DeadLetter, Pace
from relay.outbox import Outbox, Put
from relay.outbox.keeper import Keeper
from relay.outbox.sqlite import SqliteOutbox
from relay.sender import LaneState
from tests.admin.conftest import LANE, Watched, event
from tests.outbox.boxes import opened, sent
from tests.outbox.disks import mounted, take_room

STATES = ("open", "paused", "held")


async def test_what_a_cap_dropped_is_counted_once(watched: Watched) -> None:
    await watched.figures.refresh()

    await watched.outbox.put(Put(dead_letters=[DeadLetter(event(1), Cause("identity_too_long"))]))
    await watched.figures.refresh()
    await watched.figures.refresh()

    assert watched.sample("relay_dropped_total", environment="tests", reason="dead_letters_full") == 1


async def test_what_was_dropped_before_the_start_is_not_counted_again(watched: Watched) -> None:
    await watched.outbox.put(Put(dead_letters=[DeadLetter(event(1), Cause("identity_too_long"))]))

    await watched.figures.refresh()

    assert not watched.sample("relay_dropped_total", environment="tests", reason="dead_letters_full")


async def test_gauges_follow_the_outbox(watched: Watched) -> None:
    await watched.outbox.put(Put([event(1, 900.0), event(2, 950.0)]))

    await watched.figures.refresh()

    assert watched.sample("relay_outbox_events", environment="tests") == 2
    assert watched.sample("relay_outbox_oldest_seconds", environment="tests") == 100
    assert watched.sample("relay_outbox_capacity_bytes") == 1_000_000


async def test_who_is_remembered_is_counted(watched: Watched) -> None:
    put = [event(1), event(2)]
    await watched.outbox.put(Put(put, coalescing=sent(*put)))

    await watched.figures.refresh()

    assert watched.sample("relay_remembered", environment="tests") == len({one.identity for one in put})


async def test_an_age_grows_between_two_readings(watched: Watched) -> None:
    await watched.outbox.put(Put([event(1, 900.0)]))
    await watched.figures.refresh()

    watched.now += 5

    assert watched.sample("relay_outbox_oldest_seconds", environment="tests") == 105


async def test_an_environment_has_its_gauges_from_the_start_and_until_nothing_of_it_is_left(watched: Watched) -> None:
    await watched.figures.refresh()
    assert watched.sample("relay_outbox_events", environment="tests") == 0

    await watched.outbox.put(Put([event(1)]))
    await watched.figures.refresh()
    watched.figures.environments = {}
    await watched.figures.refresh()
    assert watched.sample("relay_outbox_events", environment="tests") == 1

    await watched.outbox.sweep(expired_before=2000, drop_before=3000, now=2000)
    await watched.figures.refresh()
    assert watched.sample("relay_outbox_events", environment="tests") is None


async def test_a_difference_in_the_books_is_seen(watched: Watched) -> None:
    """The metric compares two counts made apart from each other, so it can fail: here the capture saw one more."""
    await watched.figures.refresh()

    watched.capture.counts.captured["tests"] += 1
    await watched.figures.refresh()

    assert watched.sample("relay_books_difference", environment="tests") == 1


async def test_forecasts_of_many_are_told_in_turn(watched: Watched) -> None:
    """Each takes the event loop's time, and a day's changes slowly."""
    names = [f"environment-{number}" for number in range(2 * FEW + 1)]
    watched.capture.commits.forecasts.follow(dict.fromkeys(names, Pace("every_call", 0.0, 0.8)))
    watched.figures.environments = dict.fromkeys(names, LANE)

    rounds = []
    for _ in range(6):
        await watched.figures.refresh()
        rounds.append(watched.figures.reading.forecasts)

    assert [len(told) for told in rounds] == [FEW, 2 * FEW, *[2 * FEW + 1] * 4]
    for before, after in pairwise(rounds[2:]):
        assert sum(after[name] is not before[name] for name in names) == FEW
    assert not any(rounds[-1][name] is rounds[2][name] for name in names)


@pytest.mark.parametrize("standing", STATES)
async def test_exactly_one_state_of_a_lane_is_set(watched: Watched, standing: str) -> None:
    answer = Answer(Kind.BUSY, 503, at=1000.0)
    watched.lanes.append(LaneState(LANE, standing, None, None, answer, answer, 1, 0.25))  # type: ignore[arg-type]  # a word of the table

    await watched.figures.refresh()

    states = {state: watched.sample("relay_lane_state", environment="tests", state=state) for state in STATES}
    assert states == {**dict.fromkeys(STATES, 0.0), standing: 1.0}
    assert watched.sample("relay_budget_used_ratio", environment="tests") == 0.25


async def test_figures_stay_and_the_failure_shows_while_the_outbox_cannot_be_read(tmp_path: Path) -> None:
    outbox = SqliteOutbox(tmp_path / "outbox.db", max_bytes=1_000_000, dead_letter_share=0)
    await outbox.open()
    await outbox.put(Put([event(1)]))
    watched = Watched(outbox)
    await watched.figures.refresh()
    await outbox.close()

    await watched.figures.refresh()

    assert watched.sample("relay_outbox_failing") == 1
    assert watched.sample("relay_outbox_events", environment="tests") == 1
    assert "closed" in watched.figures.reading.problem


async def test_what_an_outbox_holds_that_cannot_be_read_yet_is_not_told(tmp_path: Path) -> None:
    """No zeros, and no burst in the hour once it can."""
    path = tmp_path / "outbox.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put([event(1), event(2)]))
    shutil.move(path, tmp_path / "elsewhere.db")
    path.mkdir()
    watched = Watched(outbox := sqlite_outbox(path))
    with pytest.raises(OutboxError, match="is not a file"):
        await outbox.open()

    await watched.figures.refresh()
    unread = watched.figures.reading
    assert unread.read_at is None
    assert "is not a file" in unread.problem
    assert watched.sample("relay_outbox_failing") == 1
    assert watched.sample("relay_outbox_events", environment="tests") is None
    assert watched.sample("relay_books_difference", environment="tests") is None

    path.rmdir()
    shutil.move(tmp_path / "elsewhere.db", path)
    await until_read(watched)
    await outbox.close()
    assert watched.sample("relay_outbox_events", environment="tests") == 2
    assert sum(watched.figures.reading.hours["tests"].captured) == 0


async def until_read(watched: Watched) -> None:
    """A storage that failed is tried again after a second."""
    async with asyncio.timeout(20):
        while watched.figures.reading.read_at is None:
            await watched.figures.refresh()
            await asyncio.sleep(0.05)


async def test_a_disk_that_somebody_else_filled_is_a_problem_before_an_event_is_refused(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "24m") as disk:
        async with opened(sqlite_outbox(disk / "outbox.db")) as outbox:
            watched = Watched(outbox)
            await watched.figures.refresh()
            before = watched.figures.reading.refusal

            take_room(disk, leave=2**20)
            await watched.figures.refresh()

            found = status_of(watched.figures.reading, now=1000.0, kind="sqlite")
    assert before == ""
    assert re.search(r"outbox\.db is full: .* are free on the disk", found.outbox.problem)
    assert found.outbox.read_at == 1000.0


async def test_events_that_are_refused_are_told_beside_an_outbox_that_cannot_be_read(tmp_path: Path) -> None:
    """One on Redis may be away for long before the spool is full, and only then events are lost."""
    watched = Watched(sqlite_outbox(tmp_path / "outbox.db"))  # it was never opened
    watched.capture.commits.refusals.begin("outbox_full", "the spool is full", 1)
    await watched.figures.refresh()

    problem = status_of(watched.figures.reading, now=1000.0, kind="redis").outbox.problem
    assert problem == f"{watched.figures.reading.problem}; the last events were refused: the spool is full"


async def test_why_events_are_refused_is_told_until_one_is_stored(watched: Watched) -> None:
    watched.capture.commits.refusals.begin("outbox_error", "the outbox cannot be written", 1)
    await watched.figures.refresh()
    refusing = status_of(watched.figures.reading, now=1000.0, kind="memory").outbox.problem

    watched.capture.commits.refusals.end()
    await watched.figures.refresh()

    assert refusing == "the last events were refused: the outbox cannot be written"
    assert status_of(watched.figures.reading, now=1000.0, kind="memory").outbox.problem == ""


async def test_counters_begin_and_end_with_their_environment(watched: Watched) -> None:
    await watched.figures.refresh()
    assert watched.sample("relay_refused_total", environment="tests", reason="memory") == 0

    watched.metrics.requests.labels("tests", "flags", "2xx").inc()
    watched.figures.environments = {"staging": LANE}
    await watched.figures.refresh()

    assert [labels for labels in counted(watched.registry) if labels.get("environment") == "tests"] == []
    assert watched.sample("relay_refused_total", environment="staging", reason="memory") == 0


async def test_what_has_not_happened_yet_is_told_as_0_and_then_as_what_it_is(watched: Watched) -> None:
    await watched.figures.refresh()

    watched.metrics.refused.labels("tests", "memory").inc(2)

    refused = [labels["reason"] for labels in counted(watched.registry) if set(labels) == {"environment", "reason"}]
    assert refused.count("memory") == 1
    assert watched.sample("relay_refused_total", environment="tests", reason="memory") == 2
    assert watched.sample("relay_refused_total", environment="tests", reason="too_large") == 0


def counted(registry: CollectorRegistry) -> list[dict[str, str]]:
    """The labels of every counter; gauges follow the figures."""
    families = [family for family in registry.collect() if family.type == "counter"]
    return [sample.labels for family in families for sample in family.samples]


# An outbox that is replaced while the relay runs.


def sqlite_outbox(path: Path) -> SqliteOutbox:
    return SqliteOutbox(path, max_bytes=10**9, dead_letter_share=0.25)


async def replace(outbox: Outbox, path: Path, by: Path) -> None:
    """Put another file in the place of the outbox's own, and let it notice."""
    shutil.move(by, path)
    with capture_logs():
        await outbox.put(Put())


async def drop_before(outbox: Outbox, moment: float) -> None:
    """Drop the dead letters made before *moment*."""
    await outbox.sweep(expired_before=0, drop_before=moment, now=1000.0)


async def test_an_older_copy_begins_the_figures_anew(tmp_path: Path) -> None:
    path, copy = tmp_path / "outbox.db", tmp_path / "copy.db"
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put([event(1)]))
    shutil.copy(path, copy)
    async with opened(sqlite_outbox(path)) as outbox:
        watched = Watched(outbox)
        await outbox.put(Put([event(2)]))
        await watched.figures.refresh()

        await replace(outbox, path, copy)
        await watched.figures.refresh()

    assert watched.sample("relay_outbox_events", environment="tests") == 1
    assert watched.sample("relay_books_difference", environment="tests") == 0


async def test_an_older_copy_that_has_dropped_fewer_counts_nothing(tmp_path: Path) -> None:
    path, copy = tmp_path / "outbox.db", tmp_path / "copy.db"
    letters = [DeadLetter(event(number, number * 100.0), Cause("identity_too_long")) for number in range(3)]
    async with opened(sqlite_outbox(path)) as outbox:
        await outbox.put(Put(dead_letters=letters))
        await drop_before(outbox, 50.0)
    shutil.copy(path, copy)
    async with opened(sqlite_outbox(path)) as outbox:
        await drop_before(outbox, 150.0)
        watched = Watched(outbox)
        await watched.figures.refresh()

        await replace(outbox, path, copy)
        await watched.figures.refresh()

    assert watched.sample("relay_dropped_total", environment="tests", reason="dead_letter_expired") == 0
    assert watched.sample("relay_books_difference", environment="tests") == 0


@pytest.mark.parametrize("held", [1, 9])
async def test_another_outbox_begins_the_figures_anew_whatever_it_holds(tmp_path: Path, held: int) -> None:
    path, other = tmp_path / "outbox.db", tmp_path / "other.db"
    async with opened(sqlite_outbox(other)) as outbox:
        await outbox.put(Put([event(number) for number in range(held)]))
    async with opened(sqlite_outbox(path)) as outbox:
        watched = Watched(outbox)
        await outbox.put(Put([event(1), event(2), event(3, environment="gone")]))
        await watched.figures.refresh()

        await replace(outbox, path, other)
        await watched.figures.refresh()

    assert watched.sample("relay_outbox_events", environment="tests") == held
    assert watched.sample("relay_outbox_events", environment="gone") is None
    assert watched.sample("relay_books_difference", environment="tests") == 0


# Sweeping.


async def test_what_waits_too_long_expires_after_two_sweeps_that_agree(watched: Watched) -> None:
    keeper = Keeper(watched.outbox, max_age=60, dead_letter_max_age=3600, metrics=watched.metrics, clock=watched.clock)
    await watched.outbox.put(Put([event(1, 900.0)]))

    await keeper.sweep()
    assert (await watched.outbox.books())["tests"].waiting == 1
    watched.now += 600
    await keeper.sweep()

    assert (await watched.outbox.books())["tests"].waiting == 0
    assert watched.sample("relay_dead_letters_total", environment="tests", reason="expired") == 1
