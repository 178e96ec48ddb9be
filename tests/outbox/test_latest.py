"""The pressure valve: in a lane that is behind, a newer event replaces its identity's waiting ones."""

from msgspec.structs import replace

from relay.model import Book, Coalescing, Event, Lane, Sent, Settlement, Trace, Which
from relay.outbox import AHEAD_SECONDS, Outbox, Put
from tests.outbox.boxes import LANE, NOON, OTHER_LANE, book, claim, event, ids, noted, taken

NEVER = float("-inf")
# Behind from the first waiting event on.
AT_ONCE = Coalescing(latest={"production": 0, "staging": 0})


async def put(outbox: Outbox, *put: Event, coalescing: Coalescing = AT_ONCE) -> None:
    await outbox.put(Put(put, journal=[noted(one) for one in put], coalescing=coalescing))


async def waiting(outbox: Outbox, lane: Lane = LANE, now: float = NOON + 99) -> list[Event]:
    lease = await outbox.claim(lane, limit=99, max_bytes=10**6, now=now, lease=60)
    await outbox.settle(lease.token, Settlement(retry=dict.fromkeys(ids(lease), now)), now=now)
    return taken(lease)


async def test_a_newer_event_replaces_all_that_wait_for_its_identity(outbox: Outbox) -> None:
    older = [event(NOON + number) for number in range(3)]
    await put(outbox, *older, coalescing=Coalescing(latest={"production": 99}))

    await put(outbox, newer := event(NOON + 5))

    assert await waiting(outbox) == [newer]
    assert await book(outbox) == Book(captured=4, superseded=3, waiting=1)
    (level,) = await outbox.levels()
    assert (level.events, level.size, level.oldest) == (1, 100, NOON + 5)


async def test_it_takes_the_place_in_the_queue_of_the_first_of_them(outbox: Outbox) -> None:
    """An identity that is seen all the time would never have its turn otherwise."""
    await put(outbox, event(NOON, identity="ada"))
    await put(outbox, bob := event(NOON + 1, identity="bob"))

    await put(outbox, ada := event(NOON + 2, identity="ada"))

    assert await waiting(outbox, now=NOON + 2) == [ada, bob]


async def test_others_are_left_alone(outbox: Outbox) -> None:
    others = [event(identity="bob"), event(environment="staging"), event(lane=OTHER_LANE)]
    await put(outbox, *others)

    await put(outbox, ada := event(NOON + 1))

    assert await waiting(outbox) == [*others[:2], ada]
    assert await waiting(outbox, OTHER_LANE) == others[2:]


async def test_nothing_is_replaced_while_no_more_than_the_tolerated_number_wait(outbox: Outbox) -> None:
    two = Coalescing(latest={"production": 2})
    for number in range(3):
        await put(outbox, event(NOON + number), coalescing=two)
    assert (await book(outbox)).superseded == 0

    await put(outbox, event(NOON + 3), coalescing=two)

    assert await book(outbox) == Book(captured=4, superseded=3, waiting=1)


async def test_what_waits_for_other_environments_of_the_lane_counts(outbox: Outbox) -> None:
    await outbox.put(Put([event(identity=f"{number}", environment="other") for number in range(5)]))

    for number in range(2):
        await put(outbox, event(NOON + number), coalescing=Coalescing(latest={"production": 4}))

    assert (await book(outbox)).superseded == 1


async def test_without_the_rule_nothing_is_ever_replaced(outbox: Outbox) -> None:
    for number in range(3):
        await put(outbox, event(NOON + number), coalescing=Coalescing())
    await put(outbox, event(NOON + 4))

    assert await book(outbox) == Book(captured=4, waiting=4)


async def test_what_is_claimed_is_not_replaced(outbox: Outbox) -> None:
    await put(outbox, claimed := event(NOON))
    lease = await claim(outbox)

    await put(outbox, event(NOON + 1))
    await put(outbox, event(NOON + 2))

    assert await book(outbox) == Book(captured=3, superseded=1, waiting=2)
    assert await outbox.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON) == set(ids(lease))
    assert taken(lease) == [claimed]


async def test_an_event_that_comes_late_does_not_replace_a_newer_one(outbox: Outbox) -> None:
    await put(outbox, newer := event(NOON + 1))

    await put(outbox, event(NOON))

    assert await waiting(outbox) == [newer]
    assert (await book(outbox)).superseded == 1


async def test_of_one_put_only_the_newest_waits(outbox: Outbox) -> None:
    await outbox.put(Put([event(identity="bob")]))

    await put(outbox, event(NOON), newest := event(NOON + 2), event(NOON + 1))

    assert (await waiting(outbox))[-1] == newest
    assert (await book(outbox)).superseded == 2


async def test_what_was_replayed_is_not_replaced(outbox: Outbox) -> None:
    """Somebody asked for it."""
    await put(outbox, old := event(NOON))
    await outbox.sweep(expired_before=NOON + 1, drop_before=NEVER, now=NOON)
    await outbox.replay([one.number for one in await outbox.dead_letters(Which(), limit=9)], now=NOON)

    await put(outbox, new := event(NOON + 1))

    assert await waiting(outbox) == [old, new]


async def test_what_was_moved_is_replaced_in_the_lane_it_was_moved_to(outbox: Outbox) -> None:
    await put(outbox, event(NOON, lane=OTHER_LANE))
    await outbox.move(OTHER_LANE, LANE, now=NOON)

    await put(outbox, new := event(NOON + 1))

    assert await waiting(outbox) == [new]


async def test_the_journal_says_what_was_replaced(outbox: Outbox) -> None:
    await put(outbox, event(NOON))
    await put(outbox, event(NOON + 1))

    newer, older = await outbox.trace("ada", limit=9, now=NOON)

    assert places(newer, older) == [("waiting", ""), ("gone", "superseded")]


def places(*traces: Trace) -> list[tuple[str, str]]:
    return [(found.place, found.cause.reason if found.cause else "") for found in traces]


async def test_the_memory_knows_the_event_that_stayed(outbox: Outbox) -> None:
    first, second, late = event(NOON + 1), event(NOON + 2), event(NOON)
    for state, one in enumerate([first, second, late]):
        await put(outbox, one, coalescing=replace(AT_ONCE, fingerprints={one.key: state}, remember={"production": 9}))

    assert await outbox.recall([("production", "ada")]) == {("production", "ada"): Sent(1, NOON + 2)}


async def test_what_was_superseded_before_anybody_knew_it_is_not_remembered(outbox: Outbox) -> None:
    """The newer one was forgotten, or was sent whatever was sent before it."""
    await put(outbox, event(NOON + 1))

    await put(outbox, late := event(NOON), coalescing=replace(AT_ONCE, fingerprints={late.key: 1}))

    assert await outbox.recall([("production", "ada")]) == {}
    assert await outbox.remembered() == {}


async def test_after_the_clock_went_back_what_was_superseded_is_forgotten_at_once(outbox: Outbox) -> None:
    """The memory goes by the clock that is true now, the queue by what was captured: so one loses what it learned."""
    ahead, now = event(NOON + 2 * AHEAD_SECONDS), event(NOON)
    for state, one in enumerate([ahead, now]):
        await put(outbox, one, coalescing=replace(AT_ONCE, fingerprints={one.key: state}, remember={"production": 9}))

    assert await outbox.recall([("production", "ada")]) == {}
