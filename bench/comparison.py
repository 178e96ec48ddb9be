"""The relay beside a plain proxy: requests a second, added latency and processor time, under the same load."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import load, nginx
from bench.load import Demand, Load
from bench.process import Process, free_port, python
from bench.relays import MeasuredRelay, relay

DIRECT = "Flagsmith itself"
BASELINE = "plain aiohttp proxy"
BUSY_CONNECTIONS = 32
# With `send: on_change` one of so many answers is news: 95 % are unchanged.
ONE_IS_NEWS = 20
# Until every identity was seen once, in seconds.
ACQUAINTED = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """What one proxy costs; of several rounds, the median of each figure."""

    per_second: float
    # Processor time of the proxy per request.
    cpu_microseconds: float
    # Microseconds from sending a request to its whole answer, over a single connection.
    p50: float
    p99: float
    failures: int


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who answers the same requests."""

    name: str
    process: Process
    newcomers: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """All contenders under the same load."""

    figures: Mapping[str, Figures]
    # What the relay made of all identity calls meanwhile; refused ones cost less than they should.
    captured: int
    refused: int
    # The part of the answers that were unchanged, where only changes are sent.
    unchanged: float


def compare(folder: Path, rounds: int, seconds: int) -> Comparison:
    """Measure all contenders in turn, *rounds* times, so that what else the machine does meets them alike."""
    with ExitStack() as stack:
        origin = stack.enter_context(flagsmith(folder))
        heap = stack.enter_context(python("bench.heap", free_port()))
        capturing = stack.enter_context(relay(folder, "relay", origin.url, heap.url))
        on_change = stack.enter_context(relay(folder, "on-change", origin.url, heap.url, send="on_change"))
        load.run(on_change.process.url, Demand(BUSY_CONNECTIONS, ACQUAINTED))
        on_change.wait_until_delivered()
        before = _unchanged(on_change)
        answering = [
            Contender(DIRECT, origin),
            Contender("relay", capturing.process),
            Contender("relay, on change", on_change.process, ONE_IS_NEWS),
            *stack.enter_context(others(folder, origin)),
        ]
        for each in answering:
            load.run(
                each.process.url, Demand(BUSY_CONNECTIONS, 1, newcomers=each.newcomers)
            )  # caches, connections, code
        seen = [{each.name: _measure(each, seconds) for each in answering} for _ in range(rounds)]
        captured, unchanged = (now - then for now, then in zip(_unchanged(on_change), before, strict=True))
        return Comparison(
            figures={each.name: _median([round_[each.name] for round_ in seen]) for each in answering},
            captured=int(capturing.figure("relay_captured_total")),
            refused=int(capturing.figure("relay_refused_total")),
            unchanged=unchanged / captured,
        )


def _unchanged(relay: MeasuredRelay) -> tuple[float, float]:
    """How many answers were captured, and how many of them had nothing new."""
    return relay.figure("relay_captured_total"), relay.figure("relay_skipped_total")


@contextmanager
def others(folder: Path, origin: Process) -> Iterator[Sequence[Contender]]:
    """What else can stand before Flagsmith on this machine."""
    with ExitStack() as stack:
        enter = stack.enter_context
        answering = [
            Contender("relay, capturing nothing", enter(relay(folder, "bare", origin.url)).process),
            Contender(BASELINE, enter(python("bench.baseline", free_port(), origin.url))),
        ]
        if nginx.installed():
            answering.append(Contender("nginx", enter(nginx.proxy(folder, origin.url))))
        yield answering


@contextmanager
def flagsmith(folder: Path) -> Iterator[Process]:
    """The fastest stand-in there is on this machine."""
    with nginx.flagsmith(folder) if nginx.installed() else python("bench.upstream", free_port()) as process:
        yield process


def _measure(contender: Contender, seconds: int) -> Figures:
    process, newcomers = contender.process, contender.newcomers
    used = process.cpu_seconds
    busy = load.run(process.url, Demand(BUSY_CONNECTIONS, seconds, newcomers=newcomers))
    process.rest()  # capture and commit come after the answers, and are paid for too
    used = process.cpu_seconds - used
    single = load.run(process.url, Demand(1, seconds, newcomers=newcomers))
    process.rest()
    return _figures(busy, single, used)


def _figures(busy: Load, single: Load, cpu_seconds: float) -> Figures:
    return Figures(
        per_second=busy.per_second,
        cpu_microseconds=cpu_seconds * 1e6 / busy.requests,
        p50=single.p50,
        p99=single.p99,
        failures=busy.failures + single.failures,
    )


def _median(rounds: Sequence[Figures]) -> Figures:
    return Figures(
        per_second=statistics.median(each.per_second for each in rounds),
        cpu_microseconds=statistics.median(each.cpu_microseconds for each in rounds),
        p50=statistics.median(each.p50 for each in rounds),
        p99=statistics.median(each.p99 for each in rounds),
        failures=sum(each.failures for each in rounds),
    )
