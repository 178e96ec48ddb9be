"""Whether a lane may ask Heap now, and what Heap said last."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import structlog
from msgspec.structs import replace

from relay.core.settle import PASSING, PROBE_EVERY, Answer, Kind, Record, pause
from relay.model import Clock, Lane

log = structlog.get_logger(__name__)

ADVICE = "nothing is set aside; check app_id, region and url in the YAML, and the app in Heap"


class LaneState(msgspec.Struct, frozen=True):
    """How a lane is doing. Times are seconds since 1970."""

    lane: Lane
    standing: Literal["open", "paused", "held"]
    # Since when it is not open, and when Heap is asked next; None while it is open.
    since: float | None
    until: float | None
    # The last answer, and the last that was no success; without their texts, which may echo an identity.
    answer: Answer | None
    error: Answer | None
    # Requests in a row that Heap did not judge.
    failures: int
    # The part of the lane's budget that the last minute used.
    used: float


class Standing:
    """Open, paused for a while, or held until Heap accepts an event."""

    def __init__(self, lane: Lane, clock: Clock, rng: Callable[[], float]) -> None:
        self.record = Record()
        self._lane = lane
        self._clock = clock
        self._rng = rng
        # Monotonic; the rest is seconds since 1970.
        self._resume_at = clock.monotonic()
        self._since: float | None = None
        self._answer: Answer | None = None
        self._error: Answer | None = None
        self._held = False

    @property
    def held(self) -> bool:
        """Whether Heap refuses the app rather than an event."""
        return self.record.held

    @property
    def closed(self) -> float:
        """Seconds until Heap may be asked."""
        return max(0.0, self._resume_at - self._clock.monotonic())

    def heed(self, answers: Sequence[Answer]) -> None:
        """Draw the consequences of the last of *answers*, which the record knows already."""
        for answer in answers:
            self._answer = replace(answer, text="")
            self._error = self._error if answer.kind is Kind.DELIVERED else self._answer
        self._resume_at = self._clock.monotonic() + self._length(answer)
        if self.held or answer.kind in PASSING:
            self._since = self._since or answer.at
        else:
            self._since = None
        self._tell(answer)
        self._held = self.held

    def state(self, used: float) -> LaneState:
        """How the lane is doing now; *used* is the part of its budget that the last minute used."""
        closed = self._since is not None
        return LaneState(
            lane=self._lane,
            standing="held" if self.held else "paused" if closed else "open",
            since=self._since,
            until=self._clock.wall() + self.closed if closed else None,
            answer=self._answer,
            error=self._error,
            failures=self.record.failures,
            used=used,
        )

    def _length(self, answer: Answer) -> float:
        """Seconds to leave Heap alone."""
        wished = pause(self.record.failures, self._rng(), answer.retry_after) if answer.kind in PASSING else 0.0
        return max(wished, PROBE_EVERY) if self.held else wished

    def _tell(self, answer: Answer) -> None:
        if self.held:
            log.error(
                "lane.held",
                heap=self._lane.url,
                answer=answer.kind,
                status=answer.status,
                at=answer.path,
                probe_in=round(self.closed),
                advice=ADVICE,
            )
        elif self._held:
            log.info("lane.opened", heap=self._lane.url, answer=answer.kind, status=answer.status)
        if answer.kind is Kind.DELIVERED and (answer.status != 200 or answer.text not in {"", "{}"}):
            log.warning("answer.unusual", heap=self._lane.url, status=answer.status, characters=len(answer.text))
