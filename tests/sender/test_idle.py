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


async def idle_waits(post: Post, lanes: int) -> list[float]:
    """For how long each of so many idle lanes means to wait."""
    outbox = post.outbox = Noting()
    await outbox.open()
    async with post.sending({Lane(post.heap.url, str(number)): 0.8 for number in range(lanes)}, rng=Random(0).random):

        async def waits() -> list[float]:
            return [*outbox.waits.values()]

        return await until(waits, lambda waits: len(waits) == lanes)


async def test_idle_lanes_do_not_look_for_events_in_step(post: Post) -> None:
    """They all begin at once, and thousands of looks at one moment hold flags up."""
    waits = await idle_waits(post, 10)

    assert len(set(waits)) == 10
    assert all(1 <= wait <= 3 for wait in waits)


async def test_thousands_of_idle_lanes_look_less_often_each(post: Post) -> None:
    """All of them together look 250 times a second."""
    waits = await idle_waits(post, 1500)

    assert all(3 <= wait <= 9 for wait in waits)
