"""Whatever Heap answers for a while: once it is well again nothing waits, and no event is lost or there twice."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relay.outbox.memory import MemoryOutbox
from relay.sandbox.heap import Fault, Raw, Reply, StandInHeap
from tests.fuzz.requests import answers
from tests.sender.conftest import Post, Time

EVENTS = 5
RESTS = st.one_of(st.integers(-10, 10**12).map(str), st.text("0123456789 GMTabc:,-", max_size=30))
REPLIES = st.builds(
    Reply,
    status=st.integers(200, 599),
    body=st.one_of(st.binary(max_size=60), st.integers(-1, 2_000).map(lambda index: b"postBody.events[%d]" % index)),
    headers=st.lists(st.tuples(st.sampled_from(["Retry-After", "Date", "Location"]), RESTS), max_size=2).map(tuple),
)
# It is asked for nothing that never ends: these time out in ten seconds of real time each.
ENDING = [each for each in Fault if each not in {Fault.HANG, Fault.STORE_THEN_HANG, Fault.SLOW_DRIP}]
SCRIPTED = st.one_of(REPLIES, st.sampled_from(ENDING), answers().map(lambda sent: Raw(sent.raw)), st.binary().map(Raw))


@given(script=st.lists(SCRIPTED, min_size=1, max_size=6))
def test_no_answer_loses_or_doubles_an_event_or_leaves_it_waiting(script: list[Any]) -> None:
    asyncio.run(play(script))


async def play(script: list[Any]) -> None:
    """Deliver a few events to a Heap that follows *script* before it is well."""
    time = Time()
    outbox = MemoryOutbox(max_bytes=2**20, dead_letter_share=0.25)
    async with StandInHeap(clock=time.clock) as heap:
        await outbox.open()
        post = Post.on(outbox, heap, time)
        heap.replies.extend(script)
        async with post.sending():
            await post.put(EVENTS)
            book = await post.until_empty()
        await outbox.close()

    assert book.delivered + sum(book.dead_letters.values()) == EVENTS
    assert len(set(post.identities())) == len(post.identities())
