"""The promises of `Outbox`, one test each, kept by every storage."""

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.errors import OutboxFull
from relay.model import Book, Cause, Level, Ready, Settlement
from relay.outbox import AHEAD_SECONDS, Outbox, Put
from tests.outbox.boxes import (
    ANY,
    LANE,
    NOON,
    OTHER_LANE,
    book,
    claim,
    dead_letter,
    event,
    events,
    fill,
    ids,
    make_outbox,
    opened,
    taken,
)

# Putting.


async def test_an_event_comes_back_as_it_was_put(outbox: Outbox) -> None:
    put = replace(event(NOON + 0.123456), identity="Zoë\u0000 \U0001f600", body=bytes(range(256)))

    await outbox.put(Put([put]))

    assert taken(await claim(outbox, NOON + 1)) == [put]


async def test_captured_is_the_sum_of_events_dead_letters_and_tally(outbox: Outbox) -> None:
    tally = {("production", "skipped", "not_flags"): 3, ("production", "refused", "memory"): 4}

    await outbox.put(Put(events(2), [dead_letter()], tally))
    await outbox.put(Put(tally={("production", "skipped", "not_flags"): 1}))

    assert await book(outbox) == Book(
        captured=11,
        waiting=2,
        dead_letters={"identity_too_long": 1},
        skipped={"not_flags": 4},
        refused={"memory": 4},
    )


async def test_a_key_that_waits_is_left_as_it_is_and_not_counted_again(outbox: Outbox) -> None:
    first = event()
    await outbox.put(Put([first]))

    await outbox.put(Put([replace(first, body=b"another")]))
    await outbox.put(Put([fresh := event(), replace(fresh, body=b"another")]))

    assert taken(await claim(outbox)) == [first, fresh]
    assert (await book(outbox)).captured == 2


async def test_a_key_that_is_dead_is_left_as_it_is_and_not_counted_again(outbox: Outbox) -> None:
    letter = dead_letter()
    await outbox.put(Put(dead_letters=[letter]))

    await outbox.put(Put([letter.event], [letter]))

    assert await book(outbox) == Book(captured=1, dead_letters={"identity_too_long": 1})
    assert taken(await claim(outbox)) == []


async def test_a_key_is_forgotten_once_its_event_was_delivered(outbox: Outbox) -> None:
    """The outbox remembers what it holds; that Heap has a key already is Heap's to know."""
    first = event()
    await outbox.put(Put([first]))
    lease = await claim(outbox)
    await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)

    await outbox.put(Put([first]))

    assert taken(await claim(outbox)) == [first]


async def test_new_events_are_due_since_they_were_captured(outbox: Outbox) -> None:
    later, earlier, same = event(NOON + 2), event(NOON + 1), event(NOON + 2)
    await outbox.put(Put([later, earlier, same]))

    assert taken(await claim(outbox, NOON + 0.5)) == []
    assert taken(await claim(outbox, NOON + 2)) == [earlier, later, same]


async def test_events_that_do_not_fit_are_refused_whole_and_nothing_stored_is_lost(
    backend: str, tmp_path: Path
) -> None:
    async with opened(make_outbox(backend, tmp_path, max_bytes=400_000)) as outbox:
        stored = events(10, size=10_000)
        await outbox.put(Put(stored))

        with pytest.raises(OutboxFull, match="full"):
            await outbox.put(Put(events(40, size=10_000), [dead_letter()], {("production", "skipped", "not_flags"): 1}))

        assert await book(outbox) == Book(captured=10, waiting=10)
        assert taken(await claim(outbox)) == stored


async def test_a_full_outbox_takes_a_tally_and_has_room_again_once_events_are_delivered(
    backend: str, tmp_path: Path
) -> None:
    async with opened(make_outbox(backend, tmp_path, max_bytes=400_000)) as outbox:
        with pytest.raises(OutboxFull):
            await fill(outbox, 10_000)
        stored = (await book(outbox)).captured

        await outbox.put(Put(tally={("production", "refused", "outbox_full"): 1}))
        lease = await claim(outbox)
        await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)
        await outbox.put(Put(events(stored, size=10_000)))

        assert await book(outbox) == Book(
            captured=2 * stored + 1, delivered=stored, waiting=stored, refused={"outbox_full": 1}
        )


async def test_usage_stays_within_the_capacity_and_counts_what_events_take(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, max_bytes=500_000)) as outbox:
        empty = (await outbox.usage()).size
        with pytest.raises(OutboxFull):
            await fill(outbox, 600)

        usage = await outbox.usage()

        assert usage.capacity == 500_000
        stored = (await book(outbox)).captured * 600
        assert empty + stored < usage.size <= usage.capacity


# Arrivals.


async def test_an_arrival_before_the_call_is_not_missed(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))

    await asyncio.wait_for(outbox.arrival(LANE, 60), 5)


async def test_an_arrival_during_the_call_ends_it(outbox: Outbox) -> None:
    waiting = asyncio.create_task(outbox.arrival(LANE, 60))
    await asyncio.sleep(0)

    await outbox.put(Put(events(1)))

    await asyncio.wait_for(waiting, 5)


async def test_an_arrival_is_told_once_and_only_to_its_lane(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    await outbox.arrival(LANE, 60)

    for lane in (LANE, OTHER_LANE):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(outbox.arrival(lane, 60), 0.02)


async def test_waiting_for_an_arrival_ends_after_the_timeout(outbox: Outbox) -> None:
    await asyncio.wait_for(outbox.arrival(LANE, 0.01), 5)


# Claiming.


async def test_a_claimed_event_is_seen_by_nobody_else_before_the_lease_ends(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    await claim(outbox)

    assert taken(await claim(outbox, NOON + 59.9)) == []
    assert len(taken(await claim(outbox, NOON + 60))) == 1


async def test_claims_come_in_order_of_due_time_then_of_arrival(outbox: Outbox) -> None:
    first, second, third = events(3)
    await outbox.put(Put([first, second, third]))
    lease = await claim(outbox, limit=1)
    await outbox.settle(lease.token, Settlement(retry={ids(lease)[0]: NOON + 5}), now=NOON)
    await outbox.put(Put([early := event(NOON - 1), late := event(NOON + 6)]))

    assert taken(await claim(outbox, NOON + 10)) == [early, second, third, first, late]


async def test_a_claim_takes_at_most_its_limit(outbox: Outbox) -> None:
    await outbox.put(Put(put := events(5)))

    assert taken(await claim(outbox, limit=3)) == put[:3]
    assert taken(await claim(outbox, limit=3)) == put[3:]


async def test_a_claim_takes_at_most_its_bytes_of_bodies(outbox: Outbox) -> None:
    await outbox.put(Put(put := events(5)))

    assert taken(await claim(outbox, max_bytes=300)) == put[:3]


async def test_a_claim_takes_the_first_event_whatever_its_size(outbox: Outbox) -> None:
    await outbox.put(Put(put := [event(size=5000), event(size=1)]))

    assert taken(await claim(outbox, max_bytes=300)) == put[:1]


async def test_a_claim_takes_only_its_own_lane(outbox: Outbox) -> None:
    await outbox.put(Put([*events(2, lane=OTHER_LANE), mine := event()]))

    assert taken(await claim(outbox)) == [mine]


async def test_a_lane_without_due_events_gives_a_lease_without_claims(outbox: Outbox) -> None:
    assert (await claim(outbox)).claims == ()


async def test_every_claim_has_a_token_of_its_own(outbox: Outbox) -> None:
    await outbox.put(Put(events(2)))

    assert (await claim(outbox, limit=1)).token != (await claim(outbox, limit=1)).token


async def test_a_due_time_more_than_ten_minutes_ahead_counts_as_reached(outbox: Outbox) -> None:
    """The clock jumped back: nothing waits until it is there again."""
    far, farther = event(NOON + AHEAD_SECONDS + 1), event(NOON + 86_400)
    await outbox.put(Put([farther, event(NOON + AHEAD_SECONDS), far, now := event()]))

    assert taken(await claim(outbox)) == [now, far, farther]


async def test_a_lease_made_before_the_clock_jumped_back_ends_at_once(outbox: Outbox) -> None:
    await outbox.put(Put(put := events(1)))
    await claim(outbox)

    assert taken(await claim(outbox, NOON - 3600)) == put


async def test_peek_tells_what_a_claim_would_find(outbox: Outbox) -> None:
    await outbox.put(Put([event(NOON - 3, size=10), event(NOON - 1, size=20), *events(3), event(NOON + 7)]))

    assert await peek(outbox) == Ready(5, 330, NOON - 3, NOON + 7)
    assert await peek(outbox, limit=2) == Ready(2, 30, NOON - 3, NOON + 7)
    assert await peek(outbox, max_bytes=130) == Ready(3, 130, NOON - 3, NOON + 7)
    assert len((await claim(outbox)).claims) == 5


async def test_peek_names_the_moment_when_a_lease_ends(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    await claim(outbox)

    assert await peek(outbox) == Ready(0, 0, None, NOON + 60)


async def test_peek_into_an_unknown_lane_finds_nothing(outbox: Outbox) -> None:
    assert await peek(outbox) == Ready(0, 0, None, None)


async def peek(outbox: Outbox, *, limit: int = 1000, max_bytes: int = ANY) -> Ready:
    return await outbox.peek(LANE, limit=limit, max_bytes=max_bytes, now=NOON)


# Reading.


async def test_books_are_kept_by_environment(outbox: Outbox) -> None:
    await outbox.put(Put([event(environment="production"), event(environment="staging")]))

    assert await outbox.books() == {
        "production": Book(captured=1, waiting=1),
        "staging": Book(captured=1, waiting=1),
    }


async def test_every_storage_has_an_installation_of_its_own(backend: str, tmp_path: Path, outbox: Outbox) -> None:
    (tmp_path / "other").mkdir()
    async with opened(make_outbox(backend, tmp_path / "other")) as other:
        assert await outbox.installation() == await outbox.installation() != await other.installation()


async def test_levels_tell_what_waits_and_since_when_by_lane_and_environment(outbox: Outbox) -> None:
    put = [event(NOON, size=1), event(NOON - 5, size=20), event(NOON - 2, size=300)]
    others = [event(environment="staging"), event(lane=OTHER_LANE)]
    await outbox.put(Put([*put, *others]))
    lease = await claim(outbox, limit=1)
    assert set(await outbox.levels()) == {
        Level(LANE, "production", 3, 321, NOON - 5),
        Level(LANE, "staging", 1, 100, NOON),
        Level(OTHER_LANE, "production", 1, 100, NOON),
    }

    await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)

    assert Level(LANE, "production", 2, 301, NOON - 2) in await outbox.levels()


async def test_a_level_that_was_emptied_is_not_told(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    lease = await claim(outbox)
    await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)

    assert await outbox.levels() == []


async def test_dead_letters_are_counted_by_reason(outbox: Outbox) -> None:
    await outbox.put(Put(events(2), [dead_letter(), dead_letter()]))
    first, second = ids(lease := await claim(outbox))
    causes = {first: Cause("refused_by_heap", "one"), second: Cause("refused_by_heap", "two")}
    await outbox.settle(lease.token, Settlement(dead_letter=causes), now=NOON)

    assert (await book(outbox)).dead_letters == {"identity_too_long": 2, "refused_by_heap": 2}

    await outbox.sweep(expired_before=NOON - 1, drop_before=NOON + 1, now=NOON)

    assert (await book(outbox)).dead_letters == {}
