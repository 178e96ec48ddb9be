"""A status as plain text for a support ticket: `relay status`, `/status.txt` and the page's copy button."""

from collections.abc import Iterator, Mapping

from relay.core.settle import Kind
from relay.core.status import (
    CapStatus,
    EnvironmentStatus,
    ErrorStatus,
    ForecastStatus,
    LaneStatus,
    MemberStatus,
    OrphanStatus,
    Status,
    Totals,
    clock,
    count,
    moment,
    span,
)
from relay.model import ConfigState

MIB = 2.0**20
UNKNOWN = "not known: the outbox was not read yet"
# Figures are read every second; older ones are told with their time.
OLD_SECONDS = 10.0


def report(status: Status) -> str:
    """All of *status* in lines that fit a terminal."""
    lines = [*_head(status), "", *_orphans(status), *_members(status)]
    for environment in status.environments:
        lines += [*_environment(environment, status.now, known=status.outbox.read_at is not None), ""]
    if not status.environments:
        lines += ["No environment is named in the YAML: flags are forwarded, nothing is captured.", ""]
    return "\n".join(lines)


def _head(status: Status) -> Iterator[str]:
    yield f"Flagsmith → Heap relay {status.version}, {moment(status.now)}"
    if status.started_at is None:
        yield _fact("relay", "not running; this is what stands in its outbox")
    else:
        ready = "ready" if status.ready else "not ready"
        role = "" if status.role in {None, "all"} else f", a {status.role}"
        yield _fact("relay", f"{ready}, running for {span(status.now - status.started_at)}{role}")
    if status.config is not None:
        yield from _config(status.config, status.now)
    yield _fact("outbox", _outbox(status))
    if status.outbox.read_at is None:
        yield _fact("totals", UNKNOWN)
    else:
        yield from _totals(status.totals)


def _totals(total: Totals) -> Iterator[str]:
    sums = f"{total.captured:,} captured, {total.delivered:,} delivered, {total.waiting:,} waiting"
    yield _fact("totals", f"{sums}, {count(total.dead_letters, 'dead letter')}, {total.refused:,} refused")
    balanced = "balanced" if not total.difference else f"off by {total.difference:,}: please report this as a bug"
    yield _fact("books", balanced)


def _config(config: ConfigState, now: float) -> Iterator[str]:
    content = f"content {config.digest[:12]}" if config.digest else "no file"
    yield _fact("config", f"{content}, loaded {clock(config.loaded_at, now)}")
    if config.last_good:
        yield _fact("", "LAST GOOD COPY: the file had mistakes when the relay was started")
    elif config.stale:
        yield _fact("", "STALE: the file holds something else, and the relay goes on with what it has")
    yield from (_fact("", mistake) for mistake in config.mistakes)
    if config.needs_restart:
        yield _fact("", f"RESTART to have what the file says of {', '.join(config.needs_restart)}")


def _outbox(status: Status) -> str:
    outbox = status.outbox
    failing = f", FAILING: {outbox.problem}" if outbox.problem else ""
    if outbox.read_at is None:
        return f"{outbox.kind}{failing}"
    share = f"{outbox.bytes / MIB:,.1f} of {outbox.capacity / MIB:,.0f} MiB{_age(outbox.oldest, status.now)}"
    old = f"; read last at {clock(outbox.read_at, status.now)}" if status.now - outbox.read_at > OLD_SECONDS else ""
    return f"{outbox.kind}, {share}{failing}{old}"


def _orphans(status: Status) -> Iterator[str]:
    for orphan in status.orphans:
        yield _orphan(orphan, status.now)
    if status.orphans:
        yield "  Name its app in the YAML again, or see `relay orphans`."
        yield ""


def _orphan(orphan: OrphanStatus, now: float) -> str:
    whose = ", ".join(orphan.environments)
    waiting = f"{count(orphan.events, 'event')} at {orphan.heap}{_age(orphan.oldest, now)}"
    return f"ORPHANED: {waiting}, captured for {whose}; no environment names this app any more."


def _members(status: Status) -> Iterator[str]:
    if status.members:
        silent = sum(member.silent for member in status.members)
        yield _fact("fleet", count(len(status.members), "relay") + (f", {silent:,} of them SILENT" if silent else ""))
        yield from (_fact("", _member(member, status.now)) for member in status.members)
        yield ""


def _member(member: MemberStatus, now: float) -> str:
    parts = [f"{member.name} {member.role} {member.version}", f"seen {span(now - member.seen_at)} ago"]
    if member.silent:
        parts[1] = f"SILENT since {clock(member.seen_at, now)}"
    if member.in_hand:
        parts.append(f"{member.in_hand:,} in hand")
    if member.spooled:
        parts.append(f"{member.spooled:,} of them in its spool ({member.spool_bytes / MIB:,.1f} MiB)")
    return ", ".join(parts)


def _environment(environment: EnvironmentStatus, now: float, *, known: bool) -> Iterator[str]:
    lane = environment.lane
    yield environment.name
    if lane is not None:
        yield _fact("  lane", lane.sentence)
        answer = "" if lane.answered_at is None else f", last answer: {_said(lane, now)}"
        yield _fact("  heap", f"{lane.heap}{answer}")
        if lane.last_error is not None and lane.kind == Kind.DELIVERED:
            yield _fact("  error", f"{_said(lane.last_error, now)}, good since")
    hour = environment.history
    if hour.captured:
        yield _fact("  hour", f"{sum(hour.captured):,} captured, {sum(hour.delivered):,} delivered")
    if environment.forecast is not None:
        yield from _forecast(environment.forecast)
    if environment.daily_cap is not None:
        yield _fact("  cap", _cap(environment.daily_cap))
    if environment.oldest is not None:
        yield _fact("  oldest", f"waits for {span(now - environment.oldest)}")
    yield _fact("  books", _books(environment) if known else UNKNOWN)
    for name, reasons in _reasons(environment):
        yield _fact(f"  {name}", ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items())))


def _said(answer: LaneStatus | ErrorStatus, now: float) -> str:
    place = f" about {answer.at}" if answer.at else ""
    return f"{answer.kind} {answer.status or ''}".rstrip() + f"{place} at {clock(answer.answered_at or now, now)}"


def _forecast(forecast: ForecastStatus) -> Iterator[str]:
    most = "at most " if forecast.at_most else ""
    ways = f"{forecast.every_call.a_day:,} by every_call, {most}{forecast.on_change.a_day:,} by on_change"
    yield _fact("  a day", f"{ways}, after {span(forecast.observed)} of traffic")
    busiest = forecast.in_force
    minute = f"{count(busiest.busiest_minute, 'event')} in the busiest minute"
    yield _fact("  peak", f"{minute}, {busiest.of_limit:.1%} of Heap's limit, {busiest.of_share:.1%} of its share")


def _cap(daily: CapStatus) -> str:
    then = "then the rest of the day is skipped" if daily.then == "stop" else "then nothing but a warning"
    return f"{daily.today:,} of {daily.events:,} events today ({daily.today / daily.events:.0%}), {then}"


def _books(environment: EnvironmentStatus) -> str:
    parts = {
        "delivered": environment.delivered,
        "waiting": environment.waiting,
        "skipped": sum(environment.skipped.values()),
        "refused": sum(environment.refused.values()),
        "dead letters": sum(environment.dead_letters.values()),
        "dropped": sum(environment.dropped.values()),
        "superseded": environment.superseded,
        "in hand": environment.in_hand,
        "DIFFERENCE": environment.difference,
    }
    shown = [f"{number:,} {name}" for name, number in parts.items() if number or name in {"delivered", "waiting"}]
    return f"{environment.captured:,} captured = {' + '.join(shown)}"


def _reasons(environment: EnvironmentStatus) -> Iterator[tuple[str, Mapping[str, int]]]:
    books = {
        "skipped": environment.skipped,
        "refused": environment.refused,
        "dropped": environment.dropped,
        "dead": environment.dead_letters,
    }
    yield from ((name, reasons) for name, reasons in books.items() if any(reasons.values()))


def _fact(name: str, text: str) -> str:
    return f"{name:<10}{text}"


def _age(oldest: float | None, now: float) -> str:
    return "" if oldest is None else f", the oldest for {span(now - oldest)}"
