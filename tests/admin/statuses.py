"""Statuses as a relay might tell them."""

from typing import Any

from msgspec.structs import replace

from relay.core.settle import Kind
from relay.core.status import (
    EnvironmentStatus,
    ErrorStatus,
    ForecastStatus,
    HourStatus,
    LaneStatus,
    OutboxStatus,
    Status,
    WayStatus,
    sentence,
    totals,
)
from relay.model import ConfigState

# 2026-11-24 14:05 UTC
NOW = 1795529100.0
OPEN = LaneStatus("https://heapanalytics.com", "open", status=200, kind=Kind.DELIVERED, answered_at=NOW - 2, used=0.3)
PAUSED = replace(
    OPEN, standing="paused", since=NOW - 180, until=NOW + 40, status=503, kind=Kind.BUSY, failures=4, used=0.0
)
HELD = replace(PAUSED, standing="held", status=404, kind=Kind.DENIED, failures=0)
RECOVERED = replace(OPEN, last_error=ErrorStatus(503, Kind.BUSY, "", NOW - 180))

FORECAST = ForecastStatus(
    send="every_call",
    observed=3 * 3600.0,
    at_most=True,
    every_call=WayStatus(1_200_000, 36_000_000, 3000, 0.2, 0.25),
    on_change=WayStatus(60_000, 1_800_000, 300, 0.02, 0.025),
    verdicts={"every_call": 1_200_000, "filtered": 30_000},
)


def environment(name: str, lane: LaneStatus | None = OPEN, waiting: int = 0, **changes: Any) -> EnvironmentStatus:
    """One that captured a hundred and delivered most of them."""
    dead = sum(changes.get("dead_letters", {}).values())
    made = EnvironmentStatus(
        name=name,
        captured=100 + waiting + dead,
        delivered=90,
        waiting=waiting,
        skipped={"empty": 10},
        oldest=NOW - 180 if waiting else None,
        history=HourStatus((0,) * 57 + (40, 30, 30), (0,) * 57 + (40, 30, 20)),
        lane=lane and replace(lane, sentence=sentence(lane, waiting, NOW)),
    )
    return replace(made, **changes)


def status(*environments: EnvironmentStatus, **changes: Any) -> Status:
    """A relay that has been running for an hour."""
    made = Status(
        version="1.2.3",
        started_at=NOW - 3600,
        now=NOW,
        ready=True,
        config=ConfigState("3f9ac01be22d" + "0" * 52, NOW - 3600),
        outbox=OutboxStatus("sqlite", 1 << 20, 512 << 20, read_at=NOW),
        environments=environments,
        totals=totals(environments),
    )
    return replace(made, **changes)
