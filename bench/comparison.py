"""The relay beside a plain proxy: requests a second, added latency and processor time, under the same load."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
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

    # By name, round after round: what stood beside each other in one round may be compared.
    rounds: Sequence[Mapping[str, Figures]]
    # What the relay made of all identity calls meanwhile; refused ones cost less than they should.
    captured: int
    refused: int
    # The part of the answers that were unchanged, where only changes are sent.
    unchanged: float

    def median(self, name: str) -> Figures:
        """Of each figure of *name*."""
        seen = [round_[name] for round_ in self.rounds]
        return Figures(
            per_second=statistics.median(each.per_second for each in seen),
            cpu_microseconds=statistics.median(each.cpu_microseconds for each in seen),
            p50=statistics.median(each.p50 for each in seen),
            p99=statistics.median(each.p99 for each in seen),
            failures=sum(each.failures for each in seen),
        )

    def ratios(self, name: str, of: Callable[[Figures], float], base: str = BASELINE) -> Sequence[float]:
        """How many times the *base*'s the figure is, in each round, ascending."""
        return sorted(of(round_[name]) / of(round_[base]) for round_ in self.rounds)

    def added(self, name: str, of: Callable[[Figures], float]) -> Sequence[float]:
        """How many times what the baseline adds to a call without a proxy, in each round, ascending."""
        return sorted(
            (of(each[name]) - of(each[DIRECT])) / (of(each[BASELINE]) - of(each[DIRECT])) for each in self.rounds
        )


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
            rounds=seen,
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
