"""What a lane may spend, and who decides it: this process alone, or a fleet together."""

from collections.abc import Callable
from typing import Protocol

from relay.core.budget import Budget
from relay.core.settle import Part
from relay.model import Clock, Lane


class Purse(Protocol):
    """The budgets of one lane. Both calls raise OutboxError where they cannot be reached; then nothing is spent."""

    @property
    def budget(self) -> Budget:
        """What is known of them, to plan with; others may have spent since."""

    async def look(self) -> None:
        """Know how much of the lane's budget there is now."""

    async def spend(self, part: Part) -> bool:
        """Spend one request with all of *part*, or nothing where that is not there; then it is known what is."""


# A purse for a lane and a share of Heap's limits.
Purses = Callable[[Lane, float], Purse]


class OwnPurse:
    """Of a process that has its share of the limits to itself."""

    def __init__(self, share: float, clock: Clock) -> None:
        self.budget = Budget(share, clock.monotonic())
        self._clock = clock

    async def look(self) -> None:
        """Nobody else spends."""

    async def spend(self, part: Part) -> bool:
        """Count it."""
        now = self._clock.monotonic()
        if self.budget.wait_for(part, now) > 0:
            return False
        self.budget.pay(part, now)
        return True
