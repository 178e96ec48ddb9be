"""Dead letters and the sweep: what is set aside, and what is dropped at last. Kept by every storage."""

from pathlib import Path

from relay.model import Book, Cause, Settlement
from relay.outbox import Outbox, Put
from tests.outbox.boxes import LANE, NOON, OTHER_LANE, book, dead_letter, event, events, make_outbox, opened

NEVER = float("-inf")


async def claim_all(outbox: Outbox, now: float = NOON) -> tuple[str, list[int]]:
    lease = await outbox.claim(LANE, limit=10_000, max_bytes=10**9, now=now, lease=60)
    return lease.token, [one.id for one in lease.claims]


async def test_dead_letters_past_their_share_push_out_the_oldest(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, max_bytes=1_000_000, dead_letter_share=0.1)) as outbox:
        await outbox.put(Put([newest := event(size=10_000)]))
        token, (number,) = await claim_all(outbox)
        await outbox.put(Put(dead_letters=[dead_letter(NOON - 100 + age, size=10_000) for age in range(8)]))

        settlement = Settlement(dead_letter={number: Cause("refused_by_heap", "x" * 1000)})
        for _ in range(2):
            await outbox.put(Put(dead_letters=[dead_letter(NOON - 50, size=10_000)]))
        await outbox.settle(token, settlement, now=NOON)

        after = await book(outbox)
        kept = sum(after.dead_letters.values())
        assert after.dropped == {"dead_letters_full": 11 - kept}
        assert 7 <= kept <= 9
        await outbox.put(Put([newest]))
        assert (await book(outbox)).captured == 11, "the newest is kept, so its key is still known"


async def test_without_a_share_no_dead_letter_is_kept_and_each_is_counted(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, dead_letter_share=0)) as outbox:
        await outbox.put(Put(dead_letters=[dead_letter()]))

        assert await book(outbox) == Book(captured=1, dropped={"dead_letters_full": 1})


async def test_a_sweep_dead_letters_what_was_captured_too_long_ago(outbox: Outbox) -> None:
    old, young = events(3, NOON - 100), events(2, NOON - 50)
    await outbox.put(Put([*old, *young, event(NOON - 100, lane=OTHER_LANE)]))

    assert (await outbox.sweep(expired_before=NOON - 50, drop_before=NEVER, now=NOON)).total() == 4

    assert await book(outbox) == Book(captured=6, dead_letters={"expired": 4}, waiting=2)
    assert (await outbox.sweep(expired_before=NOON - 50, drop_before=NEVER, now=NOON)).total() == 0


async def test_a_sweep_leaves_what_is_leased(outbox: Outbox) -> None:
    await outbox.put(Put(events(2, NOON - 100)))
    await outbox.claim(LANE, limit=1, max_bytes=1000, now=NOON, lease=60)

    assert (await outbox.sweep(expired_before=NOON, drop_before=NEVER, now=NOON + 59)).total() == 1
    assert (await outbox.sweep(expired_before=NOON, drop_before=NEVER, now=NOON + 60)).total() == 1


async def test_a_sweep_takes_what_waits_for_its_next_attempt(outbox: Outbox) -> None:
    await outbox.put(Put(events(1, NOON - 100)))
    token, (number,) = await claim_all(outbox)
    await outbox.settle(token, Settlement(retry={number: NOON + 300}), now=NOON)

    assert (await outbox.sweep(expired_before=NOON, drop_before=NEVER, now=NOON)).total() == 1


async def test_what_a_sweep_took_cannot_be_settled(outbox: Outbox) -> None:
    await outbox.put(Put(events(1, NOON - 100)))
    token, numbers = await claim_all(outbox)
    await outbox.sweep(expired_before=NOON, drop_before=NEVER, now=NOON + 60)

    assert await outbox.settle(token, Settlement(ack=frozenset(numbers)), now=NOON + 61) == set()

    assert await book(outbox) == Book(captured=1, dead_letters={"expired": 1})


async def test_a_sweep_drops_dead_letters_made_too_long_ago(outbox: Outbox) -> None:
    await outbox.put(Put(dead_letters=[dead_letter(NOON - 100), dead_letter(NOON - 50)]))

    await outbox.sweep(expired_before=NEVER, drop_before=NOON - 50, now=NOON)

    assert await book(outbox) == Book(
        captured=2, dead_letters={"identity_too_long": 1}, dropped={"dead_letter_expired": 1}
    )


async def test_a_dead_letters_age_counts_from_when_it_was_made(outbox: Outbox) -> None:
    await outbox.put(Put(events(1, NOON - 1000)))
    await outbox.sweep(expired_before=NOON - 500, drop_before=NEVER, now=NOON)

    await outbox.sweep(expired_before=NEVER, drop_before=NOON, now=NOON + 1)

    assert (await book(outbox)).dead_letters == {"expired": 1}


async def test_a_sweep_of_more_than_a_slice_takes_all_and_forgets_all(outbox: Outbox) -> None:
    await outbox.put(Put(events(1200, NOON - 100)))

    assert (await outbox.sweep(expired_before=NOON, drop_before=NEVER, now=NOON)).total() == 1200
    await outbox.sweep(expired_before=NEVER, drop_before=NOON + 1, now=NOON)

    assert await book(outbox) == Book(captured=1200, dropped={"dead_letter_expired": 1200})


async def test_dead_letters_that_were_forgotten_make_room_for_others(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, max_bytes=1_000_000, dead_letter_share=0.1)) as outbox:
        for day in range(5):
            await outbox.put(Put(dead_letters=[dead_letter(NOON + day, size=10_000) for _ in range(4)]))
            await outbox.sweep(expired_before=NEVER, drop_before=NOON + day, now=NOON + day)

        assert await book(outbox) == Book(
            captured=20, dead_letters={"identity_too_long": 4}, dropped={"dead_letter_expired": 16}
        )


async def test_a_sweep_takes_what_was_leased_before_the_clock_jumped_back(outbox: Outbox) -> None:
    await outbox.put(Put(events(1, NOON - 7200)))
    await claim_all(outbox)

    assert (await outbox.sweep(expired_before=NOON - 3600, drop_before=NEVER, now=NOON - 3600)).total() == 1
