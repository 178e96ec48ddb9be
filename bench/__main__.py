"""python -m bench: run the measurements, print their figures as Markdown, write them into the page, judge them."""

import argparse
import io
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from bench import drain, footprint, outbox, redis, tables, targets, watched
from bench.comparison import compare
from bench.targets import Target
from relay import __version__

WAITING_EVENTS = 1_000_000
WAITING_IN_REDIS = 200_000


class Run:
    """One run of the bench, in *folder*: a section of Markdown for each part, and what it says of the targets."""

    def __init__(self, folder: Path, rounds: int, seconds: int) -> None:
        self._folder = folder
        self._rounds = rounds
        self._seconds = seconds
        self.targets: list[Target] = []

    def comparison(self) -> str:
        """The relay beside a plain proxy."""
        seen = compare(self._folder, self._rounds, self._seconds)
        self.targets += targets.of_comparison(seen)
        return tables.comparison(seen)

    def watched(self) -> str:
        """What it costs to be watched."""
        return tables.watched(watched.compare(self._folder, self._rounds))

    def memory(self) -> str:
        """What the relay takes of the machine's memory."""
        used = footprint.memory(self._folder)
        self.targets += targets.of_memory(used)
        return tables.memory(used)

    def start(self) -> str:
        """How soon it is there."""
        seconds = footprint.seconds_to_ready(self._folder)
        self.targets += targets.of_start(seconds)
        return f"Ready to serve {seconds:.2f} s after its process was started."

    def drain(self) -> str:
        """What it costs to deliver a backlog."""
        found = drain.drain(self._folder)
        self.targets += targets.of_drain(found)
        return tables.drain(found)

    def outbox(self) -> str:
        """Whether an outbox costs the same however much waits."""
        return printed(lambda: outbox.measure("sqlite", self._folder, WAITING_EVENTS))

    def redis(self) -> str:
        """What an outbox on Redis costs."""
        return printed(lambda: redis.measure(self._folder, WAITING_IN_REDIS, self._seconds))


PARTS: dict[str, Callable[[Run], str]] = {
    "comparison": Run.comparison,
    "watched": Run.watched,
    "memory": Run.memory,
    "start": Run.start,
    "drain": Run.drain,
    "outbox": Run.outbox,
    "redis": Run.redis,
}


def main() -> None:
    """Measure what is asked for, in a folder that is gone afterwards."""
    asked = arguments()
    sections = {"machine": machine()}
    print(sections["machine"])
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        Path(name).chmod(0o755)  # nginx's worker is another user
        judged: list[Target] = []
        for part in asked.only or PARTS:
            (folder := Path(name) / part).mkdir()
            run = Run(folder, asked.rounds, asked.seconds)
            sections[part] = PARTS[part](run)
            judged += run.targets
            print(f"\n{sections[part].strip()}", flush=True)
    if asked.write:
        tables.write(sections)
    if asked.check:
        judge(judged)


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="What the relay costs on this machine.")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of what stands beside each other; medians count")
    parser.add_argument("--seconds", type=int, default=4, help="length of each run of load")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/performance.md")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    return parser.parse_args()


def judge(judged: Sequence[Target]) -> None:
    """Say what became of each target, and exit 1 where one is missed."""
    print("", *judged, sep="\n")
    sys.exit(any(target.missed for target in judged))


def printed(measure: Callable[[], None]) -> str:
    """What *measure* prints, as a block of text."""
    with redirect_stdout(io.StringIO()) as said:
        measure()
    return f"```\n{said.getvalue().strip()}\n```"


def machine() -> str:
    """What the figures depend on."""
    generator = "wrk" if shutil.which("wrk") else "the bench's own generator"
    stand_in = "nginx" if shutil.which("nginx") else "the bench's own stand-in"
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    system = f"{os.cpu_count()} cores, {platform.system()} {platform.release()} {platform.machine()}"
    versions = f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}, SQLite {sqlite3.sqlite_version}"
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with version {__version__}: {system}, {versions};"
        f" load by {generator}, answers by {stand_in}. Load of the machine when it began: {busy}."
    )


if __name__ == "__main__":
    main()
