"""python -m faults: inflict every fault on every store, and write down what became of events and flags."""

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp

from faults.fault import Form
from faults.matrix import cells, read, row, write
from faults.play import play
from faults.result import Result
from faults.rows import ROWS
from faults.stores import STORES

ROOT = Path(__file__).parents[1]
# Where rows are kept, so that a run can be taken up again.
KEPT = ROOT / "build" / "faults"

Task = tuple[str, str]


def main() -> None:
    """Run what is asked for; exit code 1 where a row misses what is promised, or was not run in CI."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument(
        "--form", choices=["short", "long"], default="long", help="short: each fault once, on one store"
    )
    parser.add_argument("--row", choices=ROWS, action="append", help="only this fault; may be repeated")
    parser.add_argument("--store", choices=STORES, action="append", help="only this store; may be repeated")
    parser.add_argument("--resume", action="store_true", help="keep the rows that a former run has measured")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="rows at a time")
    asked = parser.parse_args()
    kept = KEPT / asked.form
    if not (asked.resume or asked.row or asked.store):
        shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True, exist_ok=True)
    tasks = choose(asked.form, asked.row or list(ROWS), asked.store)
    if asked.resume:
        tasks = [task for task in tasks if not place(kept, *task).exists()]
    asyncio.run(run(tasks, asked.form, kept, asked.jobs))
    results = measured(kept)
    write(ROOT / "docs" if asked.form == "long" else kept, results)
    bad = [each for each in results if each.missed or (each.not_run and os.environ.get("CI"))]
    for each in bad:
        print(f"missed: {each.fault}, {each.store}: {'; '.join(each.missed) or each.not_run}", file=sys.stderr)
    sys.exit(bool(bad))


def choose(form: Form, rows: Sequence[str], stores: Sequence[str] | None) -> list[Task]:
    """Each row on each of its stores; in the short form on one of them, in turns."""
    if form == "long" or stores:
        stores = stores or list(STORES)
        return [(name, store) for name in ROWS if name in rows for store in ROWS[name].stores if store in stores]
    faults = [(name, fault) for name, fault in ROWS.items() if not fault.only_long]
    turns = [(name, fault.stores[turn % len(fault.stores)]) for turn, (name, fault) in enumerate(faults)]
    return [task for task in turns if task[0] in rows]


async def run(tasks: Sequence[Task], form: Form, kept: Path, jobs: int) -> None:
    """Play *tasks*, so many at a time, and keep each as soon as it is measured."""
    room, folder = asyncio.Semaphore(jobs), Path(mkdtemp(prefix="relay-faults-"))

    async def one(name: str, store: str) -> None:
        async with room:
            result = await play(ROWS[name], store, form, folder / f"{name} {store}".replace(" ", "-"))
        place(kept, name, store).write_text(json.dumps(asdict(result)))
        print(row(cells(result)) + "".join(f"  ! {words}" for words in result.missed), flush=True)

    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(one(*task))
    if all(not read(place(kept, *task)).missed for task in tasks):
        shutil.rmtree(folder)


def place(kept: Path, name: str, store: str) -> Path:
    """Where a measured row is kept."""
    return kept / f"{name}.{store.replace(' ', '-')}.json"


def measured(kept: Path) -> list[Result]:
    """All rows that are kept, in the matrix's order."""
    places = [place(kept, name, store) for name in ROWS for store in STORES]
    return [read(path) for path in places if path.exists()]


if __name__ == "__main__":
    main()
