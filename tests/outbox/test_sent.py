"""The change memory: what was sent last for whom. Kept by every storage."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.errors import OutboxError, OutboxFull
from relay.model import Cause, Coalescing, DeadLetter, Event, Repeats, Sent, Settlement
from relay.outbox import Outbox, Put
from relay.outbox.recollection import BELIEVED_SECONDS
from tests.outbox.boxes import (
    LANE,
    NOON,
    OTHER_LANE,
    claim,
    event,
    events,
    ids,
    make_outbox,
    noted,
    opened,
    sent,
)

NEVER = float("-inf")
HOUR = 3600
ADA = ("production", "ada")
BOB = ("production", "bob")


async def put(outbox: Outbox, *put: Event, state: int = 1, remember: int = 1000) -> None:
    """Put events to be remembered."""
    await outbox.put(Put(put, coalescing=sent(*put, state=state, remember=remember)))


async def known(outbox: Outbox, who: tuple[str, str] = ADA) -> Sent | None:
    return (await outbox.recall([who])).get(who)


# Remembering.


async def test_what_was_sent_last_is_recalled_by_environment_and_identity(outbox: Outbox) -> None:
    await put(outbox, event(NOON, identity="ada"), state=5)
    await put(outbox, event(NOON + 1, identity="ada", environment="staging"), state=-(2**63))

    assert await outbox.recall([ADA, BOB, ("staging", "ada"), ("nowhere", "ada")]) == {
        ADA: Sent(5, NOON),
        ("staging", "ada"): Sent(-(2**63), NOON + 1),
    }
    assert await outbox.recall([]) == {}


async def test_a_later_event_takes_an_earlier_ones_place(outbox: Outbox) -> None:
    await put(outbox, event(NOON), state=1)
    await put(outbox, event(NOON + 5), state=2)
    await put(outbox, event(NOON + 3), state=3)

    assert await known(outbox) == Sent(2, NOON + 5)


async def test_of_one_put_the_last_is_remembered(outbox: Outbox) -> None:
    first, second = event(NOON), event(NOON)

    await outbox.put(Put([first, second], coalescing=Coalescing({first.key: 1, second.key: 2}, {"production": 9})))

    assert await known(outbox) == Sent(2, NOON)


async def test_what_stays_after_its_delivery(outbox: Outbox) -> None:
    await put(outbox, event())
    lease = await claim(outbox)

    await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)

    assert await known(outbox) == Sent(1, NOON)


async def test_an_event_whose_key_was_stored_already_is_not_remembered_anew(outbox: Outbox) -> None:
    await put(outbox, one := event(), state=1)

    await put(outbox, replace(one, captured_at=NOON + 1), state=2)

    assert await known(outbox) == Sent(1, NOON)


async def test_of_one_key_twice_in_a_put_the_first_is_remembered(outbox: Outbox) -> None:
    await put(outbox, event(NOON - 1), state=3)  # from which it knows that there is room
    one = event()

    await put(outbox, one, replace(one, captured_at=NOON + 1), state=1)

    assert await known(outbox) == Sent(1, NOON)


async def test_what_was_not_stored_is_not_remembered(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, max_bytes=400_000)) as outbox:
        await put(outbox, event(NOON), state=1)

        with pytest.raises(OutboxFull):
            await put(outbox, *events(50, NOON + 1, size=10_000), state=2)

        assert await known(outbox) == Sent(1, NOON)


async def test_an_event_sent_regardless_ends_the_memory_of_its_environment(outbox: Outbox) -> None:
    """Nobody knows any more what was sent last, for whom it was not looked at."""
    await put(outbox, event(identity="ada"))
    await put(outbox, event(identity="ada", environment="staging"))
    assert await known(outbox) == Sent(1, NOON)

    await outbox.put(Put([event(identity="bob")]))

    assert await outbox.remembered() == {"staging": 1}
    assert await known(outbox) is None
    assert await known(outbox, ("staging", "ada")) == Sent(1, NOON)
    await put(outbox, event(NOON + 1), state=7)
    assert await known(outbox) == Sent(7, NOON + 1)


async def test_who_was_asked_for_before_is_recalled_while_the_storage_is_away(tmp_path: Path) -> None:
    outbox = make_outbox("sqlite", tmp_path)
    async with opened(outbox):
        await put(outbox, event())
        await known(outbox)
    # Closed: it cannot look into the file any more.
    assert await known(outbox) == Sent(1, NOON)
    with pytest.raises(OutboxError):
        await known(outbox, BOB)


async def test_it_outlives_the_process(tmp_path: Path) -> None:
    for _ in range(2):
        async with opened(make_outbox("sqlite", tmp_path)) as outbox:
            await put(outbox, event(NOON), state=3)

    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        assert await known(outbox) == Sent(3, NOON)


# Forgetting what Heap will not have.


async def bury(outbox: Outbox) -> None:
    lease = await claim(outbox)
    died = dict.fromkeys(ids(lease), Cause("refused_by_heap"))
    await outbox.settle(lease.token, Settlement(dead_letter=died), now=NOON)


async def expire(outbox: Outbox) -> None:
    await outbox.sweep(expired_before=NOON + 1, drop_before=NEVER, now=NOON)


async def drop_lane(outbox: Outbox) -> None:
    await outbox.drop_lane(LANE, now=NOON)


async def forget(outbox: Outbox) -> None:
    assert (await outbox.forget("ada")).memory == 1


WAYS_OUT: list[Callable[[Outbox], Awaitable[None]]] = [bury, expire, drop_lane, forget]


@pytest.mark.parametrize("way", WAYS_OUT)
async def test_an_event_that_will_not_reach_heap_leaves_the_memory(
    outbox: Outbox, way: Callable[[Outbox], Awaitable[None]]
) -> None:
    await put(outbox, event())
    assert await known(outbox) is not None

    await way(outbox)

    assert await known(outbox) is None
    assert await outbox.remembered() == {}


@pytest.mark.parametrize("way", WAYS_OUT[:3])
async def test_it_does_not_where_a_newer_one_was_sent(outbox: Outbox, way: Callable[[Outbox], Awaitable[None]]) -> None:
    await put(outbox, event(NOON - 1))
    await put(outbox, event(NOON + 9, lane=OTHER_LANE), state=2)
    assert await known(outbox) is not None

    await way(outbox)

    assert await known(outbox) == Sent(2, NOON + 9)


async def test_a_dead_letter_of_capture_changes_nothing(outbox: Outbox) -> None:
    await put(outbox, event())

    await outbox.put(Put(dead_letters=[DeadLetter(event(NOON + 1), Cause("event_too_large"))]))

    assert await known(outbox) == Sent(1, NOON)


async def test_who_is_forgotten_is_so_in_every_environment(outbox: Outbox) -> None:
    await put(outbox, event(), event(identity="bob"), event(environment="staging"))

    assert (await outbox.forget("ada")).memory == 2

    assert await outbox.recall([ADA, ("staging", "ada"), BOB]) == {BOB: Sent(1, NOON)}
    assert await outbox.remembered() == {"production": 1}


FORGETS = """
import asyncio, sys
from pathlib import Path
from relay.outbox.sqlite import SqliteOutbox

async def main():
    outbox = SqliteOutbox(Path(sys.argv[1]), max_bytes=2**30, dead_letter_share=0.25, guest=True)
    await outbox.forget("ada")
    await outbox.close()

asyncio.run(main())
"""


async def test_what_another_process_took_is_noticed_within_a_second(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        await put(outbox, event())
        assert await known(outbox) is not None

        command = [sys.executable, "-c", FORGETS, str(tmp_path / "outbox.db")]
        await asyncio.to_thread(subprocess.run, command, check=True)

        async with asyncio.timeout(5 * BELIEVED_SECONDS):
            while await known(outbox):
                await asyncio.sleep(0.05)


async def test_another_files_memory_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        await put(outbox, event())
        assert await known(outbox) is not None

        (tmp_path / "outbox.db").rename(tmp_path / "moved.db")
        await outbox.put(Put(tally={("production", "skipped", "unchanged"): 1}))

        assert await known(outbox) is None


# Its bounds.


async def test_who_was_used_least_lately_makes_room(outbox: Outbox) -> None:
    for number, identity in enumerate("abc"):
        await put(outbox, event(NOON + number * HOUR, identity=identity), remember=3)
    await outbox.put(
        Put(coalescing=Coalescing(repeats={("production", "a"): Repeats(1, NOON + 5 * HOUR)}, remember={}))
    )

    await put(outbox, event(NOON + 9 * HOUR, identity="d"), remember=3)

    assert set(await outbox.recall([("production", identity) for identity in "abcd"])) >= {
        ("production", identity) for identity in "acd"
    }
    assert await outbox.remembered() == {"production": 3}


async def test_an_environment_has_a_limit_of_its_own(outbox: Outbox) -> None:
    await put(outbox, *[event(identity=f"{number}") for number in range(9)], remember=4)
    await put(outbox, *[event(identity=f"{number}", environment="staging") for number in range(9)], remember=7)

    assert await outbox.remembered() == {"production": 4, "staging": 7}


async def test_a_limit_that_became_narrower_is_kept_after_a_few_puts(outbox: Outbox) -> None:
    await put(outbox, *[event(identity=f"{number}") for number in range(1200)], remember=2000)

    for number in range(3):
        await put(outbox, event(NOON + HOUR, identity=f"{number}"), remember=5)
        remembered = await outbox.remembered()

    assert remembered == {"production": 5}


async def test_the_memory_leaves_room_for_events(backend: str, tmp_path: Path) -> None:
    """However many identities there are; the largest environment makes room."""
    async with opened(make_outbox(backend, tmp_path, max_bytes=1_000_000, journal_entries=0)) as outbox:
        for number in range(200):
            await put(outbox, *[event(identity=f"{number}-{each}", size=1) for each in range(50)], remember=10**6)
            lease = await claim(outbox)
            await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)
        await put(outbox, event(environment="staging"), remember=10**6)

        remembered = await outbox.remembered()
        assert 500 < remembered["production"] < 5000
        assert remembered["staging"] == 1
        assert (await outbox.usage()).size < 600_000


async def test_what_belongs_to_a_memory_that_ended_is_swept_away(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        before = (await outbox.usage()).size
        for start in range(0, 6000, 1000):
            await put(outbox, *[event(identity=f"{start + number}") for number in range(1000)], remember=10**6)
        await outbox.put(Put([event()]))
        await outbox.drop_lane(LANE, now=NOON)
        assert (await outbox.usage()).size - before > 200_000

        await outbox.sweep(expired_before=NEVER, drop_before=NEVER, now=NOON)

        assert (await outbox.usage()).size - before < 20_000


# Unchanged answers.


async def test_unchanged_answers_are_counted_at_what_they_repeat(outbox: Outbox) -> None:
    first, second = event(NOON), event(NOON + 1)
    await outbox.put(Put([first], journal=[noted(first)], coalescing=sent(first)))
    await outbox.put(Put([second], journal=[noted(second)], coalescing=sent(second, state=2)))

    for at in (7.0, 9.0):
        repeats = {ADA: Repeats(2, NOON + at), BOB: Repeats(1, NOON + at)}
        await outbox.put(Put(coalescing=Coalescing(repeats=repeats)))

    newer, older = await outbox.trace("ada", limit=9, now=NOON)
    assert (newer.unchanged, newer.unchanged_at) == (4, NOON + 9)
    assert (older.unchanged, older.unchanged_at) == (0, None)


# Who is in it.


def names(folder: Path, text: str) -> bool:
    """Whether any file in *folder* holds *text*."""
    return any(text.encode() in file.read_bytes() for file in folder.iterdir())


async def test_the_file_does_not_name_who_is_remembered(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        await put(outbox, event(identity="ada.lovelace@example.com"))
        lease = await claim(outbox)
        await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)

    assert not names(tmp_path, "lovelace")
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        assert await known(outbox, ("production", "ada.lovelace@example.com")) is not None
