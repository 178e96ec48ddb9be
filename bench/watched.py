"""What it costs the request path to be watched: one environment or many, left alone or asked all the time."""

import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench import load
from bench.comparison import BUSY_CONNECTIONS, flagsmith
from bench.load import Demand
from bench.process import free_port, python
from bench.relays import MeasuredRelay, relay

MANY = 1_000
EVERY_SECONDS = 1.0
PATHS = ("/metrics", "/status.json", "/healthz")


@dataclass(frozen=True, slots=True)
class Case:
    """A relay, and whether somebody watches it."""

    relay: MeasuredRelay
    environments: int
    watched: bool


@dataclass(frozen=True, slots=True)
class Cost:
    """What flag calls cost in one case; of several rounds, the median of each figure."""

    environments: int
    watched: bool
    per_second: float
    # Processor time of the relay per request, that for whoever asks included.
    cpu_microseconds: float
    # Microseconds from sending a request to its whole answer, over a single connection.
    p50: float
    p99: float


def compare(folder: Path, rounds: int, seconds: int) -> Sequence[Cost]:
    """Measure in turn, *rounds* times, so that what else the machine does meets all alike.

    All environments have one Heap app: what an app more costs is another question.
    """
    with ExitStack() as stack:
        origin = stack.enter_context(flagsmith(folder))
        heap = stack.enter_context(python("bench.heap", free_port()))
        cases = []
        for number in (1, MANY):
            each = stack.enter_context(relay(folder, f"with-{number}", origin.url, heap.url, number, apps=1))
            load.run(each.process.url, Demand(BUSY_CONNECTIONS, 1, number))  # caches, connections, code
            cases += [Case(each, number, watched) for watched in (False, True)]
        seen = [[_measure(case, seconds) for case in cases] for _ in range(rounds)]
        return [_median(costs) for costs in zip(*seen, strict=True)]


def _measure(case: Case, seconds: int) -> Cost:
    process = case.relay.process
    with _asking(case.relay.admin) if case.watched else nullcontext():
        used = process.cpu_seconds
        busy = load.run(process.url, Demand(BUSY_CONNECTIONS, seconds, case.environments))
        used = process.cpu_seconds - used
        time.sleep(EVERY_SECONDS)  # capture and commit come after the answers
        single = load.run(process.url, Demand(1, seconds, case.environments))
    process.rest()
    cpu_microseconds = used * 1e6 / busy.requests
    return Cost(case.environments, case.watched, busy.per_second, cpu_microseconds, single.p50, single.p99)


@contextmanager
def _asking(admin: str) -> Iterator[None]:
    """Somebody asks for everything on the admin port, every second, however long the answers take."""
    ended, began = threading.Event(), time.monotonic()

    def ask() -> None:
        times = count(1)
        while not ended.wait(max(0.0, began + next(times) * EVERY_SECONDS - time.monotonic())):
            for path in PATHS:
                with urllib.request.urlopen(admin + path) as answer:
                    answer.read()

    thread = threading.Thread(target=ask, name="scraper")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _median(rounds: Sequence[Cost]) -> Cost:
    return Cost(
        environments=rounds[0].environments,
        watched=rounds[0].watched,
        per_second=statistics.median(each.per_second for each in rounds),
        cpu_microseconds=statistics.median(each.cpu_microseconds for each in rounds),
        p50=statistics.median(each.p50 for each in rounds),
        p99=statistics.median(each.p99 for each in rounds),
    )
