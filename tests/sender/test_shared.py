"""Several senders with one Redis: they keep Heap's limits together, and send everything once."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from relay.metrics import Metrics
from relay.model import Clock, Event, Lane
from relay.outbox import Put
from relay.outbox.redis import RedisOutbox
from relay.sandbox.heap import StandInHeap
from relay.sender import Sender
from tests.outbox.boxes import event, make_outbox, opened
from tests.sender.conftest import APP_ID

SENDERS = 3
EVENTS = 450


async def test_senders_with_one_outbox_keep_the_limits_together_and_send_every_event_once(tmp_path: Path) -> None:
    async with StandInHeap() as heap, AsyncExitStack() as stack:
        lane = Lane(heap.url, APP_ID)
        boxes = [await stack.enter_async_context(opened(make_outbox("redis", tmp_path))) for _ in range(SENDERS)]
        now = Clock().wall()
        put = [replace(event(now), lane=lane, identity=f"user-{number}") for number in range(EVENTS)]
        await boxes[0].put(Put([_real(one) for one in put]))
        began = Clock().monotonic()

        senders = [await stack.enter_async_context(_sender(box, lane)) for box in boxes]
        running = [asyncio.create_task(sender.run()) for sender in senders]
        await heap.wait_for_events(EVENTS, within=20)
        seconds = Clock().monotonic() - began
        await asyncio.gather(*(sender.stop() for sender in senders), *running)

        assert (heap.duplicates, heap.violations) == (0, [])
        assert seconds >= EVENTS / 200
        assert sum(sender.delivered for sender in senders) == EVENTS
        assert (await boxes[0].books())["production"].waiting == 0


def _sender(outbox: object, lane: Lane) -> Sender:
    assert isinstance(outbox, RedisOutbox)
    return Sender(outbox, {lane: 0.8}, Metrics.on(CollectorRegistry()), purses=outbox.purse)


def _real(one: Event) -> Event:
    """With a body that Heap takes."""
    body = {"event": "Flags", "identity": one.identity, "idempotency_key": one.key, "properties": {}}
    return replace(one, body=json.dumps(body).encode())
