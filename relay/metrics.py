"""What the relay counts while it works, declared together and given a registry; admin.gauges has what it finds."""

import platform
from collections.abc import Collection
from dataclasses import dataclass, fields

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics import MetricWrapperBase

from relay import __version__
from relay.core.reasons import DEAD, DROPPED, REFUSED, RELOADED, SENT, UPSTREAM
from relay.core.settle import Kind

# A flag call is answered within milliseconds or not at all: fine steps low, few above a second.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
# A batch is two seconds old when it leaves; what waits out an outage may be days old.
LAG = (1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 604800.0)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The counts of one relay. Labels are closed sets: names from the YAML, reasons, answers; never a person."""

    requests: Counter
    upstream_seconds: Histogram
    added_seconds: Histogram
    upstream_errors: Counter
    upstream_repeats: Counter
    callers_stalled: Counter
    in_flight: Gauge
    unknown_keys: Counter
    captured: Counter
    events: Counter
    skipped: Counter
    refused: Counter
    altered: Counter
    capture_failures: Counter
    commit_timeouts: Counter
    superseded: Counter
    dropped: Counter
    delivered: Counter
    dead_letters_made: Counter
    attempts: Counter
    batch_events: Histogram
    delivery_lag: Histogram
    config_reloads: Counter
    config_stale: Gauge
    config_info: Gauge
    config_loaded: Gauge
    task_restarts: Counter

    @classmethod
    def on(cls, registry: CollectorRegistry) -> "Metrics":
        """Declare all of them on *registry*."""
        # When each series was made would double the text, and Prometheus does not read it there.
        disable_created_metrics()  # type: ignore[no-untyped-call]

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        metrics = cls(
            requests=counter("relay_requests", "Requests answered.", "environment", "endpoint", "status_class"),
            upstream_seconds=histogram(
                "relay_upstream_seconds", "From sending a request to Flagsmith until its answer's headers.", SECONDS
            ),
            added_seconds=histogram(
                "relay_added_seconds", "What the relay adds until the answer's headers: total less upstream.", SECONDS
            ),
            upstream_errors=counter("relay_upstream_errors", "Requests answered 502 or 504 by the relay.", "reason"),
            upstream_repeats=counter(
                "relay_upstream_repeats", "Requests sent once more because a reused connection had died."
            ),
            callers_stalled=counter("relay_callers_stalled", "Answers cut because their caller stopped to read."),
            in_flight=gauge("relay_in_flight", "Requests being answered now."),
            unknown_keys=counter("relay_unknown_keys", "Identity calls whose environment key is not in the YAML."),
            captured=counter("relay_captured", "Identity answers captured.", "environment"),
            events=counter("relay_events", "Events made, by why they are to be sent.", "environment", "reason"),
            skipped=counter("relay_skipped", "Captured, and rightly not sent.", "environment", "reason"),
            refused=counter("relay_refused", "Captured, but could not be kept.", "environment", "reason"),
            altered=counter("relay_altered", "Values or names made acceptable for Heap.", "environment", "reason"),
            capture_failures=counter("relay_capture_failures", "Bugs in capture; each cost one event, and no flags."),
            commit_timeouts=counter("relay_commit_timeouts", "Answers sent before their commit was known."),
            superseded=counter("relay_superseded", "Waiting events replaced by a newer one.", "environment"),
            dropped=counter("relay_dropped", "Removed by an operator or a stated cap.", "environment", "reason"),
            delivered=counter("relay_delivered", "Events that Heap accepted.", "environment"),
            dead_letters_made=counter("relay_dead_letters", "Events set aside.", "environment", "reason"),
            attempts=counter("relay_attempts", "Requests to Heap by how they ended.", "answer"),
            batch_events=histogram("relay_batch_events", "Events in one request to Heap.", BATCH),
            delivery_lag=histogram(
                "relay_delivery_lag_seconds", "From Flagsmith's answer until Heap accepted its event.", LAG
            ),
            config_reloads=counter("relay_config_reloads", "Changed configuration files noticed.", "result"),
            config_stale=gauge("relay_config_stale", "1 while the configuration file is not what runs, else 0."),
            config_info=gauge("relay_config_info", "1, with the start of the running content's digest.", "digest"),
            config_loaded=gauge("relay_config_loaded_timestamp_seconds", "When the running configuration was loaded."),
            task_restarts=counter("relay_task_restarts", "Tasks that crashed and were started again.", "task"),
        )
        for kind in Kind:
            metrics.attempts.labels(kind)
        for reason in UPSTREAM:
            metrics.upstream_errors.labels(reason)
        for result in RELOADED:
            metrics.config_reloads.labels(result)
        return metrics

    def begin(self, environments: Collection[str]) -> None:
        """Let what is to be watched be there at 0, so that its first change is seen as one."""
        events = ((self.events, SENT), (self.refused, REFUSED))
        reasons = (*events, (self.dead_letters_made, DEAD), (self.dropped, DROPPED))
        for environment in environments:
            for metric in (self.captured, self.delivered, self.superseded):
                metric.labels(environment)
            for metric, words in reasons:
                for reason in words:
                    metric.labels(environment, reason)

    def forget(self, environments: Collection[str]) -> None:
        """End every series of *environments*."""
        for field in fields(self):
            metric: MetricWrapperBase = getattr(self, field.name)
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
