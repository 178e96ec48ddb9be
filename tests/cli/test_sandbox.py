"""relay sandbox: the whole path, seen to work from the outside."""

import asyncio
import signal
import sys

import pytest
from click.testing import CliRunner

from relay.cli import main

COMMAND = (sys.executable, "-m", "relay", "sandbox")


async def test_once_runs_a_fixed_sample_checks_the_books_and_exits_0() -> None:
    process = await asyncio.create_subprocess_exec(*COMMAND, "--once", stdout=asyncio.subprocess.PIPE)

    said, _ = await process.communicate()

    assert process.returncode == 0
    assert said.decode().count("Heap stored 'Flagsmith Feature Flags' for ") == 16
    assert said.decode().splitlines()[-1] == "16 captured = 16 delivered + 0 waiting; Heap has 16 events"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_order(number: signal.Signals) -> None:
    ports = ("--port", "0", "--admin-port", "0")
    process = await asyncio.create_subprocess_exec(*COMMAND, *ports, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    said = [await process.stdout.readline() for _ in range(5)]

    process.send_signal(number)

    assert await process.wait() == 0
    assert said[0].startswith(b"Point an SDK at ")
    assert any(line.startswith(b"Heap stored ") for line in said)


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
@pytest.mark.parametrize("number", ["65536", "-1", "http"])
def test_what_is_no_port_is_wrong_usage(option: str, number: str) -> None:
    done = CliRunner().invoke(main, ["sandbox", option, number])

    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in done.stderr


def test_one_port_for_both_is_wrong_usage() -> None:
    done = CliRunner().invoke(main, ["sandbox", "--port", "18091", "--admin-port", "18091"])

    assert done.exit_code == 2
    assert "--port and --admin-port are the same; give two" in done.stderr
