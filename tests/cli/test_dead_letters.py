"""relay dead-letters, beside a running relay and without one."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from relay.model import Cause, DeadLetter
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.cli.backlog import dead, event, fill, lane, outbox_of, relay_command
from tests.conftest import APP_ID, settings, write
from tests.processes import relay_process


async def test_list_shows_when_whose_and_why_and_never_an_identity(config: Path, heap: StandInHeap) -> None:
    await fill(config, letters=[dead(1, lane(heap)), dead(2, lane(heap), "expired")])

    done = await relay_command("dead-letters", "list", "-c", str(config))
    as_json = await relay_command("dead-letters", "list", "-c", str(config), "--json")

    assert done.returncode == 0, done.stderr
    assert "refused_by_heap" in done.stdout
    assert "should not be ***" in done.stdout
    assert [each["reason"] for each in json.loads(as_json.stdout)] == ["refused_by_heap", "expired"]
    assert "user-1" not in done.stdout + as_json.stdout


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [
        (["--reason", "expired"], [3]),
        (["--environment", "staging"], [2]),
        (["--since", "90s"], [1, 2]),
        (["--until", "90s"], [3]),
        (["--limit", "2"], [1, 2]),
    ],
)
async def test_filters_choose(config: Path, heap: StandInHeap, chosen: list[str], numbers: list[int]) -> None:
    """Here the moment of capture is the one of setting aside."""
    old = dead(200, lane(heap), "expired")
    await fill(config, letters=[dead(1, lane(heap)), dead(2, lane(heap), environment="staging"), old])

    done = await relay_command("dead-letters", "list", "-c", str(config), "--json", *chosen)

    assert [each["number"] for each in json.loads(done.stdout)] == numbers


async def test_list_says_how_many_more_there_are(config: Path, heap: StandInHeap) -> None:
    await fill(config, letters=[dead(number, lane(heap)) for number in range(5)])

    done = await relay_command("dead-letters", "list", "-c", str(config), "--limit", "2")

    assert "3 more of 5" in done.stderr


async def test_show_has_all_of_one(config: Path, heap: StandInHeap) -> None:
    await fill(config, letters=[dead(1, lane(heap))])

    done = await relay_command("dead-letters", "show", "-c", str(config), "1", "--json")
    nobody = await relay_command("dead-letters", "show", "-c", str(config), "2")

    shown = json.loads(done.stdout)
    assert (shown["event"]["identity"], shown["detail"]) == ("user-1", dead(1, lane(heap)).cause.detail)
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "there is no dead letter 2" in nobody.stderr


async def test_a_replay_beside_the_running_relay_reaches_heap_once_with_key_and_time_stamp(
    config: Path, heap: StandInHeap
) -> None:
    letters = [dead(number, lane(heap)) for number in range(700)]
    await fill(config, letters=[*letters, dead(999, lane(heap), "identity_too_long")])
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")

        done = await relay_command("dead-letters", "replay", "-c", str(config), "--all")

        assert done.returncode == 0, done.stderr
        assert "700 events put back to wait" in done.stdout
        assert "1  tests  identity_too_long  can never be sent, and stay" in done.stdout
        stored = await heap.wait_for_events(700, within=30)
    assert {one.idempotency_key: one.timestamp for one in stored} == {
        letter.event.key: json.loads(letter.event.body)["timestamp"] for letter in letters
    }
    assert heap.duplicates == 0
    assert not heap.violations


async def test_a_dry_run_changes_nothing(config: Path, heap: StandInHeap) -> None:
    await fill(config, letters=[dead(1, lane(heap)), dead(2, lane(heap))])

    replayed = await relay_command("dead-letters", "replay", "-c", str(config), "--all", "--dry-run")
    dropped = await relay_command("dead-letters", "drop", "-c", str(config), "--all", "--dry-run", "--yes")

    assert "2  tests  refused_by_heap  would be replayed" in replayed.stdout
    assert "2  tests  refused_by_heap  would be dropped" in dropped.stdout
    assert (replayed.returncode, dropped.returncode) == (0, 0)
    async with outbox_of(config) as outbox:
        assert (await outbox.books())["tests"].dead_letters == {"refused_by_heap": 2}


async def test_nothing_is_dropped_without_yes(config: Path, heap: StandInHeap) -> None:
    await fill(config, letters=[dead(number, lane(heap)) for number in range(1, 4)])

    asked = await relay_command("dead-letters", "drop", "-c", str(config), "1", "3")
    done = await relay_command("dead-letters", "drop", "-c", str(config), "1", "3", "--yes")

    assert asked.returncode == 2
    assert "nothing was dropped; add --yes" in asked.stderr
    assert "2 dead letters dropped" in done.stdout
    async with outbox_of(config) as outbox:
        book = (await outbox.books())["tests"]
        assert (book.dead_letters, book.dropped) == ({"refused_by_heap": 1}, {"operator": 2})


@pytest.mark.parametrize("command", ["replay", "drop"])
async def test_all_of_them_has_to_be_said(config: Path, heap: StandInHeap, command: str) -> None:
    await fill(config, letters=[dead(1, lane(heap))])

    done = await relay_command("dead-letters", command, "-c", str(config))

    assert done.returncode == 2
    assert "say which: their numbers, filters like --reason, or --all" in done.stderr


@pytest.mark.parametrize(
    ("rubbish", "told"),
    [
        (["--environment", "nowhere"], "no environment has that name; there are: tests"),
        (["--reason", "because"], "there are: identity_too_long"),
        (["--since", "yesterday"], "write 2026-11-24, 2026-11-24T14:00 (UTC), or an age like 2h or 7d"),
        (["--limit", "0"], "0"),
    ],
)
async def test_what_fits_nothing_is_wrong_usage(config: Path, heap: StandInHeap, rubbish: list[str], told: str) -> None:
    await fill(config, letters=[dead(1, lane(heap))])

    done = await relay_command("dead-letters", "list", "-c", str(config), *rubbish)

    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_replay_that_is_broken_off_goes_on_with_the_next(config: Path, heap: StandInHeap) -> None:
    letters = [dead(number, lane(heap)) for number in range(20_000)]
    await fill(config, letters=letters)
    replay = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "dead-letters", "replay", "-c", str(config), "--all"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ},
    )
    async with outbox_of(config, guest=True) as outbox:
        while not (await outbox.books())["tests"].waiting:
            await asyncio.sleep(0.01)
    replay.send_signal(signal.SIGINT)
    _, said = await replay.communicate()
    async with outbox_of(config) as outbox:
        waiting = (await outbox.books())["tests"].waiting
    told = f"broken off: {waiting:,} of 20,000 are done; the others are as they were"
    assert told in said.decode() or waiting == 20_000  # it may just have been through

    done = await relay_command("dead-letters", "replay", "-c", str(config), "--all")

    assert done.returncode == 0, done.stderr
    async with outbox_of(config) as outbox:
        book = (await outbox.books())["tests"]
        assert (book.waiting, sum(book.dead_letters.values())) == (20_000, 0)


async def test_two_commands_at_once_do_each_letter_once(config: Path, heap: StandInHeap) -> None:
    await fill(config, letters=[dead(number, lane(heap)) for number in range(3000)])

    dropped, replayed = await asyncio.gather(
        relay_command("dead-letters", "drop", "-c", str(config), "--all", "--yes"),
        relay_command("dead-letters", "replay", "-c", str(config), "--all"),
    )

    assert (dropped.returncode, replayed.returncode) == (0, 0), dropped.stderr + replayed.stderr
    async with outbox_of(config) as outbox:
        book = (await outbox.books())["tests"]
        assert book.waiting + book.dropped.get("operator", 0) == 3000
        assert not book.dead_letters


async def test_what_no_environment_is_named_for_is_told(config: Path, heap: StandInHeap) -> None:
    await fill(config, events=[event(9, lane(heap))], letters=[dead(1, lane(heap, "77"), environment="old")])

    done = await relay_command("dead-letters", "replay", "-c", str(config), "--environment", "old")

    assert "old: 1 event will not be sent: no environment of this YAML names app 77 any more" in done.stdout
    assert "relay orphans" in done.stdout


async def test_an_environment_whose_app_was_changed_does_not_promise_what_waits_for_the_old_one(
    config: Path, heap: StandInHeap
) -> None:
    await fill(config, letters=[dead(1, lane(heap)), dead(2, lane(heap, "77"))])

    done = await relay_command("dead-letters", "replay", "-c", str(config), "--all", "--dry-run")

    assert "tests: at most 200 events a second go to their app" in done.stdout
    assert "tests: 1 event will not be sent" in done.stdout


async def test_a_replay_goes_to_heap_no_faster_than_the_share_allows(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path
) -> None:
    content = settings(flagsmith, heap)
    content["environments"][0]["heap"]["share"] = 0.2
    config = write(tmp_path, content)
    await fill(config, letters=[dead(number, lane(heap)) for number in range(300)])
    began = time.monotonic()
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")

        done = await relay_command("dead-letters", "replay", "-c", str(config), "--all")

        assert "at most 50 events a second" in done.stdout
        await heap.wait_for_events(300, within=30)
    sent = 0
    for request in heap.requests:
        sent += request.events
        assert sent <= 50 * (request.received_at - began)


@pytest.mark.parametrize("command", [["replay"], ["drop", "--yes"], ["show"]])
async def test_a_number_that_is_not_there_is_told_and_nothing_is_done(
    config: Path, heap: StandInHeap, command: list[str]
) -> None:
    await fill(config, letters=[dead(1, lane(heap))])
    numbers = ["9"] if command == ["show"] else ["1", "9"]

    done = await relay_command("dead-letters", *command, "-c", str(config), *numbers)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "relay: there is no dead letter 9; `relay dead-letters list` has their numbers\n"
    async with outbox_of(config) as outbox:
        assert (await outbox.books())["tests"].dead_letters == {"refused_by_heap": 1}


async def test_a_number_no_file_can_hold_is_wrong_usage(config: Path, heap: StandInHeap) -> None:
    await fill(config)

    done = await relay_command("dead-letters", "show", "-c", str(config), "9" * 30)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


async def test_a_limit_counts_what_can_be_sent(config: Path, heap: StandInHeap) -> None:
    """Otherwise the same first ones, which can never be sent, would use it up every time."""
    await fill(config, letters=[dead(1, lane(heap), "identity_too_long"), dead(2, lane(heap)), dead(3, lane(heap))])

    done = await relay_command("dead-letters", "replay", "-c", str(config), "--all", "--limit", "1")

    assert "1 event put back to wait" in done.stdout
    async with outbox_of(config) as outbox:
        book = (await outbox.books())["tests"]
        assert book.dead_letters == {"identity_too_long": 1, "refused_by_heap": 1}


async def test_replay_and_drop_answer_machines_too(config: Path, heap: StandInHeap) -> None:
    await fill(config, letters=[dead(1, lane(heap)), dead(2, lane(heap), "identity_too_long")])
    group = {"environment": "tests", "heap": heap.url, "app_id": APP_ID, "events": 1}

    replayed = await relay_command("dead-letters", "replay", "-c", str(config), "--all", "--json")
    dropped = await relay_command("dead-letters", "drop", "-c", str(config), "--all", "--yes", "--json")

    sent, stuck = {**group, "reason": "refused_by_heap"}, {**group, "reason": "identity_too_long"}
    assert json.loads(replayed.stdout) == {"replayed": 1, "chosen": [sent], "never": [stuck]}
    assert json.loads(dropped.stdout) == {"dropped": 1, "chosen": [stuck]}


async def test_a_list_has_every_number_and_name_whole_on_a_narrow_terminal(config: Path, heap: StandInHeap) -> None:
    name = "production [/eu]"
    await fill(config, letters=[dead(number, lane(heap), environment=name) for number in range(12)])

    shown = on_terminal("dead-letters", "list", "-c", str(config), COLUMNS="60")

    assert shown.count(name) == 12
    assert re.search(r"^ +12  ", shown, re.MULTILINE)


async def test_what_could_control_a_terminal_is_shown_escaped(config: Path, heap: StandInHeap) -> None:
    one = event(1, lane(heap), identity="red\x9b31m\u202e")
    await fill(config, letters=[DeadLetter(one, Cause("refused_by_heap"))])

    done = await relay_command("dead-letters", "show", "-c", str(config), "1")

    assert r'"identity": "red\u009b31m\u202e"' in done.stdout


async def test_heaps_words_stand_in_one_line_and_control_no_terminal(config: Path, heap: StandInHeap) -> None:
    await fill(config, letters=[DeadLetter(event(1, lane(heap)), Cause("refused_by_heap", "bad\nvery\x1b[2Jbad"))])

    done = await relay_command("dead-letters", "list", "-c", str(config))

    (_, row) = done.stdout.splitlines()
    assert row.endswith(r"  bad very\u001b[2Jbad")


async def test_a_replay_shows_on_a_terminal_how_far_it_is(config: Path, heap: StandInHeap) -> None:
    await fill(config, letters=[dead(number, lane(heap)) for number in range(1200)])

    shown = on_terminal("dead-letters", "replay", "-c", str(config), "--all")

    assert "100%" in shown


def on_terminal(*arguments: str, **environ: str) -> str:
    """What `relay …` shows on a terminal."""
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as shown:
        process = subprocess.Popen(
            [sys.executable, "-m", "relay", *arguments], stdout=its, stderr=its, env={**os.environ, **environ}
        )
        os.close(its)
        text = b""
        with suppress(OSError):  # Linux: so ends a terminal that nobody writes to any more
            while part := shown.read(65536):
                text += part
        process.wait()
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).replace("\r\n", "\n")
