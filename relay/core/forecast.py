"""How many events a day brings at the pace of the last one, by verdict and by each way to send them."""

from collections import Counter, deque
from collections.abc import Callable

import msgspec

from relay.core.budget import APP_EVENTS
from relay.core.coalesce import UNCHANGED
from relay.core.status import ForecastStatus, WayStatus
from relay.model import Pace, Verdict

# What is looked back on, in whole hours beside the running one.
HOURS = 24
HOUR, MINUTE, DAY = 3600.0, 60.0, 86400.0
MONTH_DAYS = 30
# Verdicts that keep back what would be an event otherwise.
KEPT_BACK = frozenset({"shadow", "over_cap"})


def ways(verdict: Verdict, send: str, is_news: Callable[[], bool]) -> tuple[bool, bool]:
    """Whether an answer would be sent by every_call and by on_change, in earnest and without a cap.

    *send* is the way in force. Where that has not decided what is news, *is_news* is asked.
    """
    if verdict == UNCHANGED:
        return True, False
    if not verdict.send and verdict.reason not in KEPT_BACK:
        return False, False
    decided = send == "on_change" and verdict.reason != "shadow"
    return True, decided or is_news()


class _Hour(msgspec.Struct):
    """What one hour brought."""

    number: int
    verdicts: Counter[str] = msgspec.field(default_factory=Counter)
    # Events by every_call and by on_change, and the most of them in one of its minutes.
    events: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    busiest: list[int] = msgspec.field(default_factory=lambda: [0, 0])


class Forecast:
    """One environment since *start*, at most the last day; every `now` is in monotonic seconds and never goes back."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._hours: deque[_Hour] = deque()
        # Sums over the hours.
        self._verdicts: Counter[str] = Counter()
        self._events = [0, 0]
        self._minute = 0
        self._minute_events = [0, 0]

    def see(self, reason: str, sent: tuple[bool, bool], now: float, times: int = 1) -> None:
        """Count answers with their verdict's *reason*, and whether every_call and on_change would send them."""
        hour = self._hour(now)
        if (minute := int(now // MINUTE)) != self._minute:
            self._minute, self._minute_events = minute, [0, 0]
        hour.verdicts[reason] += times
        self._verdicts[reason] += times
        for way, sends in enumerate(sent):
            if sends:
                hour.events[way] += times
                self._events[way] += times
                self._minute_events[way] += times
                hour.busiest[way] = max(hour.busiest[way], self._minute_events[way])

    def tell(self, pace: Pace, now: float, *, overflowed: bool) -> ForecastStatus:
        """A day and a month at this pace.

        On_change is tried out where it is not in force. Everybody is new to it once: with less than a day, or where the
        memory of who was seen *overflowed*, it may turn out less.
        """
        self._forget(now)
        observed = now - max(self._start, (int(now // HOUR) - HOURS) * HOUR)
        days = max(observed, MINUTE) / DAY
        return ForecastStatus(
            send=pace.send,
            observed=observed,
            at_most=pace.send == "every_call" and (overflowed or observed < DAY),
            every_call=self._way(0, days, pace.share),
            on_change=self._way(1, days, pace.share),
            verdicts={reason: round(times / days) for reason, times in sorted(self._verdicts.items())},
        )

    def _way(self, way: int, days: float, share: float) -> WayStatus:
        busiest = max((hour.busiest[way] for hour in self._hours), default=0)
        used = busiest / APP_EVENTS.amount  # Heap's limit is a minute's, too
        a_day = self._events[way] / days
        return WayStatus(round(a_day), round(a_day * MONTH_DAYS), busiest, round(used, 4), round(used / share, 4))

    def _hour(self, now: float) -> _Hour:
        """The running hour."""
        number = int(now // HOUR)
        if not self._hours or self._hours[-1].number != number:
            self._hours.append(_Hour(number))
            self._forget(now)
        return self._hours[-1]

    def _forget(self, now: float) -> None:
        while self._hours and self._hours[0].number < int(now // HOUR) - HOURS:
            gone = self._hours.popleft()
            self._verdicts -= gone.verdicts
            self._events = [all_ - some for all_, some in zip(self._events, gone.events, strict=True)]
