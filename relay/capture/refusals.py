"""Events that the outbox does not take: a full disk refuses for hours, and is said once."""

from collections import Counter

import structlog

log = structlog.get_logger(__name__)


class Refusals:
    """What is refused, from the first time until something is stored again."""

    def __init__(self) -> None:
        # How many events, by reason.
        self._refused: Counter[str] = Counter()
        # What was said of the last one.
        self.last = ""

    def begin(self, reason: str, detail: str, events: int) -> None:
        """So many *events* were refused, by a failure that *detail* describes."""
        if reason not in self._refused:
            log.error("capture.refused", reason=reason, detail=detail, consequence="events are lost, flags go on")
        self.last = f"the last events were refused: {detail}"
        self._refused[reason] += events

    def end(self) -> None:
        """Events are stored again: say so once for each reason that had kept them out."""
        for reason, events in self._refused.items():
            log.info("capture.resumed", reason=reason, refused=events)
        self._refused.clear()
        self.last = ""
