"""A lane that waits for events costs next to nothing, however many there are."""

from random import Random

from relay.model import Lane
from relay.outbox.memory import MemoryOutbox
from tests.sender.conftest import Post, until


class Noting(MemoryOutbox):
    """Notes for how long each lane means to wait."""

    def __init__(self) -> None:
        super().__init__(max_bytes=1 << 20, dead_letter_share=0.25)
        self.waits: dict[Lane, float] = {}

    async def arrival(self, lane: Lane, timeout: float) -> None:
        self.waits[lane] = timeout
        await super().arrival(lane, timeout)


async def test_idle_lanes_do_not_look_for_events_in_step(post: Post) -> None:
    """They all begin at once, and thousands of looks at one moment hold flags up."""
    outbox = post.outbox = Noting()
    await outbox.open()
    lanes = {Lane(post.heap.url, str(number)): 0.8 for number in range(10)}

    async with post.sending(lanes, rng=Random(0).random):

        async def waits() -> list[float]:
            return [*outbox.waits.values()]

        found = await until(waits, lambda waits: len(waits) == len(lanes))

    assert len(set(found)) == len(lanes)
    assert all(1 <= wait <= 3 for wait in found)
