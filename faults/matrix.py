"""The matrix as a page and as JSON, from the rows that were measured."""

import json
import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from faults.fault import SERVER, Scene
from faults.result import Result
from faults.rows import RELAY, ROWS, STORAGE
from faults.stage import COMMIT_SECONDS, COMMIT_TO_REDIS_SECONDS
from faults.stores import COMMIT_TIMEOUT_SECONDS
from relay import __version__

HEADER = (
    "fault",
    "store",
    "calls",
    "captured",
    "delivered",
    "twice",
    "dead letters",
    "not kept",
    "lost",
    "flags failed",
    "added p99 ms",
    "recovery s",
    "books off",
)
INTRODUCTION = """# What becomes of events and flags under each fault

Written by `make faults` from what it measured, never by hand; [fault-matrix.json](fault-matrix.json) has the same rows.
Every part is a process of its own: the relay as operators start it, a stand-in Flagsmith, a strict stand-in Heap, and
callers that ask for {rate} identities a second, each another one, whatever becomes of their calls. What is counted is
counted from outside: which calls were answered 200 to their last byte, and which identities Heap has in the end.

Measured {measured} with version {version}:
{machine}.

{verdict}
{not_on_redis}

"""
LEGEND = """
How to read it:

* *Captured* is the relay's own count after the end; it also has calls whose caller got no whole answer, and lacks what
  a SIGKILL took from memory.
* *Twice* are events that Heap has more than once. What comes again under its key it knows: those are in the JSON as
  `repeated`.
* *Not kept* are answers that hold no evaluation, and events that the storage could not take. The relay counts each with
  its reason. They are no part of what was committed.
* *Lost* are calls that were answered and whose event is nowhere: neither in Heap, nor set aside, nor counted as not
  kept. Behind the + stand those that the commit mode risks, as it says: with `after_answer` calls answered at most
  {commit:.0f} ms before a SIGKILL ({redis:,.0f} ms where a Redis was slow just then), with `before_answer` calls whose
  answer was held back for the whole `commit_timeout` ({timeout:.0f} ms).
* *Flags failed* are calls that ended without a whole 200; behind the + those that the fault itself failed, not the
  capture: nobody listened while the relay was being started again, or it was Flagsmith that failed.
* *Added p99* is what the relay adds to the 99th percentile of the calls that succeed while the fault lasts, in
  comparison with the same calls at the same time past the relay. Several rows are measured at once, on a machine that
  others use as well, so that small differences mean nothing.
* *Recovery* are the seconds from the fault's end until Heap has every event that was captured before it. An event
  leaves within 2 s of its answer when nothing is wrong. Where a clock runs fast they are seconds of that clock.
* *Books off* is the greatest `relay_books_difference` of all that were seen, one each second.
"""


def page(results: Sequence[Result]) -> str:
    """The matrix for people."""
    missed = [result for result in results if result.missed or result.not_run]
    verdict = (
        "Every row holds what is promised." if not missed else f"{len(missed)} rows miss what is promised, see below."
    )
    parts = [
        INTRODUCTION.format(
            rate=Scene().calls_per_second,
            measured=today(),
            version=__version__,
            machine=machine(),
            verdict=verdict,
            not_on_redis=not_on_redis(),
        ),
        *(f"{line}\n" for line in table(results)),
        LEGEND.format(
            commit=COMMIT_SECONDS * 1000, redis=COMMIT_TO_REDIS_SECONDS * 1000, timeout=COMMIT_TIMEOUT_SECONDS * 1000
        ),
        *section("Worth telling", [(each, [*each.notes, *risk(each)]) for each in results]),
        *section("Missed", [(each, each.missed) for each in results]),
        *section("Not run", [(each, [each.not_run] * bool(each.not_run)) for each in results]),
    ]
    return "".join(parts)


def not_on_redis() -> str:
    """Which rows a Redis lacks, and why."""
    titles = [f'"{fault.title}"' for fault in (*STORAGE, *RELAY) if not any(SERVER in store for store in fault.stores)]
    return f"Faults of SQLite's file, and of what lies beside it, do not apply to Redis: {', '.join(titles)}."


def table(results: Iterable[Result]) -> Iterable[str]:
    """One line for each row."""
    yield row(HEADER)
    yield row(["---", "---", *["---:"] * (len(HEADER) - 2)])
    for each in results:
        yield row(cells(each))


def cells(each: Result) -> list[str]:
    """One row's figures; none where it was not run."""
    title = ROWS[each.fault].title
    if each.not_run:
        return [title, each.store, "not run", *[""] * (len(HEADER) - 3)]
    return [
        title,
        each.store,
        f"{each.calls:,}",
        f"{each.captured:,}",
        f"{each.delivered:,}",
        str(each.duplicated),
        str(each.dead_lettered),
        ", ".join(f"{count:,} {reason}" for reason, count in each.not_kept.items()) or "0",
        plus(each.lost - each.risked, each.risked),
        plus(each.failed - each.by_fault, each.by_fault),
        f"{each.added_p99_ms:,.0f}",
        f"{each.recovery_seconds:,.1f}",
        f"{each.books_difference:g}",
    ]


def plus(first: int, second: int) -> str:
    """Two counts of one thing."""
    return f"{first:,} + {second:,}" if second else f"{first:,}"


def section(title: str, rows: Iterable[tuple[Result, Sequence[str]]]) -> Iterable[str]:
    """A list of words by row; nothing where there are none."""
    lines = [f"* {ROWS[each.fault].title} ({each.store}): {'; '.join(words)}.\n" for each, words in rows if words]
    return [f"\n## {title}\n\n", *lines] if lines else []


def risk(each: Result) -> Sequence[str]:
    """How near its end a process may answer what is lost with it."""
    if not each.risked_ms:
        return []
    return [f"the first of the {each.risked:,} lost calls was answered {each.risked_ms:,.0f} ms before the end"]


def row(texts: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(texts)} |"


def today() -> str:
    """The day of the measurement."""
    return datetime.now(UTC).strftime("on %Y-%m-%d")


def machine() -> str:
    """What the figures depend on."""
    versions = f"Python {platform.python_version()}, aiohttp {aiohttp.__version__}, SQLite {sqlite3.sqlite_version}"
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {system}, {versions}, load {os.getloadavg()[2]:.0f} in the last quarter of an hour"


def write(folder: Path, results: Sequence[Result]) -> None:
    """Both files, in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fault-matrix.md").write_text(page(results))
    (folder / "fault-matrix.json").write_text(json.dumps([asdict(each) for each in results], indent=1) + "\n")


def read(path: Path) -> Result:
    """A row that was measured before."""
    kept = json.loads(path.read_text())
    lists = {name: tuple(kept[name]) for name in ("notes", "missed")}
    return Result(**{**kept, **lists})
