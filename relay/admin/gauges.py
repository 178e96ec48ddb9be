"""What the last reading found, as metrics: made when a scraper asks, so that nothing is paid where none does."""

from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relay.admin.figures import Figures, Reading
from relay.core.status import ForecastStatus
from relay.model import Clock
from relay.sender import LaneState

STANDINGS = ("open", "paused", "held")
# Characters of an outbox's name that are told.
SHORT = 12


class Gauges(Collector):
    """Gauges by environment: of those in the YAML, and of those that still have something in the outbox.

    It describes nothing beforehand, so that the promised names `relay_dead_letters` and `relay_dead_letters_total`,
    which a registry would hold for one, can stand beside each other.
    """

    def __init__(self, figures: Figures, clock: Clock) -> None:
        self._figures = figures
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        """One family after the other."""
        reading = self._figures.reading
        states = {name: state for name in reading.environments if (state := reading.state(name))}
        yield from _outbox(reading)
        yield from _spool(reading)
        yield from _events(reading, self._clock.wall())
        yield from _lanes(states)
        ratios = {name: cap.today / cap.events for name, cap in reading.caps.items()}
        yield _gauge("relay_daily_cap_ratio", "Events of this UTC day by the daily cap.", ratios)
        yield from _forecasts(reading.forecasts)


def _outbox(reading: Reading) -> Iterable[Metric]:
    size, capacity = (reading.usage.size, reading.usage.capacity) if reading.usage else (None, None)
    yield GaugeMetricFamily("relay_outbox_bytes", "Storage of the outbox in use.", size)
    yield GaugeMetricFamily("relay_outbox_capacity_bytes", "Storage the outbox may use.", capacity)
    info = GaugeMetricFamily("relay_outbox_info", "1, with the start of the outbox's own name.", labels=["outbox"])
    if reading.installation:
        info.add_metric([reading.installation[:SHORT]], 1)
    yield info
    fails = bool(reading.problem or (reading.usage and reading.usage.obstacle))
    yield GaugeMetricFamily("relay_outbox_failing", "1 while the outbox cannot be read or written.", float(fails))


def _spool(reading: Reading) -> Iterable[Metric]:
    kept = dict.fromkeys(reading.environments, 0) | dict(reading.spooled)
    yield _gauge("relay_spool_events", "Answers that wait in the spool, as a shared outbox is away.", kept)
    yield GaugeMetricFamily("relay_spool_bytes", "Storage of the spool in use.", reading.spool_bytes)


def _events(reading: Reading, now: float) -> Iterable[Metric]:
    books = reading.kept() if reading.read_at is not None else {}
    ages = {name: max(0.0, now - reading.oldest[name]) if name in reading.oldest else 0.0 for name in books}
    dead_letters = {name: sum(book.dead_letters.values()) for name, book in books.items()}
    waiting = {name: book.waiting for name, book in books.items()}
    remembered = {name: reading.remembered.get(name, 0) for name in books}
    differences = dict.fromkeys(books, 0) | {name: by for name, by in reading.differences.items() if by}
    yield _gauge("relay_outbox_events", "Events waiting, claimed ones too.", waiting)
    yield _gauge("relay_outbox_oldest_seconds", "How long the oldest event has waited.", ages)
    yield _gauge("relay_dead_letters", "Dead letters stored now.", dead_letters)
    yield _gauge("relay_remembered", "Identities of whom it is remembered what was sent last.", remembered)
    yield _gauge("relay_books_difference", "What the books are off by; always zero.", differences)


def _lanes(states: Mapping[str, LaneState]) -> Iterable[Metric]:
    used = {name: state.used for name, state in states.items()}
    yield _gauge("relay_budget_used_ratio", "Part of its budget at Heap that the last minute used.", used)
    family = GaugeMetricFamily(
        "relay_lane_state", "1 for how the environment's Heap app stands, else 0.", labels=["environment", "state"]
    )
    for name, state in states.items():
        for standing in STANDINGS:
            family.add_metric([name, standing], float(state.standing == standing))
    yield family


def _forecasts(forecasts: Mapping[str, ForecastStatus]) -> Iterable[Metric]:
    events = GaugeMetricFamily(
        "relay_forecast_events_per_day", "Events a day at the present pace.", labels=["environment", "mode"]
    )
    for name, forecast in forecasts.items():
        events.add_metric([name, "every_call"], forecast.every_call.a_day)
        events.add_metric([name, "on_change"], forecast.on_change.a_day)
    yield events
    busiest = {name: forecast.in_force.of_limit for name, forecast in forecasts.items()}
    yield _gauge("relay_busiest_minute_ratio", "Part of Heap's limit for an app that the busiest minute used.", busiest)


def _gauge(name: str, text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["environment"])
    for environment, value in values.items():
        family.add_metric([environment], value)
    return family
