"""Answers are decoded and parsed without holding up the event loop, or one another."""

import asyncio
import dataclasses
import gzip
import itertools
import json
import sys
import threading
import zlib
from collections.abc import Callable

import brotli
import pytest
from msgspec.structs import replace

from relay.capture.keys import time_ordered_key
from relay.capture.recording import CaptureLimits
from relay.model import Book, Clock
from tests.capture.capturing import ENVIRONMENT, LANE, LIMITS, answer, book_of, capturing, feed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


@pytest.mark.parametrize(("memory", "seconds", "turns"), [(10**9, 0.0, 1), (10**9, 0.002, 20), (10**5, 0.002, 4)])
async def test_after_a_slice_of_reading_the_event_loop_has_its_turn(memory: int, seconds: float, turns: int) -> None:
    """Of a millisecond, and of ten where many copies wait; here *seconds* pass whenever somebody looks at the clock."""
    looks, turn = itertools.count(), 0
    read_in: list[int] = []

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def new_key(at: float) -> str:
        read_in.append(turn)
        return time_ordered_key(at)

    limits = dataclasses.replace(LIMITS, memory=memory)
    clock = Clock(monotonic=lambda: next(looks) * seconds)
    async with capturing(limits, clock=clock, new_key=new_key) as (capture, _):
        turning = asyncio.create_task(take_turns())
        for _ in range(20):
            feed(capture, answer())
        await capture.drained()
        turning.cancel()

    assert len(set(read_in)) == turns


async def test_a_large_answer_does_not_hold_up_small_ones() -> None:
    limits = CaptureLimits(max_answer=10_000_000, max_decoded=10_000_000, max_flags=100, memory=20_000_000)
    async with capturing(limits) as (capture, outbox):
        feed(capture, answer("large", padding=3_000_000))
        feed(capture, answer("small"))

        assert await book_of(capture, outbox) == Book(captured=2, waiting=2)


@pytest.mark.parametrize(("coding", "encode"), CODERS.items())
@pytest.mark.parametrize("padding", [0, 900_000])
async def test_what_a_coded_answer_holds_decides_whether_the_loop_reads_it(
    coding: str, encode: Callable[[bytes], bytes], padding: int
) -> None:
    """A kilobyte may hold a megabyte. Of brotli nobody knows before it is all decoded."""
    readers: list[threading.Thread] = []

    def new_key(at: float) -> str:
        readers.append(threading.current_thread())
        return time_ordered_key(at)

    async with capturing(new_key=new_key) as (capture, outbox):
        feed(capture, encode(answer(padding=padding)), coding=coding)

        assert await book_of(capture, outbox) == Book(captured=1, waiting=1)
        assert [reader is threading.main_thread() for reader in readers] == [not padding and coding != "br"]


async def test_what_cannot_be_decoded_is_refused() -> None:
    async with capturing() as (capture, outbox):
        feed(capture, b'{"identifier": "ada", "flags": [')

        assert await book_of(capture, outbox) == Book(captured=1, refused={"undecodable": 1})


async def test_flags_that_are_known_come_to_what_the_rules_of_now_and_of_their_environment_say() -> None:
    environments = [replace(ENVIRONMENT, **rules) for rules in ({}, {"extra_properties": {"a": 1}}, {"name": "other"})]
    async with capturing() as (capture, outbox):
        for environment in environments * 2:
            feed(capture, answer(), environment=environment)
        await capture.drained()
        lease = await outbox.claim(LANE, limit=9, max_bytes=10_000, now=2_000_000_000.0, lease=1.0)

    told = [(one.event.environment, json.loads(one.event.body)["properties"]) for one in lease.claims]
    plain = {"dark_mode": True}
    assert told == [("tests", plain), ("tests", {**plain, "a": 1}), ("other", plain)] * 2
