"""python -m faults.soak: steady calls for a while, and what the relay takes meanwhile, as a page with a plot."""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.process import Process
from faults.fault import Fault, Scene
from faults.matrix import machine, row, today
from faults.play import count
from faults.plot import Panel, plot
from faults.result import Result, Span, measure
from faults.stage import SAMPLE_SECONDS, Stage
from relay import __version__

STORE = "sqlite after_answer"
DOCS = Path(__file__).parents[1] / "docs"

PAGE = """# A soak

Written by `make soak` from what it measured, never by hand: {seconds:,.0f} s of {rate:g} *Get Identity Flags* calls a
second, each about another identity, through a relay as operators start it, between a stand-in Flagsmith and a strict
stand-in Heap. Once a second its process and its metrics were looked at.

Measured {measured} with version {version}:
{machine}.

![what it took](soak.svg)

{table}

{verdict}
{failed:,} calls failed. The relay added {p99:,.1f} ms to the 99th percentile of a call, in comparison with the same
calls at the same time past it.

The outbox's size is that of its file in use: events that wait, and the journal's latest 50,000 evaluations. It grows
until the journal has as many.
"""


@dataclass(frozen=True, slots=True)
class Point:
    """What was there at one moment."""

    seconds: float
    memory_mb: float
    files: int
    outbox_mb: float
    waiting: float
    oldest: float


CURVES = {
    "resident memory, MB": ("memory_mb", 0),
    "open files and connections": ("files", 0),
    "outbox in use, MB": ("outbox_mb", 1),
    "events waiting": ("waiting", 0),
    "oldest waiting event, s": ("oldest", 1),
}


@asynccontextmanager
async def nothing(_: Stage) -> AsyncIterator[None]:
    """No fault at all."""
    yield


def main() -> None:
    """Soak, write the page and its plot; exit code 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=100, help="calls a second; Heap takes 200 events of one app")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of soak.md and soak.svg")
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="relay-soak-") as folder:
        points, result = asyncio.run(soak(asked.seconds, asked.rate, Path(folder)))
    write(asked.out, points, result, asked.rate)
    print(table(points), *result.missed, sep="\n")
    sys.exit(bool(result.missed))


async def soak(seconds: float, rate: float, folder: Path) -> tuple[list[Point], Result]:
    """Ask for so long, then count what became of it."""
    stage = Stage(folder, "long", Scene(calls_per_second=rate), STORE)
    async with stage.opened():
        began = time.monotonic()
        points = [point async for point in watch(stage, seconds)]
        span = Span(began, time.monotonic())
        await asyncio.gather(stage.traffic.end(), stage.direct.end())
        await stage.settle()
        seen = await count(stage, span)
    return points, measure(Fault("soak", "nothing is wrong", "capture", nothing), STORE, "long", seen)


async def watch(stage: Stage, seconds: float) -> AsyncIterator[Point]:
    """One point a second."""
    began, process = time.monotonic(), Process(stage.relay.pid, stage.url)
    while (passed := time.monotonic() - began) < seconds:
        await stage.sample()
        last = stage.samples[-1]
        files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        yield Point(passed, process.memory("VmRSS"), files, last.size / 1e6, last.waiting, last.oldest)
        await asyncio.sleep(SAMPLE_SECONDS)


def write(folder: Path, points: Sequence[Point], result: Result, rate: float) -> None:
    """The page and its plot."""
    panels = [Panel(title, values(points, name), digits) for title, (name, digits) in CURVES.items()]
    (folder / "soak.svg").write_text(plot([point.seconds for point in points], panels))
    verdict = "; ".join(result.missed) or (
        f"All {result.captured:,} events reached Heap once. The books balanced in each of {result.samples:,} samples."
    )
    text = PAGE.format(
        seconds=points[-1].seconds,
        rate=rate,
        measured=today(),
        version=__version__,
        machine=machine(),
        table=table(points),
        verdict=verdict,
        failed=result.failed,
        p99=result.added_p99_ms,
    )
    (folder / "soak.md").write_text(text)


def table(points: Sequence[Point]) -> str:
    """Each curve in four numbers."""
    lines = [row(["", "after a minute", "median", "highest", "at the end"]), row(["---", *["---:"] * 4])]
    for title, (name, digits) in CURVES.items():
        curve = values(points, name)
        early = curve[min(60, len(curve) - 1)]
        figures = (early, statistics.median(curve), max(curve), curve[-1])
        lines.append(row([title, *(f"{figure:,.{digits}f}" for figure in figures)]))
    return "\n".join(lines)


def values(points: Sequence[Point], name: str) -> list[float]:
    """One curve."""
    return [float(getattr(point, name)) for point in points]


if __name__ == "__main__":
    main()
