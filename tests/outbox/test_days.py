"""What every storage knows of how many events each day brought."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from relay.core.daily import DAYS_KEPT
from relay.errors import OutboxFull
from relay.model import Settlement
from relay.outbox import Outbox, Put
from relay.outbox.sqlite import SqliteOutbox
from tests.outbox.boxes import NOON, ROOMY, claim, dead_letter, event, events, ids, make_outbox, opened

DAY = 86400.0
# The day of NOON and the one after it.
TODAY, TOMORROW = "2027-01-15", "2027-01-16"


async def test_events_count_for_the_utc_day_of_their_capture(outbox: Outbox) -> None:
    await outbox.put(Put([*events(2), event(NOON + DAY), event(environment="staging")]))
    await outbox.put(Put(events(3)))

    assert await outbox.days() == {"production": {TODAY: 5, TOMORROW: 1}, "staging": {TODAY: 1}}


async def test_what_is_no_event_or_is_stored_already_does_not_count(outbox: Outbox) -> None:
    first = event()
    await outbox.put(Put([first], [dead_letter()], {("production", "skipped", "empty"): 5}))

    await outbox.put(Put([replace(first, captured_at=NOON + DAY)]))

    assert await outbox.days() == {"production": {TODAY: 1}}


async def test_a_put_that_fails_counts_nothing(backend: str, tmp_path: Path) -> None:
    async with opened(make_outbox(backend, tmp_path, max_bytes=200_000)) as outbox:
        await outbox.put(Put(events(1)))

        with pytest.raises(OutboxFull):
            await outbox.put(Put(events(9, size=30_000)))

        assert await outbox.days() == {"production": {TODAY: 1}}


async def test_what_becomes_of_an_event_later_changes_no_count(outbox: Outbox) -> None:
    await outbox.put(Put(events(2)))
    lease = await claim(outbox)
    first, second = ids(lease)
    await outbox.settle(lease.token, Settlement(ack=frozenset([first]), retry={second: NOON}), now=NOON)
    await outbox.sweep(expired_before=NOON + 1, drop_before=NOON, now=NOON + 1)
    await outbox.replay([second], now=NOON + DAY)

    assert await outbox.days() == {"production": {TODAY: 2}}


async def test_counts_are_no_page_of_the_books(outbox: Outbox) -> None:
    await outbox.put(Put(events(2)))

    [book] = (await outbox.books()).values()
    assert book.captured == book.waiting == 2


async def test_a_sweep_leaves_the_last_few_days_of_each_environment_and_those_that_are_not_over(
    outbox: Outbox,
) -> None:
    """A clock that was ahead has made days that are still to come, and they push out no other that counts."""
    await outbox.put(Put([event(NOON + number * DAY) for number in range(DAYS_KEPT + 3)]))
    await outbox.put(Put([event(environment="staging")]))

    await outbox.sweep(expired_before=0, drop_before=0, now=NOON + 2 * DAY)

    found = await outbox.days()
    assert (min(found["production"]), len(found["production"])) == ("2027-01-17", DAYS_KEPT + 1)
    assert found["staging"] == {TODAY: 1}


async def test_counts_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    async with opened(SqliteOutbox(path, max_bytes=ROOMY, dead_letter_share=0.25)) as outbox:
        await outbox.put(Put(events(2)))

    async with opened(SqliteOutbox(path, max_bytes=ROOMY, dead_letter_share=0.25)) as outbox:
        assert await outbox.days() == {"production": {TODAY: 2}}
