"""What the relay takes by being there: memory after much work, and time to its first answer."""

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import load
from bench.comparison import flagsmith
from bench.load import Demand
from bench.process import free_port, python
from bench.relays import FIGURES_SECONDS, MeasuredRelay, relay
from relay.allocator import GIVE_BACK_SECONDS

CAPTURED = 100_000
WAITING = 10_000
# As many apps as one relay may well have; each takes 200 events a second and holds a batch of its own.
ENVIRONMENTS = 4


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in MB at rest, and how much work came before it."""

    # Before the first request.
    idle: float
    captured: int
    waiting: int
    now: float
    highest: float


def memory(folder: Path) -> Memory:
    """Have most events delivered; then take Heap away, so that the rest waits."""
    with ExitStack() as stack:
        origin = stack.enter_context(flagsmith(folder))
        heap = stack.enter_context(ExitStack())
        heap_url = heap.enter_context(python("bench.heap", free_port())).url
        measured = stack.enter_context(relay(folder, "memory", origin.url, heap_url, ENVIRONMENTS))
        idle = measured.process.memory("VmRSS")
        while measured.figure("relay_captured_total") < CAPTURED - WAITING:
            _ask(measured, 4)
        measured.wait_until_delivered()
        heap.close()
        while measured.figure("relay_outbox_events") < WAITING:
            _ask(measured, 1)
        measured.process.rest()
        time.sleep(GIVE_BACK_SECONDS + 1)
        return Memory(
            idle=idle,
            captured=int(measured.figure("relay_captured_total")),
            waiting=int(measured.figure("relay_outbox_events")),
            now=measured.process.memory("VmRSS"),
            highest=measured.process.memory("VmHWM"),
        )


def _ask(measured: MeasuredRelay, seconds: int) -> None:
    load.run(measured.process.url, Demand(32, seconds, ENVIRONMENTS))
    time.sleep(2 * FIGURES_SECONDS)


def seconds_to_ready(folder: Path, times: int = 5) -> float:
    """The median time from starting a relay process until it says that it is ready."""

    def once(number: int) -> float:
        began = time.perf_counter()
        with relay(folder, f"start-{number}", "http://127.0.0.1:9", "http://127.0.0.1:9"):
            return time.perf_counter() - began

    return statistics.median(once(number) for number in range(times))
