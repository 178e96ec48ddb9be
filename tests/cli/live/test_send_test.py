"""--send-test: one event, told apart from all others, sent by nobody's accident, and never called verified."""

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.sandbox.faults import Fault, Reply
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.cli.live.conftest import check_live
from tests.conftest import APP_ID, settings, write

SEND = ("--send-test", "tests", "--yes")


async def typed(path: Path, *options: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["check", "-c", str(path), *options])


async def test_one_clearly_named_event_is_stored(path: Path, heap: StandInHeap) -> None:
    told = await check_live(path, *SEND)

    assert told.exit_code == 0
    assert len(heap.stored(APP_ID)) == 1
    ((sent,),) = heap.batches
    assert (sent["event"], sent["identity"]) == ("Flagsmith Feature Flags relay test", "flagsmith-heap-relay-test")
    assert list(sent["properties"]) == ["relay_test"]
    assert datetime.now(UTC) - datetime.fromisoformat(sent["properties"]["relay_test"]) < timedelta(minutes=1)
    assert len(sent["idempotency_key"]) >= 32
    assert sent["timestamp"].endswith("Z")


async def test_a_success_says_where_to_look_and_that_it_proves_nothing(path: Path, heap: StandInHeap) -> None:
    told = await check_live(path, *SEND)

    found = told["heap.test_event"]
    assert found["result"] == "ok"
    assert found["detail"] == f"Heap answered 200 for app {APP_ID} at {heap.url}, which proves nothing yet"
    for words in ("Live data", "Flagsmith Feature Flags relay test", "whom Heap makes for it", "only seeing it there"):
        assert words in found["advice"]
    assert "verified" not in str(told.probes)


async def test_an_unknown_app_looks_like_a_success_and_is_not_called_one(path: Path, tmp_path: Path) -> None:
    async with StandInHeap(apps=[]) as stranger, StandInFlagsmith() as flagsmith:
        told = await check_live(write(tmp_path, settings(flagsmith, stranger)), *SEND)

        assert stranger.lost == 1
    assert "an app id that Heap does not know is answered 200 as well" in told["heap.test_event"]["advice"]


@pytest.mark.parametrize(
    ("answer", "detail", "advice"),
    [
        (Reply(400, b"Bad Request"), "Heap answered 400 for app 1234567890 at {}: Bad Request", "heap.app_id"),
        (Reply(404), "Heap answered 404 for app 1234567890 at {}", "heap.region"),
        (Reply(503, b"x" * 900), "Heap answered 503 for app 1234567890 at {}: " + "x" * 200, "try again later"),
        (Fault.RESET, "app 1234567890 at {} gave no answer: ", "Heap may have it all the same"),
    ],
)
async def test_anything_but_a_2xx_is_a_failure(
    path: Path, heap: StandInHeap, answer: Reply | Fault, detail: str, advice: str
) -> None:
    heap.replies.append(answer)

    told = await check_live(path, *SEND)

    assert told.exit_code == 1
    assert told["heap.test_event"]["result"] == "failed"
    assert told["heap.test_event"]["detail"].startswith(detail.format(heap.url))
    assert advice in told["heap.test_event"]["advice"]
    assert len(heap.requests) == 1


async def test_heaps_date_is_compared_with_this_machines_clock(path: Path, heap: StandInHeap) -> None:
    date = formatdate(datetime.now(UTC).timestamp() + 300, usegmt=True)
    heap.replies.append(Reply(200, b"{}", (("Date", date),)))

    told = await check_live(path, *SEND)

    assert told["heap.clock"]["result"] == "warning"
    assert "s behind it" in told["heap.clock"]["detail"]


async def test_nothing_is_sent_where_heap_cannot_be_reached(path: Path, heap: StandInHeap) -> None:
    await heap.stop()

    told = await check_live(path, *SEND)

    assert told.exit_code == 1
    assert told["heap.test_event"]["detail"] == f"not sent, as {heap.url} cannot be reached"


async def test_without_a_terminal_it_takes_a_yes(path: Path, heap: StandInHeap) -> None:
    done = await typed(path, "--live", "--send-test", "tests")

    assert done.exit_code == 2
    assert "add --yes where there is no terminal" in done.stderr
    assert heap.requests == []


@pytest.mark.parametrize(("answer", "events", "exit_code"), [("y", 1, 0), ("n", 0, 1)])
async def test_on_a_terminal_it_asks_first(
    path: Path, heap: StandInHeap, answer: str, events: int, exit_code: int
) -> None:
    terminal, end = os.openpty()
    os.write(terminal, f"{answer}\n".encode())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "check", "-c", str(path), "--live", "--send-test", "tests"),
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(process.communicate(), 30)
    os.close(terminal)
    os.close(end)

    assert process.returncode == exit_code
    assert f"to app {APP_ID} at {heap.url}? Heap keeps it, and makes a user flagsmith-heap-relay-test" in told.decode()
    assert len(heap.stored(APP_ID)) == events


async def test_an_environment_that_is_not_in_the_file_is_exit_code_2(path: Path, heap: StandInHeap) -> None:
    done = await typed(path, "--live", "--send-test", "staging", "--yes")

    assert done.exit_code == 2
    assert done.stderr.endswith(f"{path}: no environment has that name; there are: tests\n")
    assert heap.requests == []


async def test_it_belongs_to_live(path: Path, heap: StandInHeap) -> None:
    done = await typed(path, *SEND)

    assert done.exit_code == 2
    assert "--send-test is a part of --live" in done.stderr
    assert heap.requests == []
