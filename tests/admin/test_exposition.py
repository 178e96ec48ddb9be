"""What a scraper is told is what prometheus_client would tell it."""

import math

import pytest
from prometheus_client import CollectorRegistry, Gauge, Info, generate_latest

from relay.admin.exposition import exposition
from relay.metrics import Metrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_every_kind_of_metric_is_written_as_prometheus_client_writes_it(registry: CollectorRegistry) -> None:
    metrics = Metrics.on(registry)
    metrics.begin(["tests"])
    metrics.requests.labels("tests", "flags", "2xx").inc()
    metrics.refused.labels("tests", "memory").inc(3)
    metrics.added_seconds.observe(0.002)
    metrics.in_flight.set(5)
    Info("build", "What runs.", registry=registry).info({"version": "1.2.3", "python": "3.11"})

    assert exposition(registry) == generate_latest(registry)


@pytest.mark.parametrize("name", ['quo"ted', "back\\slash", "two\nlines", "\\n", "größe", "a{b=c},d e", ""])
def test_any_name_of_an_environment_is_written_as_prometheus_client_writes_it(
    registry: CollectorRegistry, name: str
) -> None:
    Gauge("waiting", "Events.", ["environment"], registry=registry).labels(name).set(1)

    assert exposition(registry) == generate_latest(registry)


@pytest.mark.parametrize("value", [0, 1, -2.5, 0.1, 1e-9, 123456789.0, 1e10, 1.5e300, math.inf, -math.inf, math.nan])
def test_any_number_is_written_as_prometheus_client_writes_it(registry: CollectorRegistry, value: float) -> None:
    Gauge("waiting", "Events.", registry=registry).set(value)

    assert exposition(registry) == generate_latest(registry)
