"""Make the status from a reading: values only, so that any thread can."""

from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from relay import __version__
from relay.admin.figures import Reading
from relay.admin.ledger import outcomes
from relay.core.fleet import in_hand, is_silent
from relay.core.orphans import orphaned
from relay.core.status import (
    EnvironmentStatus,
    ErrorStatus,
    HourStatus,
    LaneStatus,
    MemberStatus,
    OrphanStatus,
    OutboxKind,
    OutboxStatus,
    Status,
    sentence,
    totals,
)
from relay.fleet import Member, Role
from relay.model import Book, ConfigState, Lane
from relay.sender import LaneState


def status_of(
    reading: Reading,
    *,
    now: float,
    kind: OutboxKind,
    started_at: float | None = None,
    ready: bool = False,
    config: ConfigState | None = None,
    role: Role | None = None,
    members: Sequence[Member] = (),
    members_at: float | None = None,
) -> Status:
    """Everything that is known at *now*; without *started_at*, *config* and *role* no relay runs.

    *members* are the relays that share the outbox, if any do: what all of them have in hand belongs to its books. They
    were found at *members_at*, if not now.
    """
    found_at = now if members_at is None else members_at
    if members:
        reading = replace(reading, in_hand=in_hand(members, found_at))
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
        outbox=_outbox(reading, kind),
        environments=environments,
        orphans=_orphans(reading),
        totals=totals(environments),
        role=role,
        members=[_member(member, found_at) for member in members],
    )


def _environment(name: str, book: Book, reading: Reading, lane: LaneStatus | None) -> EnvironmentStatus:
    in_hand, difference = reading.in_hand.get(name, 0), reading.differences.get(name, 0)
    return EnvironmentStatus(
        name=name,
        captured=outcomes(book) + in_hand + difference,
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


def _outbox(reading: Reading, kind: OutboxKind) -> OutboxStatus:
    return OutboxStatus(
        kind=kind,
        bytes=reading.usage.size if reading.usage else 0,
        capacity=reading.usage.capacity if reading.usage else 0,
        oldest=min(reading.oldest.values(), default=None),
        problem="; ".join(filter(None, (reading.problem, reading.refusal))),
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


def _member(member: Member, found_at: float) -> MemberStatus:
    return MemberStatus(
        name=member.name,
        version=member.version,
        role=member.role,
        started_at=member.started_at,
        seen_at=member.seen_at,
        silent=is_silent(member, found_at),
        in_hand=sum(member.in_hand.values()),
        spooled=member.spooled,
        spool_bytes=member.spool_bytes,
    )
