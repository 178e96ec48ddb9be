"""The journal: what was decided for an identity, and what became of it. Kept by every storage."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.errors import OutboxFull
from relay.model import Cause, Event, Fate, JournalEntry, Settlement, Trace, Verdict
from relay.outbox import Outbox, Put
from tests.outbox.boxes import (
    EVERY_CALL,
    NOON,
    claim,
    dead_letter,
    event,
    events,
    fill,
    ids,
    make_outbox,
    noted,
    opened,
    tried,
)

NEVER = float("-inf")
REFUSED = Cause("refused_by_heap", "no such property")


async def trace(outbox: Outbox, identity: str = "ada", *, limit: int = 100, now: float = NOON) -> list[Trace]:
    return await outbox.trace(identity, limit=limit, now=now)


async def put(outbox: Outbox, *put: Event) -> None:
    await outbox.put(Put(put, journal=[noted(one) for one in put]))


async def place(outbox: Outbox, now: float = NOON) -> Fate:
    (found,) = await trace(outbox, now=now)
    return found.place


# What is found.


async def test_an_evaluation_is_found_by_its_identity(outbox: Outbox) -> None:
    await put(outbox, one := event(identity="ada"), event(identity="bob"))

    assert await trace(outbox, "ada") == [
        Trace(
            environment="production",
            at=NOON,
            method="GET",
            verdict=EVERY_CALL,
            properties=b'{"dark_mode":true}',
            key=one.key,
            attempts=0,
            answers=(),
            place="waiting",
            due=NOON,
            cause=None,
        )
    ]
    assert await trace(outbox, "Ada") == []


@pytest.mark.parametrize("identity", ["", "Zo\u00eb\u0000 \U0001f600", "\ud800"])
async def test_any_text_may_be_an_identity(outbox: Outbox, identity: str) -> None:
    await outbox.put(Put(journal=[replace(noted(event(), sent=False), identity=identity)]))

    assert len(await trace(outbox, identity)) == 1


async def test_the_newest_come_first_and_no_more_than_asked_for(outbox: Outbox) -> None:
    for number in range(5):
        await put(outbox, event(NOON + number))

    assert [found.at for found in await trace(outbox, limit=3)] == [NOON + 4, NOON + 3, NOON + 2]


async def test_the_evaluations_of_one_put_are_in_the_order_they_came_in(outbox: Outbox) -> None:
    await put(outbox, event(NOON), event(NOON + 2), event(NOON + 1))

    assert [found.at - NOON for found in await trace(outbox)] == [1, 2, 0]


async def test_what_was_not_sent_is_found_with_its_reason(outbox: Outbox) -> None:
    skipped = noted(event(), verdict=Verdict(False, "sampled_out"), sent=False)
    await outbox.put(Put(events(1), tally={("production", "skipped", "sampled_out"): 2}, journal=[skipped, skipped]))

    one, other = await trace(outbox)

    assert (one.place, one.verdict, one.key) == ("not_sent", Verdict(False, "sampled_out"), "")
    assert one == other


async def test_what_could_never_be_sent_is_found_as_a_dead_letter(outbox: Outbox) -> None:
    letter = dead_letter()
    verdict = Verdict(False, "identity_too_long")
    await outbox.put(Put(dead_letters=[letter], journal=[noted(letter.event, verdict=verdict)]))

    (found,) = await trace(outbox)

    assert (found.place, found.verdict, found.cause, found.attempts) == ("dead_letter", verdict, letter.cause, 0)


async def test_an_entry_whose_key_was_stored_already_adds_nothing(outbox: Outbox) -> None:
    await put(outbox, one := event())

    await put(outbox, one, one)
    await outbox.put(Put([fresh := event(), fresh], journal=[noted(fresh), noted(fresh)]))

    assert [found.key for found in await trace(outbox)] == [fresh.key, one.key]


async def test_what_was_refused_is_not_noted(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, max_bytes=400_000)) as outbox:
        with pytest.raises(OutboxFull):
            await put(outbox, *events(50, size=10_000))

        assert await trace(outbox) == []


# What becomes of an event.


async def test_a_claimed_event_is_claimed_until_its_lease_ends(outbox: Outbox) -> None:
    await put(outbox, event())
    await claim(outbox)

    assert await place(outbox, NOON + 59) == "claimed"
    assert await place(outbox, NOON + 60) == "waiting"


async def test_a_delivered_event_is_delivered_after_as_many_attempts_as_were_made(outbox: Outbox) -> None:
    await put(outbox, event())
    (number,) = ids(lease := await claim(outbox))
    retry = Settlement(retry={number: NOON + 30}, attempts={number: (in_vain := [tried(1), tried(5)])})
    await outbox.settle(lease.token, retry, now=NOON + 5)
    (found,) = await trace(outbox)
    assert (found.place, found.due, found.attempts) == ("waiting", NOON + 30, 2)
    assert found.answers == tuple(in_vain)

    lease = await claim(outbox, NOON + 30)
    ack = Settlement(ack=frozenset({number}), attempts={number: [last := tried(31, "delivered 200")]})
    await outbox.settle(lease.token, ack, now=NOON + 31)

    (found,) = await trace(outbox)
    assert (found.place, found.due, found.attempts) == ("delivered", None, 3)
    assert found.answers == (*in_vain, last)


async def test_of_many_attempts_the_last_five_are_kept(outbox: Outbox) -> None:
    await put(outbox, event())
    made = [tried(second, "unreachable" if second % 3 else "busy 503") for second in range(13)]

    for some in (made[:4], made[4:6], made[6:]):
        (number,) = ids(lease := await claim(outbox))
        await outbox.settle(lease.token, Settlement(retry={number: NOON}, attempts={number: some}), now=NOON)

    (found,) = await trace(outbox)
    assert (found.attempts, found.answers) == (13, tuple(made[-5:]))


async def test_an_entry_has_room_for_its_attempts_from_the_first(tmp_path: Path) -> None:
    """An outage must not fill what a full disk has left for delivering."""
    async with opened(make_outbox("sqlite", tmp_path, journal_entries=2000)) as outbox:
        await put(outbox, *events(2000))
        before = (await outbox.usage()).size

        for moment in range(0, 600, 100):
            while (lease := await claim(outbox, NOON + moment)).claims:
                again, made = dict.fromkeys(ids(lease), NOON + moment + 99), dict.fromkeys(ids(lease), (tried(moment),))
                await outbox.settle(lease.token, Settlement(retry=again, attempts=made), now=NOON + moment)

        (found,) = await trace(outbox, limit=1)
        assert (found.attempts, len(found.answers)) == (6, 5)
        assert (await outbox.usage()).size - before < 2000 * 60


async def test_an_event_that_no_request_carried_has_no_attempt(outbox: Outbox) -> None:
    await put(outbox, event())
    (number,) = ids(lease := await claim(outbox))

    await outbox.settle(lease.token, Settlement(retry={number: NOON + 9}), now=NOON)

    (found,) = await trace(outbox)
    assert (found.place, found.due, found.attempts, found.answers) == ("waiting", NOON + 9, 0, ())


async def test_a_refused_event_is_a_dead_letter_with_heaps_words(outbox: Outbox) -> None:
    await put(outbox, event())
    (number,) = ids(lease := await claim(outbox))

    settlement = Settlement(dead_letter={number: REFUSED}, attempts={number: [refused := tried(0, "refused 400")]})
    await outbox.settle(lease.token, settlement, now=NOON)

    (found,) = await trace(outbox)
    assert (found.place, found.cause, found.attempts, found.answers) == ("dead_letter", REFUSED, 1, (refused,))


async def test_each_event_of_a_settlement_has_its_own_attempts(outbox: Outbox) -> None:
    await put(outbox, event(identity="ada"), event(identity="bob"))
    good, bad = ids(lease := await claim(outbox))

    attempts = {good: (tried(1, "delivered 200"),), bad: (tried(1), tried(2, "refused 400"))}
    settlement = Settlement(ack=frozenset({good}), dead_letter={bad: REFUSED}, attempts=attempts)
    await outbox.settle(lease.token, settlement, now=NOON)

    assert [found.answers for found in (*await trace(outbox, "ada"), *await trace(outbox, "bob"))] == [
        attempts[good],
        attempts[bad],
    ]


async def test_what_somebody_else_claimed_meanwhile_is_not_noted_as_ours(outbox: Outbox) -> None:
    await put(outbox, event())
    (number,) = ids(mine := await claim(outbox))
    await claim(outbox, NOON + 60)

    settlement = Settlement(retry={number: NOON + 99}, attempts={number: [tried(60)]})
    await outbox.settle(mine.token, settlement, now=NOON + 61)

    (found,) = await trace(outbox, now=NOON + 61)
    assert (found.place, found.attempts, found.answers) == ("claimed", 0, ())


async def test_an_event_that_was_dropped_is_gone(outbox: Outbox) -> None:
    await put(outbox, event())

    await outbox.sweep(expired_before=NOON + 1, drop_before=NEVER, now=NOON)
    assert await place(outbox) == "dead_letter"
    await outbox.sweep(expired_before=NEVER, drop_before=NOON + 1, now=NOON)

    assert await place(outbox) == "gone"


async def test_an_event_without_an_entry_is_settled_like_any_other(outbox: Outbox) -> None:
    await outbox.put(Put(events(2)))
    lease = await claim(outbox)

    settlement = Settlement(ack=frozenset(ids(lease)), attempts=dict.fromkeys(ids(lease), (tried(0, "delivered 200"),)))

    assert await outbox.settle(lease.token, settlement, now=NOON) == set(ids(lease))
    assert await trace(outbox) == []


# Its bounds.


def entry(number: int, *, size: int = 0) -> JournalEntry:
    """One without an event, with properties like nobody else's."""
    return noted(event(NOON + number), properties=b"%04d" % number + b"x" * size, sent=False)


async def test_the_oldest_entries_go(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, journal_entries=10)) as outbox:
        for number in range(0, 40, 4):
            await outbox.put(Put(journal=[entry(number + more) for more in range(4)]))

        assert [found.at - NOON for found in await trace(outbox)] == list(range(39, 29, -1))


async def test_a_journal_of_no_entries_keeps_none(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, journal_entries=0)) as outbox:
        await put(outbox, event())

        assert await trace(outbox) == []


async def test_a_journal_that_is_kept_shorter_than_before_becomes_so(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        await outbox.put(Put(journal=[entry(number) for number in range(900)]))

    async with opened(make_outbox("sqlite", tmp_path, journal_entries=5)) as outbox:
        for _ in range(2):
            await put(outbox, event())

        assert len(await trace(outbox)) == 5


async def test_the_journal_leaves_room_for_events(backend: str, tmp_path: Path) -> None:
    """However much its entries take: the outbox would be full for ever otherwise."""
    async with opened(make_outbox(backend, tmp_path, max_bytes=1_000_000)) as outbox:
        for number in range(300):
            await outbox.put(Put(journal=[entry(number, size=10_000)]))
        assert 1 < len(await trace(outbox)) < 20

        with pytest.raises(OutboxFull):
            await fill(outbox, 10_000)

        assert (await outbox.books())["production"].waiting > 60


async def test_properties_that_many_have_are_stored_once(outbox: Outbox) -> None:
    before = await outbox.usage()

    await outbox.put(Put(journal=[replace(noted(event(), sent=False), properties=b"x" * 10_000)] * 500))

    assert len(await trace(outbox, limit=1000)) == 500
    assert (await outbox.usage()).size - before.size < 1_000_000


async def test_properties_that_nobody_has_any_more_make_room(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, journal_entries=10)) as outbox:
        sizes = []
        for number in range(200):
            await outbox.put(Put(journal=[entry(number, size=10_000), entry(number // 10)]))
            sizes.append((await outbox.usage()).size)

    assert max(sizes[100:]) <= max(sizes[:100])


# Who is in it.


def names(folder: Path, text: str) -> bool:
    """Whether any file in *folder* holds *text*."""
    return any(text.encode() in file.read_bytes() for file in folder.iterdir())


async def test_the_file_does_not_name_whom_the_journal_is_about(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)) as outbox:
        await outbox.put(Put(journal=[replace(entry(1), identity="ada.lovelace@example.com")]))

        assert not names(tmp_path, "lovelace")
        assert len(await trace(outbox, "ada.lovelace@example.com")) == 1
