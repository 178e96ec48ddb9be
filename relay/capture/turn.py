"""How long capture may keep the event loop from flags."""

import asyncio

from relay.capture.recording import CopyMemory
from relay.model import Clock

# How long the event loop may be kept from flags by reading answers: the longer, the more of the memory for copies is
# taken, up to the part that makes it longest. At a core's limit reading would fall behind otherwise, until events are
# refused.
SLICE_SECONDS = 0.001
LONGEST_SLICE_SECONDS = 0.01
LONGEST_AT = 1 / 8


class Turn:
    """The time that one of capture's tasks has before others have theirs."""

    def __init__(self, memory: CopyMemory, clock: Clock) -> None:
        self._memory = memory
        self._clock = clock
        self._ends = clock.monotonic()

    def begin(self) -> None:
        """From now on."""
        hurry = min(1.0, self._memory.part_held / LONGEST_AT)
        length = SLICE_SECONDS + (LONGEST_SLICE_SECONDS - SLICE_SECONDS) * hurry
        self._ends = self._clock.monotonic() + length

    async def share(self) -> None:
        """Let the event loop have its turn, if this one has been long."""
        if self._clock.monotonic() > self._ends:
            await asyncio.sleep(0)
            self.begin()
