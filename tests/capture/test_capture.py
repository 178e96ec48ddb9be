"""What the proxy hands over becomes an event, a count, or both."""

import pytest
from msgspec.structs import replace

from relay.capture.keys import time_ordered_key
from relay.core.identity import hashed
from relay.model import Book, Cause, Verdict
from tests.capture.capturing import ENVIRONMENT, LANE, answer, book_of, capturing, feed


async def test_an_identity_answer_becomes_a_waiting_event() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer())

        assert await book_of(capture, outbox) == Book(captured=1, waiting=1)


async def test_an_evaluation_is_noted_in_the_journal_with_its_event() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer())
        await capture.drained()

        (found,) = await outbox.trace("ada", limit=9, now=1_800_000_001.0)

    assert (found.environment, found.at, found.method) == ("tests", 1_800_000_000.0, "GET")
    assert (found.verdict, found.place) == (Verdict(True, "every_call"), "waiting")
    assert found.properties == b'{"dark_mode":true}'


async def test_an_evaluation_that_can_never_be_sent_is_noted_with_the_reason() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer("a" * 300))
        await capture.drained()

        (found,) = await outbox.trace("a" * 300, limit=9, now=1_800_000_001.0)

    assert (found.verdict, found.place) == (Verdict(False, "identity_too_long"), "dead_letter")
    assert found.cause == Cause("identity_too_long")


async def test_what_a_rule_skips_is_counted_and_noted_with_its_reason_and_no_properties() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer(), environment=replace(ENVIRONMENT, sample=0.0))

        assert await book_of(capture, outbox) == Book(captured=1, skipped={"sampled_out": 1})
        (found,) = await outbox.trace("ada", limit=9, now=1_800_000_001.0)

    assert (found.verdict, found.place) == (Verdict(False, "sampled_out"), "not_sent")
    assert (found.key, found.properties) == ("", b"{}")


@pytest.mark.parametrize("identity", ["ada", "a" * 300])
async def test_in_shadow_the_outbox_gets_counts_and_keyed_fingerprints_and_no_flags(
    identity: str,
) -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer(identity), environment=replace(ENVIRONMENT, shadow=True))

        assert await book_of(capture, outbox) == Book(captured=1, skipped={"shadow": 1})
        (found,) = await outbox.trace(identity, limit=9, now=1_800_000_001.0)

    assert (found.verdict, found.place) == (Verdict(False, "shadow"), "not_sent")
    assert (found.key, found.properties) == ("", b"{}")


async def test_the_journal_knows_a_hashed_identity_by_the_name_that_operators_know() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer("ada\0"), environment=replace(ENVIRONMENT, hash_key=b"0123456789abcdef"))
        await capture.drained()

        (found,) = await outbox.trace("ada\\u0000", limit=9, now=1_800_000_001.0)
        (claim,) = (await outbox.claim(LANE, limit=9, max_bytes=10_000, now=1_800_000_001.0, lease=60)).claims

    assert (found.verdict, found.key) == (Verdict(True, "every_call"), claim.event.key)
    assert claim.event.identity == hashed("ada\0", b"0123456789abcdef")


async def test_an_answer_without_flags_is_skipped_and_counted() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, b'{"detail": "Missing identifier"}')

        assert await book_of(capture, outbox) == Book(captured=1, skipped={"not_flags": 1})


async def test_a_skip_alone_reaches_the_books() -> None:
    async with capturing() as (capture, outbox):
        capture.skip(ENVIRONMENT, "already_captured")

        assert await book_of(capture, outbox) == Book(captured=1, skipped={"already_captured": 1})


@pytest.mark.parametrize("at", [0.0, 1_800_000_000.0, 9_999_999_999.0])
def test_keys_are_ascii_of_at_least_32_characters_and_follow_the_time(at: float) -> None:
    key = time_ordered_key(at)

    assert key.isascii()
    assert len(key) >= 32
    assert key < time_ordered_key(at + 0.002)
