"""Leases and settlements: what is held is held under a token. Kept by every storage."""

import pytest

from relay.model import Book, Cause, Settlement, Which
from relay.outbox import Outbox, Put
from tests.outbox.boxes import NOON, book, claim, events, ids, taken, tried

REFUSED = Cause("refused_by_heap", "no such property")


# Leases.


async def test_a_renewed_lease_ends_when_it_was_renewed_to(outbox: Outbox) -> None:
    await outbox.put(Put(events(2)))
    lease = await claim(outbox)

    assert await outbox.renew(lease.token, until=NOON + 100) == 2

    assert taken(await claim(outbox, NOON + 99)) == []
    assert len(taken(await claim(outbox, NOON + 100))) == 2


async def test_only_what_is_still_held_is_renewed(outbox: Outbox) -> None:
    await outbox.put(Put(events(3)))
    lease = await claim(outbox)
    await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease)[:1])), now=NOON)
    await claim(outbox, NOON + 60, limit=1)

    assert await outbox.renew(lease.token, until=NOON + 100) == 1
    assert await outbox.renew("nobody's", until=NOON + 100) == 0


# Settling.


async def test_acknowledged_events_are_gone_and_delivered(outbox: Outbox) -> None:
    await outbox.put(Put(events(2)))
    lease = await claim(outbox)

    settled = await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON)

    assert settled == set(ids(lease))
    assert await book(outbox) == Book(captured=2, delivered=2)
    assert taken(await claim(outbox, NOON + 86_400)) == []


async def test_a_retried_event_is_due_at_its_time(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    lease = await claim(outbox)

    await outbox.settle(lease.token, Settlement(retry={ids(lease)[0]: NOON + 30}), now=NOON)

    assert taken(await claim(outbox, NOON + 29)) == []
    assert len(taken(await claim(outbox, NOON + 30))) == 1


@pytest.mark.parametrize("requests", [0, 1, 4])
async def test_an_event_has_had_as_many_attempts_as_requests_carried_it(outbox: Outbox, requests: int) -> None:
    """A lease may lead to many, or to none."""
    await outbox.put(Put(events(1)))
    for moment in (NOON, NOON + 30):
        (number,) = ids(lease := await claim(outbox, moment))
        made = {number: [tried()] * requests}
        await outbox.settle(lease.token, Settlement(retry={number: NOON + 30}, attempts=made), now=moment)

    lease = await claim(outbox, NOON + 30)
    assert [one.attempts for one in lease.claims] == [2 * requests]

    settlement = Settlement(dead_letter={number: REFUSED}, attempts={number: [tried(30), tried(31)]})
    await outbox.settle(lease.token, settlement, now=NOON + 30)
    assert [one.attempts for one in await outbox.dead_letters(Which(), limit=9)] == [2 * requests + 2]


async def test_a_dead_lettered_event_waits_no_more(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    lease = await claim(outbox)

    settled = await outbox.settle(lease.token, Settlement(dead_letter={ids(lease)[0]: REFUSED}), now=NOON)

    assert settled == set(ids(lease))
    assert await book(outbox) == Book(captured=1, dead_letters={"refused_by_heap": 1})
    assert taken(await claim(outbox, NOON + 86_400)) == []


async def test_claims_that_a_settlement_does_not_name_stay_leased(outbox: Outbox) -> None:
    await outbox.put(Put(put := events(4)))
    lease = await claim(outbox)
    acked, one, other, _ = ids(lease)

    settlement = Settlement(ack=frozenset({acked}), retry={one: NOON + 1, other: NOON + 2})
    assert await outbox.settle(lease.token, settlement, now=NOON) == {acked, one, other}

    assert taken(await claim(outbox, NOON + 59)) == put[1:3]
    assert await outbox.renew(lease.token, until=NOON + 90) == 1


async def test_what_somebody_else_claimed_meanwhile_is_theirs(outbox: Outbox) -> None:
    await outbox.put(Put(events(2)))
    mine = await claim(outbox)
    theirs = await claim(outbox, NOON + 60, limit=1)

    settled = await outbox.settle(mine.token, Settlement(ack=frozenset(ids(mine))), now=NOON + 61)

    assert settled == set(ids(mine)) - set(ids(theirs))
    assert await book(outbox) == Book(captured=2, delivered=1, waiting=1)
    assert await outbox.renew(theirs.token, until=NOON + 200) == 1


async def test_a_lease_that_ended_and_was_claimed_by_nobody_is_still_settled(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    lease = await claim(outbox)

    settled = await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON + 3600)

    assert settled == set(ids(lease))


async def test_nothing_is_settled_twice_or_under_another_token(outbox: Outbox) -> None:
    await outbox.put(Put(events(1)))
    lease = await claim(outbox)
    settlement = Settlement(ack=frozenset(ids(lease)))

    assert await outbox.settle("nobody's", settlement, now=NOON) == set()
    assert await outbox.settle(lease.token, settlement, now=NOON) == set(ids(lease))
    assert await outbox.settle(lease.token, settlement, now=NOON) == set()

    assert await book(outbox) == Book(captured=1, delivered=1)
