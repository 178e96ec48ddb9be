"""Lanes that no environment names: said once each, and never by their app id."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.model import Lane
from relay.sender.orphans import Orphans
from tests.sender.conftest import APP_ID, Post, until

Lines = list[MutableMapping[str, Any]]


@asynccontextmanager
async def looking(orphans: Orphans) -> AsyncIterator[None]:
    task = asyncio.create_task(orphans.run())
    yield
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
def named(post: Post) -> set[Lane]:
    """The lanes that are named; a test changes it."""
    return {post.lane}


async def have(lines: Lines, count: int) -> Lines:
    async def read() -> Lines:
        return [line for line in lines if line["event"] == "lane.orphaned"]

    return await until(read, lambda found: len(found) >= count)


async def test_an_orphan_is_told_at_the_start_with_what_waits_and_without_its_app_id(post: Post) -> None:
    await post.put(3)

    with capture_logs() as logs:
        async with looking(Orphans(post.outbox, set)):
            (line,) = await have(logs, 1)

    assert (line["heap"], line["environments"], line["log_level"]) == (post.lane.url, ["tests"], "warning")
    assert line["events"] == 3
    assert "relay orphans list" in line["advice"]
    assert APP_ID not in str(line)


async def test_a_named_lane_is_none_until_it_is_no_longer_named(post: Post, named: set[Lane]) -> None:
    await post.put(1)
    await post.put_for(post.other, 2)

    with capture_logs() as logs:
        orphans = Orphans(post.outbox, lambda: named)
        async with looking(orphans):
            await have(logs, 1)
            named.clear()
            orphans.look()
            lines = await have(logs, 2)

    assert [line["events"] for line in lines] == [2, 1]


async def test_an_orphan_is_told_again_only_once_it_was_named_in_between(post: Post, named: set[Lane]) -> None:
    await post.put(1)
    seen: list[int] = []

    def look_up() -> set[Lane]:
        seen.append(len(seen))
        return set(named)

    async def looked_since(before: int) -> None:
        async def looks() -> int:
            return len(seen)

        await until(looks, lambda count: count > before)

    with capture_logs() as logs:
        orphans = Orphans(post.outbox, look_up)
        async with looking(orphans):
            for lanes in ((), (), (post.lane,), ()):
                named.clear()
                named.update(lanes)
                orphans.look()
                await looked_since(len(seen))
            lines = await have(logs, 2)

    assert len(lines) == 2
