"""What an hour brought, minute by minute, from totals that are told now and then."""

from collections.abc import Mapping, Sequence

import msgspec

MINUTES = 60


class _Line(msgspec.Struct):
    """One total's growth by minute, the running minute last."""

    total: int
    minutes: tuple[int, ...] = (0,) * MINUTES


class History:
    """The growth of totals by name in the last hour; bounded by the names that are told.

    A total that went back belongs to another beginning: nothing is counted then, and it goes on from there.
    """

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._minute: int | None = None

    def tell(self, totals: Mapping[str, int], now: float) -> None:
        """What the totals are at *now* (monotonic seconds). Names that are not among them are forgotten."""
        self._turn(int(now // 60))
        for gone in self._lines.keys() - totals.keys():
            del self._lines[gone]
        for name, total in totals.items():
            line = self._lines.setdefault(name, _Line(total))
            if total > line.total:
                line.minutes = (*line.minutes[:-1], line.minutes[-1] + total - line.total)
            line.total = total

    def of(self, name: str) -> Sequence[int]:
        """The last sixty minutes, the running one last; nothing for an unknown name."""
        line = self._lines.get(name)
        return line.minutes if line else ()

    def _turn(self, minute: int) -> None:
        """Begin as many minutes as passed."""
        passed = 0 if self._minute is None else min(minute - self._minute, MINUTES)
        self._minute = minute
        if passed:
            for line in self._lines.values():
                line.minutes = (*line.minutes[passed:], *(0,) * passed)
