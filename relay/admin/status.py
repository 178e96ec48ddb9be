"""Make the status from a reading: values only, so that any thread can."""

from collections import Counter
from dataclasses import replace

from relay import __version__
from relay.admin.figures import Reading
from relay.core.orphans import orphaned
from relay.core.status import (
    EnvironmentStatus,
    ErrorStatus,
    HourStatus,
    LaneStatus,
    OrphanStatus,
    OutboxStatus,
    Status,
    sentence,
    totals,
)
from relay.model import Book, ConfigState, Lane
from relay.sender import LaneState


def status_of(
    reading: Reading,
    *,
    now: float,
    in_memory: bool,
    started_at: float | None = None,
    ready: bool = False,
    config: ConfigState | None = None,
) -> Status:
    """Everything that is known at *now*; without *started_at* and *config* no relay runs."""
    waiting, left = _waiting(reading), _left(reading)
    lanes = {
        name: _lane(state, waiting.get((state.lane, name)), left[name], now)
        for name in reading.environments
        if (state := reading.state(name))
    }
    environments = [_environment(name, book, reading, lanes.get(name)) for name, book in reading.kept().items()]
    return Status(
        version=__version__,
        started_at=started_at,
        now=now,
        ready=ready,
        config=config,
        outbox=_outbox(reading, in_memory),
        environments=environments,
        orphans=_orphans(reading),
        totals=totals(environments),
    )


def _environment(name: str, book: Book, reading: Reading, lane: LaneStatus | None) -> EnvironmentStatus:
    in_hand, difference = reading.in_hand.get(name, 0), reading.differences.get(name, 0)
    return EnvironmentStatus(
        name=name,
        captured=book.captured + in_hand + difference,
        delivered=book.delivered,
        superseded=book.superseded,
        waiting=book.waiting,
        in_hand=in_hand,
        difference=difference,
        skipped=book.skipped,
        refused=book.refused,
        dropped=book.dropped,
        dead_letters=book.dead_letters,
        oldest=reading.oldest.get(name),
        history=reading.hours.get(name, HourStatus()),
        lane=lane,
        daily_cap=reading.caps.get(name),
        forecast=reading.forecasts.get(name),
    )


def _waiting(reading: Reading) -> dict[tuple[Lane, str], int]:
    """What waits in each environment's own lane; nothing where that is not known."""
    if reading.read_at is None:
        return {}
    none = {(lane, name): 0 for name, lane in reading.environments.items()}
    return none | {(level.lane, level.environment): level.events for level in reading.levels}


def _left(reading: Reading) -> Counter[str]:
    """What of each environment waits for another app than the one it has now."""
    left: Counter[str] = Counter()
    for level in reading.levels:
        if level.lane != reading.environments.get(level.environment):
            left[level.environment] += level.events
    return left


def _lane(state: LaneState, waiting: int | None, left: int, now: float) -> LaneStatus:
    answer, error = state.answer, state.error
    lane = LaneStatus(
        heap=state.lane.url,
        standing=state.standing,
        since=state.since,
        until=state.until,
        status=answer.status if answer else 0,
        kind=answer.kind if answer else "",
        at=answer.path if answer else "",
        answered_at=answer.at if answer else None,
        used=round(state.used, 3),
        failures=state.failures,
        last_error=ErrorStatus(error.status, error.kind, error.path, error.at) if error else None,
    )
    return replace(lane, sentence=sentence(lane, waiting, now, left))


def _outbox(reading: Reading, in_memory: bool) -> OutboxStatus:
    return OutboxStatus(
        kind="memory" if in_memory else "sqlite",
        bytes=reading.usage.size if reading.usage else 0,
        capacity=reading.usage.capacity if reading.usage else 0,
        oldest=min(reading.oldest.values(), default=None),
        problem=reading.problem or reading.refusal,
        read_at=reading.read_at,
    )


def _orphans(reading: Reading) -> list[OrphanStatus]:
    """The fullest first."""
    lanes = orphaned(reading.levels, set(reading.environments.values()))
    orphans = [
        OrphanStatus(
            heap=lane.url,
            events=sum(level.events for level in here),
            oldest=min(level.oldest for level in here),
            environments=sorted(level.environment for level in here),
        )
        for lane, here in lanes.items()
    ]
    return sorted(orphans, key=lambda orphan: -orphan.events)
