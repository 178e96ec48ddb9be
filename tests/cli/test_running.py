"""relay check --running, beside a real process."""

import asyncio
import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from relay.core.recognise import VIA
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.cli.broken import append, has_a_copy
from tests.conftest import settings, write
from tests.processes import RelayProcess
from tests.test_process import run


async def check(config: Path, *options: str) -> "tuple[CompletedProcess[str], list[str]]":
    """`relay check --running` and what it says of the relay."""
    done = await asyncio.to_thread(run, "check", "-c", str(config), "--running", *options)
    marked = [line for line in done.stderr.splitlines() if line.startswith("running: ")]
    return done, [line.removeprefix("running: ") for line in marked]


async def test_a_relay_that_serves_the_file_is_exit_0(config: Path, relay: RelayProcess) -> None:
    done, [line] = await check(config)

    assert done.returncode == 0
    assert line.startswith("the relay serves this file, loaded 2")


async def test_a_change_that_was_not_noticed_yet_is_exit_1(config: Path, relay: RelayProcess) -> None:
    append(config, "# more\n")

    done, [first, second] = await check(config)

    assert done.returncode == 1
    assert first.startswith("the relay serves another content")
    assert "SIGHUP" in second


async def test_what_the_relay_refused_is_told_with_its_line(
    config: Path, relay: RelayProcess, flagsmith: StandInFlagsmith, heap: StandInHeap, port: int
) -> None:
    append(config, "logg: {}\n")
    relay.hang_up()
    refused = await relay.wait_for("config.refused")
    write(config.parent, settings(flagsmith, heap, admin={"port": port}, environments=[]))

    done, lines = await check(config)

    assert done.returncode == 1
    assert lines[1] == f"it refused its file: {refused['detail']}"


async def test_settings_that_wait_for_a_restart_are_exit_1(
    config: Path, relay: RelayProcess, flagsmith: StandInFlagsmith, heap: StandInHeap, port: int
) -> None:
    write(config.parent, settings(flagsmith, heap, admin={"port": port}, capture={"max_flags": 7}))
    relay.hang_up()
    await relay.wait_for("config.needs_restart")

    done, [first, second] = await check(config)

    assert done.returncode == 1
    assert first.startswith("the relay serves this file")
    assert second == "these settings wait for a restart of the relay: capture.max_flags"


async def test_json_says_the_same(config: Path, relay: RelayProcess) -> None:
    done, _ = await check(config, "--json")

    running = json.loads(done.stdout)["running"]
    assert (done.returncode, running["same"]) == (0, True)
    assert running["told"][0].startswith("the relay serves this file")


async def test_without_a_relay_it_is_exit_1(config: Path, port: int) -> None:
    done, [line] = await check(config)

    assert done.returncode == 1
    assert f"no relay answers at 127.0.0.1 port {port}" in line


async def beside(flagsmith: StandInFlagsmith, heap: StandInHeap, folder: Path, **answer: Any) -> tuple[int, list[str]]:
    """What is said, and with which exit code, where the admin port gives *answer*."""

    async def reply(_: web.BaseRequest) -> web.Response:
        return web.Response(**answer)

    async with RawTestServer(reply) as other:
        done, lines = await check(write(folder, settings(flagsmith, heap, admin={"port": other.port})))
    assert "Traceback" not in done.stderr
    return done.returncode, lines


@pytest.mark.parametrize("status", [200, 404])
async def test_somebody_else_at_the_port_is_one_line(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path, status: int
) -> None:
    code, [line] = await beside(flagsmith, heap, tmp_path, status=status, text='{"config": {}}')

    assert code == 1
    assert line.endswith(", but something else; see who listens there")


@pytest.mark.parametrize("body", ["", "[]", '{"config": 1}', '{"config": {}}'])
async def test_a_relay_of_another_version_is_one_line(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path, body: str
) -> None:
    code, [line] = await beside(flagsmith, heap, tmp_path, text=body, headers={"Server": VIA})

    assert code == 1
    assert line.endswith("is no relay of this version")


async def test_nothing_that_is_told_controls_the_terminal(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path
) -> None:
    told = {"digest": "", "loaded_at": 0, "last_good": False, "mistakes": ["\x1b[2J"], "needs_restart": ["\x9b"]}

    _, lines = await beside(flagsmith, heap, tmp_path, text=json.dumps({"config": told}), headers={"Server": VIA})

    assert lines[1:] == [
        "it refused its file: \\u001b[2J",
        "these settings wait for a restart of the relay: \\u009b",
    ]


async def test_a_port_that_is_not_known_is_exit_1(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path
) -> None:
    done, [line] = await check(write(tmp_path, settings(flagsmith, heap)))

    assert done.returncode == 1
    assert line.startswith("nobody can be asked: admin.port is 0")


async def test_a_file_with_mistakes_is_exit_2_and_the_last_good_content_is_told(
    config: Path, relay: RelayProcess
) -> None:
    await has_a_copy(config)
    append(config, "logg: {}\n")

    done, [line] = await check(config)

    assert done.returncode == 2
    assert ": logg: is no setting here" in done.stderr
    assert line.startswith("this file has mistakes, and the relay serves its last good content, loaded 2")


async def test_of_a_file_with_mistakes_and_no_last_good_content_nobody_is_asked(config: Path) -> None:
    append(config, "logg: {}\n")

    done, lines = await check(config)

    assert done.returncode == 2
    assert lines == ["nobody can be asked: the file has mistakes, and no last good content of it is kept"]
