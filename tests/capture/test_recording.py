"""Copies are bounded, and give their memory back."""

import tracemalloc

from relay.capture.recording import OVERHEAD_BYTES, CaptureLimits
from relay.model import Book
from tests.capture.capturing import ENVIRONMENT, LIMITS, TARGET, answer, book_of, capturing, feed


async def test_an_answer_above_max_answer_is_refused_and_gives_its_memory_back() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, answer(padding=LIMITS.max_answer))

        assert await book_of(capture, outbox) == Book(captured=1, refused={"too_large": 1})
        assert capture.memory.held == 0


async def test_copies_past_the_memory_of_all_are_refused() -> None:
    body = answer(padding=5_000)
    room_for_two = 2 * (len(body) + OVERHEAD_BYTES + len(TARGET))
    limits = CaptureLimits(max_answer=100_000, max_decoded=100_000, max_flags=10, memory=room_for_two)
    async with capturing(limits) as (capture, outbox):
        for _ in range(3):
            feed(capture, body)

        assert await book_of(capture, outbox) == Book(captured=3, waiting=2, refused={"memory": 1})


async def test_memory_is_given_back_after_the_commit() -> None:
    async with capturing() as (capture, _):
        for _ in range(50):
            feed(capture, answer())
        await capture.drained()

        assert capture.memory.held == 0


async def test_a_copy_that_came_in_tiny_pieces_weighs_little_more_than_its_bytes() -> None:
    async with capturing() as (capture, _):
        recording = capture.begin(ENVIRONMENT, "POST", TARGET, "", "")
        tracemalloc.start()
        try:
            for number in range(40_000):
                recording.request_chunk(number.to_bytes(2))
                recording.answer_chunk(number.to_bytes(2))
            weight, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert weight < 1.5 * capture.memory.held


async def test_a_discarded_recording_leaves_no_trace() -> None:
    async with capturing() as (capture, outbox):
        recording = capture.begin(ENVIRONMENT, "GET", TARGET, "", "")
        recording.answer_chunk(b"half an ans")
        recording.discard()
        recording.discard()

        assert capture.memory.held == 0
        assert await outbox.books() == {}


async def test_a_request_body_too_large_to_keep_does_not_cost_the_event() -> None:
    async with capturing() as (capture, outbox):
        recording = capture.begin(ENVIRONMENT, "POST", TARGET, "application/json", "")
        recording.request_chunk(b"x" * 2_000_000)
        recording.answered("application/json", "")
        recording.answer_chunk(answer())
        recording.finish(1_800_000_000.0)

        assert await book_of(capture, outbox) == Book(captured=1, waiting=1)
