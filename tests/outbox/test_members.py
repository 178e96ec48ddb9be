"""Who runs on an outbox: each relay tells of itself, and whoever asks gets the list."""

from msgspec.structs import replace

from relay.fleet import Member
from relay.outbox import Outbox
from tests.outbox.boxes import NOON

ME = Member("host-1", "1.2.3", "all", NOON - 60, in_hand={"production": 3}, spooled=2, spool_bytes=500)


async def test_a_member_is_known_as_it_told_of_itself_last(outbox: Outbox) -> None:
    await outbox.announce(replace(ME, version="1.2.2", in_hand={}), now=NOON - 10)
    await outbox.announce(ME, now=NOON)

    [found] = await outbox.members(now=NOON)
    assert replace(found, seen_at=0.0) == ME
    assert found.seen_at > 0


async def test_one_that_departed_is_listed_no_more(outbox: Outbox) -> None:
    await outbox.announce(ME, now=NOON)

    await outbox.depart("another")
    assert len(await outbox.members(now=NOON)) == 1
    await outbox.depart(ME.name)
    assert await outbox.members(now=NOON) == []


async def test_nobody_is_known_before_anybody_told(outbox: Outbox) -> None:
    assert await outbox.members(now=NOON) == []
