"""What the relay takes by being there: memory after much work, and time to its first answer."""

import asyncio
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import load
from bench.comparison import flagsmith
from bench.load import Demand
from bench.outbox import ROOM, Source, fill
from bench.process import free_port, python
from bench.relays import FIGURES_SECONDS, MeasuredRelay, environment, lane, relay
from relay.allocator import GIVE_BACK_SECONDS
from relay.outbox import Outbox
from relay.outbox.sqlite import SqliteOutbox

CAPTURED = 100_000
WAITING = 1_000_000
CONNECTIONS = 64
# As many apps as one relay may well have; each takes 200 events a second and holds a batch of its own.
ENVIRONMENTS = 4
# Nobody listens there.
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in MB, and how much work came before it."""

    # Before the first request.
    idle: float
    captured: int
    # At most, while so many calls were captured, committed and delivered.
    busy: float
    # Afterwards; what waits of them is still being delivered.
    rested: float
    # At rest, with so many events waiting for a Heap that is away.
    waiting: int
    behind: float


def memory(folder: Path) -> Memory:
    """Have calls captured and delivered; then start another relay on a file in which many events wait."""
    with ExitStack() as stack:
        origin = stack.enter_context(flagsmith(folder))
        heap = stack.enter_context(python("bench.heap", free_port()))
        with relay(folder, "memory", origin.url, heap.url, ENVIRONMENTS) as measured:
            measured.process.rest()
            idle = measured.process.memory("VmRSS")
            while measured.figure("relay_captured_total") < CAPTURED:
                _ask(measured, 4)
            captured = int(measured.figure("relay_captured_total"))
            busy, rested = measured.process.memory("VmHWM"), _rested(measured)
        waiting, behind = _behind(folder, origin.url)
    return Memory(idle=idle, captured=captured, busy=busy, rested=rested, waiting=waiting, behind=behind)


def _behind(folder: Path, origin: str) -> tuple[int, float]:
    """How many events wait in a file, and the memory of a relay that looks after them."""
    asyncio.run(_fill(SqliteOutbox(folder / "behind.db", max_bytes=ROOM, dead_letter_share=0.25)))
    with relay(folder, "behind", origin, NOWHERE, max_bytes="8GiB") as measured:
        rested = _rested(measured)
        return int(measured.figure("relay_outbox_events")), rested


async def _fill(outbox: Outbox) -> None:
    await outbox.open()
    try:
        await fill(outbox, Source(lane=lane(NOWHERE), environment=environment(0)), WAITING)
    finally:
        await outbox.close()


def _rested(measured: MeasuredRelay) -> float:
    """The memory it takes once it has done its work and given back what it had for that."""
    measured.process.rest()
    time.sleep(GIVE_BACK_SECONDS + 1)
    return measured.process.memory("VmRSS")


def _ask(measured: MeasuredRelay, seconds: int) -> None:
    load.run(measured.process.url, Demand(CONNECTIONS, seconds, ENVIRONMENTS))
    time.sleep(2 * FIGURES_SECONDS)


def seconds_to_ready(folder: Path, times: int = 5) -> float:
    """The median time from starting a relay process until it says that it is ready."""

    def once(number: int) -> float:
        began = time.perf_counter()
        with relay(folder, f"start-{number}", NOWHERE, NOWHERE):
            return time.perf_counter() - began

    return statistics.median(once(number) for number in range(times))
