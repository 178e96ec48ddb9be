"""Small puts are kept as bytes, and nobody who asks an outbox can tell."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from relay.errors import OutboxError
from relay.model import Coalescing, DeadLetter, JournalEntry, Repeats
from relay.outbox import Put
from relay.outbox.puts import decode, encode, joined
from relay.outbox.room import KEPT_ENTRIES, SMALL_ENTRIES
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import (
    NOON,
    ROOMY,
    book,
    claim,
    dead_letter,
    event,
    events,
    make_outbox,
    noted,
    opened,
    sent,
    taken,
)


def kept(folder: Path) -> int:
    """How many puts the tables do not know of."""
    with closing(sqlite3.connect(folder / "outbox.db")) as database:
        return int(database.execute("SELECT count(*) FROM kept").fetchone()[0])


async def test_a_small_put_is_kept_until_somebody_looks(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        await outbox.put(Put(events(1)))  # from which it knows that there is room

        await outbox.put(Put(events(1)))
        assert kept(tmp_path) == 1

        assert (await book(outbox)).waiting == 2
        assert kept(tmp_path) == 0


async def test_what_is_kept_is_claimed_like_the_rest(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        put = events(3)
        for one in put:
            await outbox.put(Put([one]))

        assert taken(await claim(outbox)) == put


async def test_who_visits_a_file_sees_what_its_owner_kept(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        for one in events(3):
            await outbox.put(Put([one]))
        assert kept(tmp_path) == 2

        guest = SqliteOutbox(tmp_path / "outbox.db", max_bytes=ROOMY, dead_letter_share=0.25, guest=True)
        async with opened(guest):
            assert (await book(guest)).waiting == 3


async def test_the_next_owner_finds_what_the_last_one_kept(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        for one in events(3):
            await outbox.put(Put([one]))
    assert kept(tmp_path) == 2

    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        assert (await book(outbox)).waiting == 3


async def test_no_more_is_kept_than_is_stored_in_a_moment(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        for _ in range(KEPT_ENTRIES + 100):
            await outbox.put(Put(events(1)))
            assert kept(tmp_path) <= KEPT_ENTRIES


@pytest.mark.parametrize(
    ("dead", "coalescing"),
    [
        ([dead_letter()], Coalescing()),
        ([], Coalescing(latest={"production": 10})),
        ([], Coalescing(repeats={("production", "ada"): Repeats(1, NOON)})),
    ],
    ids=["dead letters", "replacing", "repeats"],
)
async def test_what_depends_on_the_moment_is_stored_at_once(
    tmp_path: Path, dead: Sequence[DeadLetter], coalescing: Coalescing
) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        await outbox.put(Put(events(1)))

        await outbox.put(Put(events(1), dead, coalescing=coalescing))

        assert kept(tmp_path) == 0


async def test_a_large_put_is_stored_at_once(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        await outbox.put(Put(events(1)))

        await outbox.put(Put(events(SMALL_ENTRIES + 1)))

        assert kept(tmp_path) == 0


async def test_where_room_is_scarce_nothing_is_kept(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path, max_bytes=2**20)) as outbox:
        await outbox.put(Put(events(1)))

        await outbox.put(Put(events(1)))

        assert kept(tmp_path) == 0


async def test_a_kept_put_that_is_damaged_is_no_secret(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        await outbox.put(Put(events(1)))
        with closing(sqlite3.connect(tmp_path / "outbox.db", isolation_level=None)) as database:
            database.execute("INSERT INTO kept (put) VALUES (x'00')")

        with pytest.raises(OutboxError, match=r"outbox\.db is damaged \(a put: .*move it away"):
            await outbox.books()


def test_a_put_comes_back_from_its_bytes() -> None:
    one, other = event(), event(identity="bob")
    odd = JournalEntry("\ud800", "production", NOON, "GET", noted(one).verdict, b"{}", "")
    put = Put([one, other], (), {("production", "skipped", "empty"): 3}, [noted(one), odd], sent(one))

    assert decode(encode(put)) == put


def test_puts_are_joined_but_where_one_ends_the_memory_that_another_fills() -> None:
    remembered, unknown, elsewhere = event(), event(), event(environment="staging")
    puts = [
        Put([remembered], (), {("production", "skipped", "empty"): 1}, [], sent(remembered)),
        Put([elsewhere], (), {("production", "skipped", "empty"): 2}, [], Coalescing()),
        Put([unknown], (), {}, [], Coalescing()),
    ]

    first, second = joined(puts)

    assert (first.events, first.tally) == ([remembered, elsewhere], {("production", "skipped", "empty"): 3})
    assert second.events == [unknown]
