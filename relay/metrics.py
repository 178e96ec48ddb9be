"""Every metric of the relay, declared together and given a registry."""

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# A flag call is answered within milliseconds or not at all: fine steps low, few above a second.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class _Undescribed(Collector):
    """Lets `relay_dead_letters_total` stand beside the gauge `relay_dead_letters`.

    Both names are promised, and distinct in the text format, but the registry would hold them for one.
    """

    def __init__(self, inner: Counter) -> None:
        self._inner = inner

    def collect(self) -> Iterable[Metric]:
        return self._inner.collect()


@dataclass(frozen=True, slots=True)
class Metrics:
    """The counters of one relay. Labels are closed sets: names from the YAML, reasons, answers; never a person."""

    requests: Counter
    upstream_seconds: Histogram
    added_seconds: Histogram
    upstream_errors: Counter
    upstream_repeats: Counter
    in_flight: Gauge
    unknown_keys: Counter
    captured: Counter
    skipped: Counter
    refused: Counter
    altered: Counter
    capture_failures: Counter
    commit_timeouts: Counter
    superseded: Counter
    dropped: Counter
    delivered: Counter
    dead_letters: Gauge
    dead_letters_made: Counter
    attempts: Counter
    batch_events: Histogram
    outbox_events: Gauge
    outbox_bytes: Gauge
    outbox_capacity: Gauge
    outbox_oldest: Gauge
    books_difference: Gauge
    config_reloads: Counter
    config_stale: Gauge
    config_info: Gauge
    config_loaded: Gauge
    task_restarts: Counter

    @classmethod
    def on(cls, registry: CollectorRegistry) -> "Metrics":
        """Declare all of them on *registry*."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        made = Counter("relay_dead_letters", "Events set aside.", ("environment", "reason"), registry=None)
        registry.register(_Undescribed(made))
        return cls(
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
            in_flight=gauge("relay_in_flight", "Requests being answered now."),
            unknown_keys=counter("relay_unknown_keys", "Identity calls whose environment key is not in the YAML."),
            captured=counter("relay_captured", "Identity answers captured.", "environment"),
            skipped=counter("relay_skipped", "Captured, and rightly not sent.", "environment", "reason"),
            refused=counter("relay_refused", "Captured, but could not be kept.", "environment", "reason"),
            altered=counter("relay_altered", "Values or names made acceptable for Heap.", "environment", "reason"),
            capture_failures=counter("relay_capture_failures", "Bugs in capture; each cost one event, and no flags."),
            commit_timeouts=counter("relay_commit_timeouts", "Answers sent before their commit was known."),
            superseded=counter("relay_superseded", "Waiting events replaced by a newer one.", "environment"),
            dropped=counter("relay_dropped", "Removed by an operator or a stated cap.", "environment", "reason"),
            delivered=counter("relay_delivered", "Events that Heap accepted.", "environment"),
            dead_letters=gauge("relay_dead_letters", "Dead letters stored now.", "environment"),
            dead_letters_made=made,
            attempts=counter("relay_attempts", "Requests to Heap by how they ended.", "answer"),
            batch_events=histogram("relay_batch_events", "Events in one request to Heap.", BATCH),
            outbox_events=gauge("relay_outbox_events", "Events waiting, claimed ones too.", "environment"),
            outbox_bytes=gauge("relay_outbox_bytes", "Storage of the outbox in use."),
            outbox_capacity=gauge("relay_outbox_capacity_bytes", "Storage the outbox may use."),
            outbox_oldest=gauge("relay_outbox_oldest_seconds", "Age of the oldest waiting event."),
            books_difference=gauge("relay_books_difference", "What the books are off by; always zero.", "environment"),
            config_reloads=counter("relay_config_reloads", "Changed configuration files noticed.", "result"),
            config_stale=gauge("relay_config_stale", "1 while the configuration file is not what runs, else 0."),
            config_info=gauge("relay_config_info", "1, with the start of the running content's digest.", "digest"),
            config_loaded=gauge("relay_config_loaded_timestamp_seconds", "When the running configuration was loaded."),
            task_restarts=counter("relay_task_restarts", "Tasks that crashed and were started again.", "task"),
        )
