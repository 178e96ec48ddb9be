"""Things by time, then by number: cheap to add to, to take from, and to read from any moment on."""

import sys
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

# Sorted blocks are split at this length, so that an insertion moves few entries however many there are.
BLOCK = 512

Entry = tuple[float, int]


class Order:
    """A sorted set of (time, number), each at most once."""

    def __init__(self) -> None:
        self._blocks: list[list[Entry]] = []
        # The last entry of each block.
        self._lasts: list[Entry] = []

    def add(self, time: float, number: int) -> None:
        """Put an entry in its place."""
        entry = (time, number)
        if not self._blocks:
            self._blocks.append([entry])
            self._lasts.append(entry)
            return
        place = min(bisect_left(self._lasts, entry), len(self._blocks) - 1)
        insort(self._blocks[place], entry)
        self._settle(place)

    def remove(self, time: float, number: int) -> None:
        """Take out an entry that is there."""
        entry = (time, number)
        place = bisect_left(self._lasts, entry)
        block = self._blocks[place]
        del block[bisect_left(block, entry)]
        self._settle(place)

    def after(self, time: float) -> Iterator[Entry]:
        """Every entry later than *time*, in order."""
        entry = (time, sys.maxsize)
        for place in range(bisect_right(self._lasts, entry), len(self._blocks)):
            block = self._blocks[place]
            yield from block[bisect_right(block, entry) :]

    def up_to(self, time: float) -> Iterator[Entry]:
        """Every entry that is not later than *time*, in order."""
        for entry in self:
            if entry[0] > time:
                return
            yield entry

    def __iter__(self) -> Iterator[Entry]:
        for block in self._blocks:
            yield from block

    def _settle(self, place: int) -> None:
        """Split a block that grew too long, drop one that is empty, and note its new last entry."""
        block = self._blocks[place]
        if len(block) > BLOCK:
            halves = [block[: BLOCK // 2], block[BLOCK // 2 :]]
            self._blocks[place : place + 1] = halves
            self._lasts[place : place + 1] = [half[-1] for half in halves]
        elif block:
            self._lasts[place] = block[-1]
        else:
            del self._blocks[place], self._lasts[place]
