"""What only a real process shows: signals, kills, exit codes, what stands on disk."""

import asyncio
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from relay.cli import COMMANDS
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID, CLIENT_KEY, settings, write
from tests.processes import relay_process

KEY = {"X-Environment-Key": CLIENT_KEY}

# What a relay with both roles on a SQLite file never uses, or uses only when somebody asks for it; with all below it.
NEEDLESS = {
    *("hiredis", "redis"),
    *("relay.config.schema", "relay.core.report", "relay.sandbox"),
    *("relay.outbox.memory", "relay.outbox.memory_tables", "relay.outbox.redis", "relay.outbox.spool"),
    *(f"relay.cli.{name.replace('-', '_')}" for name in COMMANDS.keys() - {"run"}),
}


async def identify(http: aiohttp.ClientSession, url: str, identity: str) -> None:
    async with http.get(f"{url}/api/v1/identities/", params={"identifier": identity}, headers=KEY) as answer:
        assert answer.status == 200
        await answer.read()


@pytest.fixture
def config(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path) -> Path:
    return write(tmp_path, settings(flagsmith, heap))


async def test_sigterm_ends_in_order_with_exit_code_0_and_a_last_line_that_adds_up(
    config: Path, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    heap.fail_always(503)
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        for number in range(3):
            await identify(http, relay.url, f"user-{number}")

        relay.terminate()

        assert await relay.ended() == 0
        last = relay.lines[-1]
        assert (last["event"], last["delivered"], last["kept"], last["lost"]) == ("relay.stopped", 0, 3, 0)


async def test_a_relay_has_imported_nothing_that_only_others_need(config: Path) -> None:
    """Each module takes its time of every start, and its memory as long as the relay runs."""
    async with relay_process(config, {"PYTHONPROFILEIMPORTTIME": "1"}) as relay:
        await relay.wait_for("relay.started")

        imported = {line.rpartition("|")[2].strip() for line in relay.text if line.startswith("import time:")}

    assert "relay.outbox.sqlite" in imported
    assert [name for name in sorted(imported) if any(f"{name}.".startswith(f"{one}.") for one in NEEDLESS)] == []


async def test_during_the_grace_new_connections_are_still_answered(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    config = write(tmp_path, settings(flagsmith, heap, shutdown={"grace": "2s"}))
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        relay.terminate()
        await relay.wait_for("relay.stopping")

        await identify(http, relay.url, "late")

        assert await relay.ended() == 0


async def test_a_second_signal_stops_at_once_and_keeps_what_was_committed(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    heap.fail_always(503)
    before = {"commit": "before_answer", "commit_timeout": "5s"}
    config = write(tmp_path, settings(flagsmith, heap, shutdown={"grace": "10m"}, outbox=before))
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        await identify(http, relay.url, "ada")
        relay.terminate()
        await relay.wait_for("relay.stopping")
        relay.terminate()
        assert await relay.ended() == 0

    heap.recover()
    async with relay_process(write(tmp_path, settings(flagsmith, heap))) as relay:
        await heap.wait_for_events(1)
    assert [event.identity for event in heap.stored(APP_ID)] == ["ada"]


async def test_a_second_signal_waits_for_no_request(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    flagsmith.delay = 600
    config = write(tmp_path, settings(flagsmith, heap, shutdown={"finish": "10m"}))
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        call = asyncio.create_task(identify(http, relay.url, "ada"))
        async with asyncio.timeout(10):
            while not flagsmith.requests:
                await asyncio.sleep(0.01)
        relay.terminate()
        await relay.wait_for("relay.stopping")
        relay.terminate()

        assert await relay.ended(within=5) == 0
        assert relay.lines[-1]["event"] == "relay.stopped"
        with pytest.raises(aiohttp.ClientError):
            await call


async def test_flagsmiths_answer_to_a_relay_that_stands_still_is_read_when_it_goes_on(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Its own pause is no silence of Flagsmith's, however long it was."""
    flagsmith.delay = 0.5
    config = write(tmp_path, settings(flagsmith, heap, upstream={"url": flagsmith.url, "read_timeout": "1s"}))
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        call = asyncio.create_task(identify(http, relay.url, "ada"))
        async with asyncio.timeout(10):
            while not flagsmith.requests:
                await asyncio.sleep(0.01)
        relay.pause()
        await asyncio.sleep(2)  # which is the pause
        relay.resume()

        await call


async def test_sigkill_loses_nothing_that_was_committed_and_doubles_nothing(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """With before_answer an answered call is a committed event; five lives, five kills in the middle of traffic."""
    before = {"commit": "before_answer", "commit_timeout": "30s"}
    config = write(tmp_path, settings(flagsmith, heap, outbox=before))
    answered: set[str] = set()
    for life in range(5):
        async with relay_process(config) as relay:
            await relay.wait_for("relay.started")
            traffic = asyncio.create_task(call_until_it_dies(http, relay.url, life, answered))
            async with asyncio.timeout(20):
                while sum(name.startswith(f"{life}-") for name in answered) < 20:
                    await asyncio.sleep(0.001)
            relay.kill()
            await traffic

    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        await heap.wait_for_events(len(answered))
        async with asyncio.timeout(20):
            while not answered <= {event.identity for event in heap.stored(APP_ID)}:
                await asyncio.sleep(0.01)

    stored = [event.identity for event in heap.stored(APP_ID)]
    assert len(stored) == len(set(stored))  # each call has an identity of its own: a second event would have a new key
    assert not heap.violations


async def call_until_it_dies(http: aiohttp.ClientSession, url: str, life: int, answered: set[str]) -> None:
    number = 0
    while True:
        try:
            await identify(http, url, f"{life}-{number}")
        except aiohttp.ClientError:
            return
        answered.add(f"{life}-{number}")
        number += 1


async def test_a_mistake_in_the_yaml_exits_2_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("listen:\n  prot: 1\n")

    done = await asyncio.to_thread(run, "run", "-c", str(path))

    assert done.returncode == 2
    assert "config.yaml:2" in done.stderr
    assert "listen.prot" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_port_in_use_exits_1_with_one_line(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path
) -> None:
    port = int(heap.url.rpartition(":")[2])
    path = write(tmp_path, settings(flagsmith, heap, listen={"port": port}))

    done = await asyncio.to_thread(run, "run", "-c", str(path))

    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_missing_c_parser_exits_1_with_one_line(config: Path) -> None:
    """aiohttp's parser in plain Python has been the weaker one in every request smuggling advisory."""
    done = await asyncio.to_thread(run, "run", "-c", str(config), AIOHTTP_NO_EXTENSIONS="1")

    assert done.returncode == 1
    assert "C parser" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("package", ["uvloop", "httptools"])
async def test_a_missing_package_exits_1_with_one_line(config: Path, tmp_path: Path, package: str) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ImportError('no {package}')")

    done = await asyncio.to_thread(run, "run", "-c", str(config), PYTHONPATH=str(tmp_path))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"relay: no {package}; install the relay with all of requirements/run.txt\n"


async def test_health_asks_a_running_relay(config: Path) -> None:
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        address = relay.admin_url.removeprefix("http://")

        done = await asyncio.to_thread(run, "health", "--ready", "--address", address)

        assert (done.returncode, done.stdout) == (0, "ready\n")


async def test_the_outbox_is_for_its_owner_alone(config: Path, http: aiohttp.ClientSession) -> None:
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        await identify(http, relay.url, "ada")
        files = list((config.parent / "data").iterdir())

    assert files
    for file in files:
        if file.exists():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_no_identity_and_no_key_is_ever_logged(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    config = write(tmp_path, settings(flagsmith, heap, log={"level": "debug"}))
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        await identify(http, relay.url, "ada-lovelace")
        headers = {"X-Environment-Key": "an-unknown-key"}
        async with http.get(relay.url + "/api/v1/identities/?identifier=bob-ross", headers=headers):
            pass
        await heap.wait_for_events(1)
        relay.terminate()
        assert await relay.ended() == 0
        text = "".join(relay.text)

    for secret in ("ada-lovelace", "bob-ross", CLIENT_KEY, "an-unknown-key"):
        assert secret not in text


async def test_nothing_that_ps_or_a_core_dumps_name_shows_is_a_secret(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A dump is named by the program's name, number and folder (man 5 core); ps shows command lines and threads."""
    environment = {"name": "tests", "keys": ["${KEY}"], "heap": {"app_id": "${APP}", "url": heap.url}}
    config = write(tmp_path, settings(flagsmith, heap, environments=[environment]))
    async with relay_process(config, {"KEY": CLIENT_KEY, "APP": APP_ID}) as relay:
        await relay.wait_for("relay.started")
        await identify(http, relay.url, "ada-lovelace")
        await heap.wait_for_events(1)
        shown = seen_by_others(relay.process.pid)

    for secret in ("ada-lovelace", CLIENT_KEY, APP_ID):
        assert secret not in shown


def seen_by_others(pid: int) -> str:
    """What every user of the machine may see of a process."""
    process = Path(f"/proc/{pid}")
    files = [process / "cmdline", process / "comm", *process.glob("task/*/comm")]
    return b" ".join(file.read_bytes() for file in files).decode() + str((process / "cwd").readlink())


def test_health_says_that_nobody_answers() -> None:
    done = run("health", "--address", "127.0.0.1:1")

    assert done.returncode == 1
    assert "no relay answers" in done.stderr


def run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """`relay …` as a command of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "relay", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "NO_COLOR": "1", **environ},
    )


def test_the_version_is_printed() -> None:
    assert json.dumps(run("--version").stdout).count("0.1.0") == 1
