"""The forecasts of a status as a table for a terminal: `relay status --forecast`."""

from collections.abc import Iterator

from relay.core.status import ForecastStatus, Status, WayStatus, span

HEAD = (
    "Events at the pace since the relay was started, of the last day at most; a month is 30 days.\n"
    "Heap takes 15,000 events a minute of an app; heap.share says how much of that is this relay's."
)
COLUMNS = ("a day", "a month", "busiest minute", "of Heap's limit", "of its share")


def prospect(status: Status) -> str:
    """What each environment of *status* would send."""
    lines = [HEAD, ""]
    for environment in status.environments:
        if environment.forecast is not None:
            lines += [*_environment(environment.name, environment.forecast), ""]
    return "\n".join(lines)


def _environment(name: str, forecast: ForecastStatus) -> Iterator[str]:
    yield f"{name}, after {span(forecast.observed)} of traffic; in force is {forecast.send}"
    yield _row("", *COLUMNS)
    yield _way("every_call", forecast.every_call, "")
    yield _way("on_change", forecast.on_change, "≤ " if forecast.at_most else "")
    yield "  answers a day by verdict"
    for reason, times in sorted(forecast.verdicts.items(), key=lambda verdict: -verdict[1]):
        yield _row(f"  {reason}", f"{times:,}")


def _way(name: str, way: WayStatus, most: str) -> str:
    events = (f"{most}{number:,}" for number in (way.a_day, way.a_month, way.busiest_minute))
    return _row(name, *events, f"{way.of_limit:.1%}", f"{way.of_share:.1%}")


def _row(name: str, *cells: str) -> str:
    return f"  {name:<18}" + "".join(f"{cell:>17}" for cell in cells)
