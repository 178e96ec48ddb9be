"""Each relay of a fleet tells of itself, and whoever asks one of them is told of all."""

import asyncio

import pytest
from msgspec.structs import replace
from playwright.async_api import expect
from prometheus_client import CollectorRegistry, generate_latest

from relay.admin.figures import Figures
from relay.admin.gauges import Gauges
from relay.admin.membership import Membership
from relay.admin.status import status_of
from relay.capture import Capture
from relay.core.report import report
from relay.fleet import Member
from relay.metrics import Metrics
from relay.model import Clock, Level
from relay.outbox import Put
from relay.outbox.memory import MemoryOutbox
from relay.outbox.spool import Spool
from tests.admin.browser import chromium, served
from tests.admin.statuses import NOW, environment, status
from tests.capture.capturing import ENVIRONMENT, LANE, LIMITS
from tests.outbox.boxes import event

ME = Member("host-1/1", "1.2.3", "proxy", NOW - 3600)
OTHER = Member("host-2/1", "1.2.4", "sender", NOW - 60, in_hand={"tests": 2}, spooled=2, spool_bytes=2**20)


class Watched:
    """A relay's figures over an outbox that takes nothing, as others filled it."""

    def __init__(self) -> None:
        self.outbox = MemoryOutbox(max_bytes=1, dead_letter_share=0.25)
        self.clock = Clock(wall=lambda: NOW, monotonic=lambda: self.monotonic)
        self.monotonic = 0.0
        self.spool = Spool(self.outbox, MemoryOutbox(max_bytes=10**6, dead_letter_share=0.25), self.clock)
        self.metrics = Metrics.on(CollectorRegistry())
        self.capture = Capture(self.spool, LIMITS, self.metrics, clock=self.clock)
        self.figures = Figures(self.outbox, self.capture, list, {"tests": LANE}, self.metrics, self.clock, self.spool)
        self.membership = Membership(ME, self.outbox, self.spool, self.figures.in_hand, self.clock)


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def test_a_relay_tells_what_it_has_in_hand_and_in_its_spool(watched: Watched) -> None:
    await watched.spool.put(Put([event(environment="tests"), event(environment="tests")]))
    watched.capture.skip(ENVIRONMENT, "empty")

    await watched.membership.announce()

    [told] = await watched.outbox.members(now=NOW)
    assert (told.name, told.role, told.seen_at, told.in_hand, told.spooled) == (
        "host-1/1",
        "proxy",
        NOW,
        {"tests": 3},
        2,
    )
    assert told.spool_bytes > 0


async def test_one_that_ends_with_an_empty_spool_is_listed_no_more(watched: Watched) -> None:
    await watched.membership.announce()
    await watched.membership.leave()

    assert await watched.outbox.members(now=NOW) == []


async def test_one_that_leaves_something_behind_stays_on_the_list(watched: Watched) -> None:
    await watched.spool.put(Put([event(environment="tests")]))
    await watched.membership.leave()

    assert [member.spooled for member in await watched.outbox.members(now=NOW)] == [1]


async def test_the_end_does_not_wait_for_an_outbox_that_hangs(watched: Watched) -> None:
    """No limit in `shutdown` is meant for that."""

    class Hanging(MemoryOutbox):
        async def depart(self, name: str) -> None:  # noqa: ARG002 - the protocol's
            await asyncio.Event().wait()

    watched.membership = Membership(
        ME, Hanging(max_bytes=1, dead_letter_share=0.25), watched.spool, watched.figures.in_hand, watched.clock
    )
    async with asyncio.timeout(20):
        await watched.membership.leave()


async def test_others_are_looked_for_when_somebody_asks_and_not_all_the_time(watched: Watched) -> None:
    await watched.outbox.announce(OTHER, now=NOW)
    assert [member.name for member in watched.membership.members] == [ME.name]

    watched.monotonic = 100.0
    await watched.membership.look()
    assert [member.name for member in watched.membership.members] == [ME.name, OTHER.name]

    await watched.outbox.depart(OTHER.name)
    await watched.membership.look()
    assert len(watched.membership.members) == 2
    watched.monotonic = 102.0
    await watched.membership.look()
    assert [member.name for member in watched.membership.members] == [ME.name]


async def test_who_asks_is_told_what_others_did_just_now(watched: Watched) -> None:
    """All of a fleet read their outbox seldom, so that it is not asked a thousand times a second."""
    reading = asyncio.create_task(watched.figures.run())
    await watched.figures.look()
    await watched.outbox.put(Put(tally={("tests", "skipped", "empty"): 3}))

    watched.monotonic = 2.0
    await watched.figures.look()

    assert watched.figures.reading.books["tests"].captured == 3
    reading.cancel()
    await asyncio.wait({reading})


async def test_who_asks_while_the_outbox_hangs_is_told_that(watched: Watched) -> None:
    class Hanging(MemoryOutbox):
        async def levels(self) -> list[Level]:
            await asyncio.Event().wait()
            return []

    outbox = Hanging(max_bytes=1, dead_letter_share=0.25)
    figures = Figures(outbox, watched.capture, list, {"tests": LANE}, watched.metrics, watched.clock, watched.spool)
    reading = asyncio.create_task(figures.run())
    await figures.look()
    reading.cancel()
    await asyncio.wait({reading})

    assert figures.reading.problem == "it was not read within 1 s; see whether it is well"


def test_nobody_is_silent_because_the_outbox_cannot_be_asked(watched: Watched) -> None:
    """What was found last tells of then."""
    members = [ME, replace(OTHER, seen_at=NOW - 200), replace(OTHER, name="gone", seen_at=NOW - 300)]

    found = status_of(watched.figures.reading, now=NOW, kind="redis", members=members, members_at=NOW - 190)

    assert [member.silent for member in found.members] == [True, False, True]
    assert found.members[1].seen_at == NOW - 200


async def test_the_books_of_a_fleet_have_what_every_member_has_in_hand(watched: Watched) -> None:
    await watched.spool.put(Put([event(environment="tests")]))
    await watched.figures.refresh()
    members = [*watched.membership.members, replace(OTHER, seen_at=NOW), replace(OTHER, name="gone", seen_at=NOW - 90)]

    found = status_of(watched.figures.reading, now=NOW, kind="redis", role="proxy", members=members)

    [books] = found.environments
    assert (books.captured, books.in_hand, books.difference) == (3, 3, 0)
    assert [member.silent for member in found.members] == [False, False, True]


async def test_the_report_lists_the_fleet(watched: Watched) -> None:
    members = [replace(ME, seen_at=NOW - 3), replace(OTHER, seen_at=NOW - 180)]

    told = report(status_of(watched.figures.reading, now=NOW, kind="redis", members=members)).splitlines()

    assert "fleet     2 relays, 1 of them SILENT" in told
    assert "          host-1/1 proxy 1.2.3, seen 3 s ago" in told
    assert (
        "          host-2/1 sender 1.2.4, SILENT since 14:02 UTC, 2 in hand, 2 of them in its spool (1.0 MiB)" in told
    )


async def test_what_waits_in_the_spool_has_gauges(watched: Watched) -> None:
    registry = CollectorRegistry()
    registry.register(Gauges(watched.figures, watched.clock))
    await watched.spool.put(Put([event(environment="tests")]))
    await watched.figures.refresh()

    told = generate_latest(registry).decode()

    assert 'relay_spool_events{environment="tests"} 1.0' in told
    assert "relay_spool_bytes " in told


async def test_shared_books_have_to_balance_in_themselves(watched: Watched) -> None:
    """What one of many captured says nothing of what all of them put."""
    watched.capture.counts.captured["tests"] = 1000
    await watched.figures.refresh()

    assert watched.figures.reading.differences.get("tests", 0) == 0


async def test_the_page_lists_the_fleet_and_who_is_silent_first() -> None:
    members = status_of(
        Watched().figures.reading,
        now=NOW,
        kind="redis",
        members=[replace(ME, seen_at=NOW - 3), replace(OTHER, seen_at=NOW - 180)],
    ).members
    proxy = status(environment("production", None), role="proxy", members=members)

    async with served(lambda: proxy) as url, chromium() as program:
        page = await program.new_page()
        await page.goto(url)

        await expect(page.locator("#fleet h2")).to_have_text("2 relays, 1 silent")
        await expect(page.locator("#fleet li")).to_have_text(
            [
                "host-2/1: sender, version 1.2.4, silent since 2026-11-24 14:02 UTC, 2 in hand, "
                "2 of them in its spool, 1 MiB",
                "host-1/1: proxy, version 1.2.3, seen 3 s ago",
            ]
        )
        await expect(page.locator(".says")).to_have_text("others deliver")
