"""What the relay counts while it works, declared together and given a registry; admin.gauges has what it finds."""

import platform
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import accumulate
from math import inf
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from relay import __version__
from relay.core.reasons import DEAD, DROPPED, REFUSED, RELOADED, SENT, UPSTREAM
from relay.core.settle import Kind

# A flag call is answered within milliseconds or not at all: fine steps low, few above a second.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
# A batch is two seconds old when it leaves; what waits out an outage may be days old.
LAG = (1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 604800.0)


class Begun(Counter):
    """Counts by environment and reason, and tells of what has not happened yet that it is 0.

    Most of it never happens. To tell it this way takes a tenth of the time and of the memory of a series that counts.
    """

    _zeros: Mapping[tuple[str, ...], Sample] = {}

    def begin(self, environments: Iterable[str], reasons: Sequence[str]) -> None:
        """From now on *environments* have all of these *reasons*."""
        [family] = self.describe()
        name = f"{family.name}_total"
        labels = [{"environment": each, "reason": reason} for each in environments for reason in reasons]
        # A new mapping: a scrape may be going through the old one in another thread.
        self._zeros = {**self._zeros, **{tuple(these.values()): Sample(name, these, 0.0) for these in labels}}

    def end(self, environments: Collection[str]) -> None:
        """*environments* have nothing at 0 any more."""
        self._zeros = {labels: zero for labels, zero in self._zeros.items() if labels[0] not in environments}

    def collect(self) -> Iterable[Metric]:
        """What counts, then what is at 0."""
        for family in super().collect():
            counting = {tuple(sample.labels.values()) for sample in family.samples}
            family.samples += [zero for labels, zero in self._zeros.items() if labels not in counting]
            yield family


class Amounts(Collector):
    """A histogram that one thread alone observes: prometheus_client's own takes locks, and six times as long."""

    def __init__(self, name: str, text: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._text = name, text
        self._buckets = (*buckets, inf)
        self._counts = [0] * len(self._buckets)
        self._sum = 0.0
        registry.register(self)

    def observe(self, amount: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._buckets, amount)] += 1
        self._sum += amount

    def collect(self) -> Iterable[Metric]:
        """One family."""
        edges = map(floatToGoString, self._buckets)
        yield HistogramMetricFamily(
            self._name, self._text, [*zip(edges, accumulate(self._counts), strict=True)], self._sum
        )


def counter(name: str, text: str, *labels: str) -> Any:
    """A field that counts."""
    return field(metadata={"make": partial(Counter, name, text, labels)})


def begun(name: str, text: str) -> Any:
    """A field that counts by environment and reason, from 0 on."""
    return field(metadata={"make": partial(Begun, name, text, ("environment", "reason"))})


def gauge(name: str, text: str, *labels: str) -> Any:
    """A field that goes up and down."""
    return field(metadata={"make": partial(Gauge, name, text, labels)})


def amounts(name: str, text: str, buckets: Sequence[float]) -> Any:
    """A field that counts by size."""
    return field(metadata={"make": partial(Amounts, name, text, buckets)})


@dataclass(frozen=True, slots=True)
class Metrics:
    """The counts of one relay. Labels are closed sets: names from the YAML, reasons, answers; never a person."""

    requests: Counter = counter("relay_requests", "Requests answered.", "environment", "endpoint", "status_class")
    upstream_seconds: Amounts = amounts(
        "relay_upstream_seconds", "From sending a request to Flagsmith until its answer's headers.", SECONDS
    )
    added_seconds: Amounts = amounts(
        "relay_added_seconds", "What the relay adds until the answer's headers: total less upstream.", SECONDS
    )
    upstream_errors: Counter = counter("relay_upstream_errors", "Requests answered 502 or 504 by the relay.", "reason")
    upstream_repeats: Counter = counter(
        "relay_upstream_repeats", "Requests sent once more because a reused connection had died."
    )
    callers_stalled: Counter = counter("relay_callers_stalled", "Answers cut because their caller stopped to read.")
    in_flight: Gauge = gauge("relay_in_flight", "Requests being answered now.")
    unknown_keys: Counter = counter("relay_unknown_keys", "Identity calls whose environment key is not in the YAML.")
    captured: Counter = counter("relay_captured", "Identity answers captured.", "environment")
    events: Begun = begun("relay_events", "Events made, by why they are to be sent.")
    skipped: Counter = counter("relay_skipped", "Captured, and rightly not sent.", "environment", "reason")
    refused: Begun = begun("relay_refused", "Captured, but could not be kept.")
    altered: Counter = counter("relay_altered", "Values or names made acceptable for Heap.", "environment", "reason")
    capture_failures: Counter = counter("relay_capture_failures", "Bugs in capture, or memory it did not get.")
    commit_timeouts: Counter = counter("relay_commit_timeouts", "Answers sent before their commit was known.")
    superseded: Counter = counter("relay_superseded", "Waiting events replaced by a newer one.", "environment")
    dropped: Begun = begun("relay_dropped", "Removed by an operator or a stated cap.")
    delivered: Counter = counter("relay_delivered", "Events that Heap accepted.", "environment")
    dead_letters_made: Begun = begun("relay_dead_letters", "Events set aside.")
    attempts: Counter = counter("relay_attempts", "Requests to Heap by how they ended.", "answer")
    batch_events: Amounts = amounts("relay_batch_events", "Events in one request to Heap.", BATCH)
    delivery_lag: Amounts = amounts(
        "relay_delivery_lag_seconds", "From Flagsmith's answer until Heap accepted its event.", LAG
    )
    config_reloads: Counter = counter("relay_config_reloads", "Changed configuration files noticed.", "result")
    config_stale: Gauge = gauge("relay_config_stale", "1 while the configuration file is not what runs, else 0.")
    config_info: Gauge = gauge("relay_config_info", "1, with the start of the running content's digest.", "digest")
    config_loaded: Gauge = gauge("relay_config_loaded_timestamp_seconds", "When the running configuration was loaded.")
    task_restarts: Counter = counter("relay_task_restarts", "Tasks that crashed and were started again.", "task")

    @classmethod
    def on(cls, registry: CollectorRegistry) -> "Metrics":
        """Declare all of them on *registry*."""
        # When each series was made would double the text, and Prometheus does not read it there.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
        metrics = cls(**{one.name: one.metadata["make"](registry=registry) for one in fields(cls)})
        for kind in Kind:
            metrics.attempts.labels(kind)
        for reason in UPSTREAM:
            metrics.upstream_errors.labels(reason)
        for result in RELOADED:
            metrics.config_reloads.labels(result)
        return metrics

    def begin(self, environments: Collection[str]) -> None:
        """Let what is to be watched be there at 0, so that its first change is seen as one."""
        for environment in environments:
            for metric in (self.captured, self.delivered, self.superseded):
                metric.labels(environment)
        self.events.begin(environments, SENT)
        self.refused.begin(environments, REFUSED)
        self.dead_letters_made.begin(environments, DEAD)
        self.dropped.begin(environments, DROPPED)

    def end(self, environments: Collection[str]) -> None:
        """End every series of *environments*."""
        for one in fields(self):
            metric: MetricWrapperBase = getattr(self, one.name)
            if isinstance(metric, Begun):
                metric.end(environments)
            for sample in [sample for family in metric.collect() for sample in family.samples]:
                if sample.labels.get("environment") in environments:
                    metric.remove(*sample.labels.values())


def describe_process(registry: CollectorRegistry) -> None:
    """Declare what is told of this process rather than of its work: build, memory, files, processor, collector."""
    Info("relay_build", "What runs.", registry=registry).info(
        {"version": __version__, "python": platform.python_version()}
    )
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
