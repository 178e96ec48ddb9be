"""python -m bench: run the measurements and print their figures as Markdown."""

import argparse
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import aiohttp

from bench import outbox, redis, watched
from bench.comparison import BASELINE, BUSY_CONNECTIONS, DIRECT, Figures, compare
from bench.footprint import memory, seconds_to_ready

PARTS = ("comparison", "watched", "memory", "start", "outbox", "redis")
WAITING_EVENTS = 1_000_000
WAITING_IN_REDIS = 200_000


def main() -> None:
    """Measure what is asked for, in a folder that is gone afterwards."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="What the relay costs on this machine.")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the comparison; their median counts")
    parser.add_argument("--seconds", type=int, default=4, help="length of each run of load")
    asked = parser.parse_args()
    parts = sorted(set(asked.only or PARTS))
    print(machine())
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker is another user
        for part in parts:
            (folder / part).mkdir()
        if "comparison" in parts:
            print(comparison(folder / "comparison", asked.rounds, asked.seconds))
        if "watched" in parts:
            print(watched_table(watched.compare(folder / "watched", asked.rounds, asked.seconds)))
        if "memory" in parts:
            print(memory_line(folder / "memory"))
        if "start" in parts:
            print(f"\nReady to serve {seconds_to_ready(folder / 'start'):.2f} s after its process was started.")
        if "outbox" in parts:
            outbox.measure("sqlite", folder / "outbox", WAITING_EVENTS)
        if "redis" in parts:
            redis.measure(folder / "redis", WAITING_IN_REDIS, asked.seconds)


def machine() -> str:
    """What the figures depend on."""
    generator = "wrk" if shutil.which("wrk") else "the bench's own generator"
    versions = f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}"
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, {versions}; load by {generator}."


def comparison(folder: Path, rounds: int, seconds: int) -> str:
    """The table of the comparison, and whether the relay did all of its work meanwhile."""
    seen = compare(folder, rounds, seconds)
    work = f"The relay captured {seen.captured:,} answers meanwhile, and refused {seen.refused:,} of them."
    news = f"To the relay that sends on change {seen.unchanged:.0%} of its answers were unchanged."
    return f"{table(seen.figures)}\n\n{work} {news}"


def table(seen: Mapping[str, Figures]) -> str:
    """One line for each contender, each figure with its ratio to the baseline's."""
    direct, base = seen[DIRECT], seen[BASELINE]
    header = [
        "",
        f"requests/s ({BUSY_CONNECTIONS} connections)",
        "CPU µs per request",
        "added p50 µs (1 connection)",
        "added p99 µs (1 connection)",
        "failures",
    ]
    lines = [row(header), row(["---", *["---:"] * (len(header) - 1)])]
    for name, each in seen.items():
        if each is direct:
            cells = [f"{each.per_second:,.0f}", f"{each.cpu_microseconds:,.0f}", "0", "0"]
        else:
            cells = [
                ratio(each.per_second, base.per_second),
                ratio(each.cpu_microseconds, base.cpu_microseconds),
                ratio(each.p50 - direct.p50, base.p50 - direct.p50),
                ratio(each.p99 - direct.p99, base.p99 - direct.p99),
            ]
        lines.append(row([name, *cells, str(each.failures)]))
    return "\n".join(["", *lines])


def watched_table(costs: Sequence[watched.Cost]) -> str:
    """One line for each case, each figure with its ratio to the first's."""
    first = costs[0]
    figures = ["requests/s", "CPU µs per request", "p50 µs (1 connection)", "p99 µs (1 connection)"]
    lines = [row(["environments", "asked every second", *figures]), row(["---:", "---", *["---:"] * len(figures)])]
    for each in costs:
        cells = [
            ratio(each.per_second, first.per_second),
            ratio(each.cpu_microseconds, first.cpu_microseconds),
            ratio(each.p50, first.p50),
            ratio(each.p99, first.p99),
        ]
        lines.append(row([f"{each.environments:,}", "yes" if each.watched else "no", *cells]))
    return "\n".join(["", *lines])


def ratio(figure: float, base: float) -> str:
    """A figure, and how many times the baseline's it is."""
    return f"{figure:,.0f} ({figure / base:.2f}x)"


def row(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def memory_line(folder: Path) -> str:
    """How much memory the relay takes after its work, as a sentence."""
    used = memory(folder)
    work = f"after {used.captured:,} captured requests, with {used.waiting:,} events waiting"
    return f"\n{used.now:.0f} MB resident {work}; {used.highest:.0f} MB at most."


if __name__ == "__main__":
    main()
