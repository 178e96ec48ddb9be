"""What an operator may do with dead letters, lanes and identities. Kept by every storage."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.model import Book, Cause, DeadLetter, Event, Forgotten, Lane, Level, Settlement, StoredLetter, Which
from relay.outbox import Outbox, Put
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import (
    ANY,
    LANE,
    NOON,
    OTHER_LANE,
    ROOMY,
    book,
    claim,
    dead_letter,
    event,
    events,
    ids,
    make_outbox,
    noted,
    opened,
    taken,
    tried,
)

NEVER = float("-inf")
BUSY = Cause("refused_by_heap", "no such property")
LATER = NOON + 3600


def letter(made_at: float = NOON, *, reason: str = "refused_by_heap", **facts: str) -> DeadLetter:
    """A dead letter that could be sent; those that are put as such are made when they were captured."""
    return DeadLetter(event(made_at, **facts), Cause(reason))  # type: ignore[arg-type]  # facts are its own


async def stored(outbox: Outbox, *letters: DeadLetter) -> list[StoredLetter]:
    await outbox.put(Put(dead_letters=letters))
    return await outbox.dead_letters(Which(), limit=10_000)


async def numbers(outbox: Outbox, which: Which) -> list[int]:
    return [one.number for one in await outbox.dead_letters(which, limit=1000)]


# Looking at dead letters.


async def test_a_dead_letter_is_shown_as_it_is_stored(outbox: Outbox) -> None:
    await outbox.put(Put([one := event(NOON)]))
    (number,) = ids(lease := await claim(outbox))
    await outbox.settle(lease.token, Settlement(retry={number: NOON}, attempts={number: [tried(1)]}), now=NOON)
    lease = await claim(outbox)
    settlement = Settlement(dead_letter={number: BUSY}, attempts={number: [tried(7, "refused 400")]})
    await outbox.settle(lease.token, settlement, now=NOON + 7)

    assert await outbox.dead_letters(Which(), limit=9) == [StoredLetter(number, DeadLetter(one, BUSY), NOON + 7, 2)]


async def test_what_expired_was_tried_as_often_as_before(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    (number,) = ids(lease := await claim(outbox))
    await outbox.settle(lease.token, Settlement(retry={number: NOON}, attempts={number: [tried()]}), now=NOON)

    await outbox.sweep(expired_before=LATER, drop_before=NEVER, now=NOON)

    (found,) = await outbox.dead_letters(Which(), limit=9)
    assert (found.attempts, found.letter.cause) == (1, Cause("expired"))


async def test_dead_letters_come_by_number_and_a_page_at_a_time(outbox: Outbox) -> None:
    everything = [one.number for one in await stored(outbox, *(letter(NOON - number) for number in range(5)))]
    assert everything == sorted(everything)

    first = await outbox.dead_letters(Which(), limit=3)
    second = await outbox.dead_letters(Which(), after=first[-1].number, limit=3)

    assert [one.number for one in (*first, *second)] == everything


@pytest.mark.parametrize(
    ("which", "found"),
    [
        (Which(), [0, 1, 2]),
        (Which(environment="staging"), [1]),
        (Which(reason="expired"), [2]),
        (Which(environment="staging", reason="expired"), []),
        (Which(since=NOON + 1), [1, 2]),
        (Which(until=NOON + 1), [0]),
        (Which(since=NOON + 1, until=NOON + 2), [1]),
        (Which(environment="nobody's"), []),
    ],
)
async def test_dead_letters_are_chosen_by_environment_reason_and_time(
    outbox: Outbox, which: Which, found: list[int]
) -> None:
    everything = await stored(
        outbox, letter(NOON), letter(NOON + 1, environment="staging"), letter(NOON + 2, reason="expired")
    )

    assert await numbers(outbox, which) == [everything[place].number for place in found]
    assert await outbox.count_dead_letters(which) == len(found)


# Replaying.


async def test_a_replayed_event_is_due_at_once_and_the_same_but_for_its_attempts(outbox: Outbox) -> None:
    (one,) = await stored(outbox, put := letter())

    assert await outbox.replay([one.number], now=LATER) == 1

    assert await book(outbox) == Book(captured=1, waiting=1)
    assert await outbox.levels() == [Level(LANE, "production", 1, 100, LATER)]
    (found,) = (await claim(outbox, LATER)).claims
    assert (found.event, found.attempts) == (put.event, 0)


async def test_the_age_of_a_replayed_event_counts_from_its_replay(outbox: Outbox) -> None:
    """What expired would expire again at once."""
    await outbox.put(Put(events(1)))
    await outbox.sweep(expired_before=LATER, drop_before=NEVER, now=LATER)
    await outbox.replay(await numbers(outbox, Which(reason="expired")), now=LATER)

    assert not await outbox.sweep(expired_before=LATER, drop_before=NEVER, now=LATER)
    assert (await outbox.sweep(expired_before=LATER + 1, drop_before=NEVER, now=LATER)).total() == 1


async def test_a_replayed_event_can_be_delivered_or_die_again(outbox: Outbox) -> None:
    found = await stored(outbox, letter(), letter())
    await outbox.replay([one.number for one in found], now=NOON)
    good, bad = ids(lease := await claim(outbox))

    settlement = Settlement(ack=frozenset({good}), dead_letter={bad: BUSY})
    await outbox.settle(lease.token, settlement, now=NOON)

    assert await book(outbox) == Book(captured=2, delivered=1, dead_letters={"refused_by_heap": 1})


@pytest.mark.parametrize("reason", ["identity_too_long", "identity_unacceptable", "event_too_large"])
async def test_what_can_never_be_sent_is_not_replayed(outbox: Outbox, reason: str) -> None:
    (one,) = await stored(outbox, letter(reason=reason))

    assert await outbox.replay([one.number], now=NOON) == 0
    assert await book(outbox) == Book(captured=1, dead_letters={reason: 1})


async def test_only_what_is_a_dead_letter_is_replayed_and_once(outbox: Outbox) -> None:
    (one,) = await stored(outbox, letter())
    await outbox.put(Put(events(1)))
    everything = [one.number, one.number, one.number + 1, 10**9, 0]

    assert await outbox.replay(everything, now=NOON) == 1
    assert await outbox.replay(everything, now=NOON) == 0
    assert await book(outbox) == Book(captured=2, waiting=2)


async def test_a_replay_of_more_than_a_slice_replays_all(outbox: Outbox) -> None:
    found = await stored(outbox, *(letter() for _ in range(1000)))

    assert await outbox.replay((one.number for one in found), now=NOON) == 1000
    assert await book(outbox) == Book(captured=1000, waiting=1000)


async def test_dead_letters_that_were_replayed_make_room_for_others(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, max_bytes=1_000_000, dead_letter_share=0.1)) as outbox:
        for _ in range(5):
            await outbox.put(Put(dead_letters=[DeadLetter(event(size=10_000), BUSY) for _ in range(4)]))
            assert await outbox.replay(await numbers(outbox, Which()), now=NOON) == 4


async def test_a_replay_is_seen_in_the_journal(outbox: Outbox) -> None:
    put = letter()
    await outbox.put(Put(dead_letters=[put], journal=[noted(put.event)]))

    await outbox.replay(await numbers(outbox, Which()), now=LATER)

    (found,) = await outbox.trace("ada", limit=9, now=LATER)
    assert (found.place, found.due, found.cause) == ("waiting", LATER, None)


# Dropping.


async def test_a_dropped_dead_letter_is_counted_as_the_operators(outbox: Outbox) -> None:
    one, other = await stored(outbox, letter(), dead_letter())
    await outbox.put(Put([waiting := event()]))

    assert await outbox.drop([one.number, one.number, other.number, other.number + 1, 10**9]) == 2

    assert await book(outbox) == Book(captured=3, waiting=1, dropped={"operator": 2})
    assert taken(await claim(outbox)) == [waiting]


# Lanes.


async def test_a_lane_is_moved_with_all_that_waits_in_it(outbox: Outbox) -> None:
    await outbox.put(Put(put := [event(NOON), event(NOON + 5, environment="staging", size=20)]))
    (first,) = ids(lease := await claim(outbox, limit=1))
    await outbox.settle(lease.token, Settlement(retry={first: NOON + 9}, attempts={first: [tried()]}), now=NOON)
    await outbox.put(Put(others := events(1, lane=OTHER_LANE)))

    assert await outbox.move(LANE, OTHER_LANE, now=NOON) == 2

    assert set(await outbox.levels()) == {
        Level(OTHER_LANE, "production", 2, 200, NOON),
        Level(OTHER_LANE, "staging", 1, 20, NOON + 5),
    }
    lease = await outbox.claim(OTHER_LANE, limit=9, max_bytes=ANY, now=NOON + 9, lease=60)
    assert [(one.event, one.attempts) for one in lease.claims] == [
        (others[0], 0),
        (replace(put[1], lane=OTHER_LANE), 0),
        (replace(put[0], lane=OTHER_LANE), 1),
    ]
    assert await outbox.books() == {"production": Book(captured=2, waiting=2), "staging": Book(captured=1, waiting=1)}


async def test_what_was_moved_dies_and_is_replayed_in_its_new_lane(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    await outbox.move(LANE, OTHER_LANE, now=NOON)
    await outbox.sweep(expired_before=LATER, drop_before=NEVER, now=NOON)

    await outbox.replay(await numbers(outbox, Which()), now=NOON)

    assert await outbox.levels() == [Level(OTHER_LANE, "production", 1, 100, NOON)]


async def test_what_is_leased_is_neither_moved_nor_dropped_before_its_lease_ends(outbox: Outbox) -> None:
    """A relay that crashed leaves leases behind, and nobody claims in a lane without an environment."""
    await outbox.put(Put(events(2)))
    await claim(outbox, limit=1)

    assert await outbox.move(LANE, OTHER_LANE, now=NOON + 59) == 1
    assert await outbox.drop_lane(LANE, now=NOON + 59) == 0
    assert await outbox.drop_lane(LANE, now=NOON + 60) == 1


async def test_what_was_leased_once_is_held_by_nobody_after_a_move(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    lease = await claim(outbox)

    await outbox.move(LANE, OTHER_LANE, now=NOON + 60)

    assert await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON + 61) == set()
    assert (await book(outbox)).waiting == 1


@pytest.mark.parametrize("lane", [LANE, Lane("https://nowhere.example", "1")])
async def test_a_lane_that_is_moved_to_itself_or_is_empty_stays_as_it_is(outbox: Outbox, lane: Lane) -> None:
    await outbox.put(Put(events(1)))

    assert await outbox.move(lane, LANE, now=NOON) == 0
    assert (await book(outbox)).waiting == 1


async def test_a_dropped_lane_is_counted_as_orphaned(outbox: Outbox) -> None:
    await outbox.put(Put([*events(600), *events(3, lane=OTHER_LANE)]))

    assert await outbox.drop_lane(LANE, now=NOON) == 600

    assert await book(outbox) == Book(captured=603, waiting=3, dropped={"orphaned": 600})


async def test_a_move_of_more_than_a_slice_moves_all(outbox: Outbox) -> None:
    await outbox.put(Put(events(1001)))

    assert await outbox.move(LANE, OTHER_LANE, now=NOON) == 1001
    assert await outbox.levels() == [Level(OTHER_LANE, "production", 1001, 100_100, NOON)]


# Identities.


async def test_an_identity_is_forgotten_wherever_it_is(outbox: Outbox) -> None:
    hers, leased, others = event(NOON + 1), event(NOON), event(NOON + 1, identity="ada2")
    dead = letter()
    everything = [hers, leased, others, dead.event]
    await outbox.put(Put([hers, leased, others], [dead], journal=[noted(one) for one in everything]))
    (number,) = ids(lease := await claim(outbox))

    assert await outbox.forget("ada") == Forgotten(waiting=2, dead_letters=1, journal=3)

    assert await book(outbox) == Book(captured=4, waiting=1, dropped={"forgotten": 3})
    assert await outbox.trace("ada", limit=9, now=NOON) == []
    assert len(await outbox.trace("ada2", limit=9, now=NOON)) == 1
    assert taken(await claim(outbox, LATER)) == [others]
    assert await outbox.settle(lease.token, Settlement(ack=frozenset({number})), now=NOON) == set()


async def test_more_than_a_slice_is_forgotten(outbox: Outbox) -> None:
    hers, others = events(700), [event(identity="bob") for _ in range(700)]
    mixed = [one for pair in zip(hers, others, strict=True) for one in pair]
    await outbox.put(Put(mixed, journal=[noted(one, sent=False) for one in mixed[:1000]]))

    assert await outbox.forget("ada") == Forgotten(700, 0, 500)

    assert {one.identity for one in taken(await claim(outbox))} == {"bob"}


@pytest.mark.parametrize("identity", ["nobody", "", "\ud800"])
async def test_whoever_is_not_known_is_forgotten_as_well(outbox: Outbox, identity: str) -> None:
    await outbox.put(Put(events(1)))

    assert await outbox.forget(identity) == Forgotten(0, 0, 0)


def held_in_files(folder: Path, text: bytes) -> bool:
    """Whether any file in *folder* holds *text*."""
    return any(text in file.read_bytes() for file in folder.iterdir())


@asynccontextmanager
async def beside(path: Path) -> AsyncIterator[tuple[SqliteOutbox, SqliteOutbox]]:
    """An outbox of a relay that runs, and a guest's."""
    owner = SqliteOutbox(path, max_bytes=ROOMY, dead_letter_share=0.25, journal_entries=1000)
    guest = SqliteOutbox(path, max_bytes=ROOMY, dead_letter_share=0.25, guest=True)
    async with opened(owner), opened(guest):
        yield owner, guest


def person(*, body: bytes = b"x" * 300) -> Event:
    return replace(event(identity="ada.lovelace@example.com"), body=body + b"ada.lovelace@example.com")


@pytest.mark.parametrize("size", [100, 100_000])
async def test_nothing_of_a_forgotten_identity_is_left_in_the_files(tmp_path: Path, size: int) -> None:
    """Also what SQLite would leave in free space, and in its log, while the relay runs."""
    async with beside(tmp_path / "outbox.db") as (owner, guest):
        hers, dead = person(body=b"x" * size), person(body=b"x" * size)
        await owner.put(Put([*events(50), hers, *events(50)], [DeadLetter(dead, Cause("expired", "ada.lovelace"))]))
        await owner.claim(LANE, limit=60, max_bytes=ANY, now=NOON, lease=60)
        assert held_in_files(tmp_path, b"lovelace")

        assert await guest.forget("ada.lovelace@example.com") == Forgotten(1, 1, 0)

        assert not held_in_files(tmp_path, b"lovelace")


async def test_nothing_of_what_was_delivered_is_left_once_an_identity_is_forgotten(tmp_path: Path) -> None:
    async with beside(tmp_path / "outbox.db") as (owner, guest):
        await owner.put(Put([*events(5), person(), *events(5)]))
        lease = await claim(owner)
        await owner.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)

        await guest.forget("ada.lovelace@example.com")

        assert not held_in_files(tmp_path, b"lovelace")


# Beside a relay.


async def test_a_guest_operates_while_the_relay_puts_and_delivers(tmp_path: Path) -> None:
    """The relay gets a turn between two slices: otherwise it would wait, and at last refuse what it captures."""
    async with beside(tmp_path / "outbox.db") as (owner, guest):
        found = await stored(owner, *(letter() for _ in range(2000)))
        replay = asyncio.create_task(guest.replay([one.number for one in found], now=NOON))

        turns = 0
        while not replay.done():
            turns += 1
            await owner.put(Put(events(5)))
            lease = await claim(owner, limit=100)
            await owner.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)

        assert await replay == 2000
        assert turns >= 4
        after = await book(owner)
        assert after.captured == after.delivered + after.waiting


REPLAYS = """
import asyncio, sys
from pathlib import Path
from relay.model import Which
from relay.outbox.sqlite import SqliteOutbox

async def main():
    outbox = SqliteOutbox(Path(sys.argv[1]), max_bytes=2**30, dead_letter_share=0.25, guest=True)
    await outbox.open()
    found = await outbox.dead_letters(Which(), limit=10**6)
    await outbox.replay([one.number for one in found], now=float(sys.argv[2]))
    await outbox.close()

asyncio.run(main())
"""


def kill_a_replay(path: Path) -> None:
    """Start one in a process of its own, and kill that between two slices: while it waits for its turn."""
    program = [sys.executable, "-c", REPLAYS, str(path), str(NOON)]
    with closing(sqlite3.connect(path, isolation_level=None)) as database, subprocess.Popen(program) as process:
        while True:
            database.execute("BEGIN IMMEDIATE")
            if database.execute("SELECT count(*) FROM waiting").fetchone() != (0,):
                break
            database.execute("ROLLBACK")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        database.execute("ROLLBACK")


async def test_a_replay_that_is_killed_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(SqliteOutbox(path, max_bytes=ROOMY, dead_letter_share=0.25)) as outbox:
        for _ in range(10):
            await outbox.put(Put(dead_letters=[letter() for _ in range(1000)]))

        await asyncio.to_thread(kill_a_replay, path)

        halfway = await book(outbox)
        assert 0 < halfway.waiting < 10_000
        assert halfway.dead_letters == {"refused_by_heap": 10_000 - halfway.waiting}
        rest = await outbox.dead_letters(Which(), limit=10**6)
        assert await outbox.replay([one.number for one in rest], now=NOON) == 10_000 - halfway.waiting
        assert await book(outbox) == Book(captured=10_000, waiting=10_000)
        assert (await outbox.levels())[0].events == 10_000
        assert len({one.key for one in taken(await claim(outbox, limit=10**6))}) == 10_000
