"""Standard streams that are closed, full, or read by nobody any more: no command shows a traceback."""

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import settings, write

FULL = "relay: cannot go on: [Errno 28] No space left on device; make room, or write the output elsewhere\n"


def shell(line: str, folder: Path, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    """*line* as typed, where `relay` is the command and config.yaml a good file."""
    write(folder, {"environments": [{"name": "a", "keys": ["k"], "heap": {"app_id": "1", "region": "us"}}]})
    return subprocess.run(
        ["bash", "-c", f'python=$0; relay() {{ "$python" -m relay "$@"; }}; {line}', sys.executable],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )


@pytest.mark.parametrize("command", ["schema", "check -c config.yaml", "check -c config.yaml --json", "--help"])
def test_without_a_standard_output_a_command_does_its_work_in_silence(tmp_path: Path, command: str) -> None:
    done = shell(f"relay {command} >&-", tmp_path)

    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["schema", "check -c config.yaml", "--version", "sandbox --once"])
def test_a_full_device_is_one_line_and_exit_1(tmp_path: Path, command: str) -> None:
    done = shell(f"relay {command} >/dev/full", tmp_path)

    assert done.returncode == 1
    assert done.stderr.endswith(FULL)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["schema", "check -c config.yaml", "--help", "sandbox --once"])
def test_a_reader_that_left_ends_a_command_without_a_word(tmp_path: Path, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    done = shell(f"relay {command}", tmp_path, stdout=writer)

    os.close(writer)
    assert done.returncode == 1
    assert "Error" not in done.stderr


def test_nowhere_to_say_it_keeps_the_exit_code(tmp_path: Path) -> None:
    assert shell("relay check -c missing.yaml 2>&-", tmp_path).returncode == 2
    assert shell("relay check -c config.yaml >/dev/full 2>&1", tmp_path).returncode == 1


def test_a_closed_standard_input_holds_no_identity(tmp_path: Path) -> None:
    done = shell("relay preview -c config.yaml --environment b --identity - <&-", tmp_path)

    assert done.returncode == 2
    assert "no environment has that name" in done.stderr


async def test_a_relay_without_a_standard_error_runs(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """And no connection takes the number of the missing stream, to get what is written to it."""
    port = free_port()
    path = write(tmp_path, settings(flagsmith, heap, listen={"port": port}))
    line = 'exec "$0" -m relay run -c "$1" 2>&-'
    process = await asyncio.create_subprocess_exec("bash", "-c", line, sys.executable, str(path))
    try:
        await until_answered(http, f"http://127.0.0.1:{port}/health")
        stream = os.readlink(f"/proc/{process.pid}/fd/2")  # noqa: PTH115 - not blocking
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert stream == os.devnull


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def until_answered(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(15):
        while True:
            with suppress(aiohttp.ClientError):
                async with http.get(url):
                    return
            await asyncio.sleep(0.02)
