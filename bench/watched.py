"""What it costs the request path to be watched, as relays are: one environment or many, with or without watchers."""

import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench import load
from bench.comparison import ACQUAINTED, BUSY_CONNECTIONS, flagsmith
from bench.load import Demand
from bench.process import free_port, python
from bench.relays import MeasuredRelay, relay

MANY = 1_000
# Who asks, and how often: Prometheus, four times as often as by default (prometheus.io/docs/prometheus/latest/
# configuration/configuration/#configuration-file), a status page that is open, and probes, each in seconds.
EVERY_SECONDS = {"/metrics": 15.0, "/status.json": 2.0, "/healthz": 1.0, "/readyz": 1.0}
# A measurement sees as much of each as the next one.
SECONDS = 15


@dataclass(frozen=True, slots=True)
class Case:
    """A relay, and whether somebody watches it."""

    relay: MeasuredRelay
    environments: int
    watched: bool


@dataclass(frozen=True, slots=True)
class Cost:
    """What flag calls cost in one case."""

    environments: int
    watched: bool
    per_second: float
    # Processor time of the relay per request, that for whoever asks included.
    cpu_microseconds: float
    # Microseconds from sending a request to its whole answer, over a single connection.
    p50: float
    p99: float


def compare(folder: Path, rounds: int) -> Sequence[Sequence[Cost]]:
    """Measure in turn, *rounds* times, so that what else the machine does meets all alike.

    All environments have one Heap app: what an app more costs is another question. They send on change, and nothing
    changes, so that the last round finds the relays as the first one did.
    """
    with ExitStack() as stack:
        origin = stack.enter_context(flagsmith(folder))
        heap = stack.enter_context(python("bench.heap", free_port()))
        cases = []
        for number in (1, MANY):
            name = f"with-{number}"
            each = stack.enter_context(relay(folder, name, origin.url, heap.url, number, apps=1, send="on_change"))
            load.run(each.process.url, Demand(BUSY_CONNECTIONS, ACQUAINTED, number))
            each.wait_until_delivered()
            cases += [Case(each, number, watched) for watched in (False, True)]
        return [[_measure(case) for case in cases] for _ in range(rounds)]


def _measure(case: Case) -> Cost:
    process = case.relay.process
    with _asking(case.relay.admin) if case.watched else nullcontext():
        used = process.cpu_seconds
        busy = load.run(process.url, Demand(BUSY_CONNECTIONS, SECONDS, case.environments))
        used = process.cpu_seconds - used
        time.sleep(1)  # capture and commit come after the answers
        single = load.run(process.url, Demand(1, SECONDS, case.environments))
    process.rest()
    cpu_microseconds = used * 1e6 / busy.requests
    return Cost(case.environments, case.watched, busy.per_second, cpu_microseconds, single.p50, single.p99)


@contextmanager
def _asking(admin: str) -> Iterator[None]:
    """Everybody asks the admin port, each on time, however long the answers take."""
    ended = threading.Event()
    watchers = [
        threading.Thread(target=_ask, args=(admin + path, every, ended)) for path, every in EVERY_SECONDS.items()
    ]
    for each in watchers:
        each.start()
    try:
        yield
    finally:
        ended.set()
        for each in watchers:
            each.join()


def _ask(url: str, every: float, ended: threading.Event) -> None:
    # In the middle of its time first, so that a measurement which is as long sees one of each.
    began = time.monotonic() - every / 2
    times = count(1)
    while not ended.wait(max(0.0, began + next(times) * every - time.monotonic())):
        with urllib.request.urlopen(url) as answer:
            answer.read()
