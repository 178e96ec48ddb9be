"""relay status, beside a real process and without one."""

import asyncio
import json
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from relay.core.recognise import VIA
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.admin.statuses import FORECAST, environment, status
from tests.conftest import settings, write
from tests.processes import RelayProcess, relay_process
from tests.test_process import identify, run


async def test_it_prints_what_the_running_relay_tells(config: Path, relay: RelayProcess) -> None:
    done = await asyncio.to_thread(run, "status", "-c", str(config))

    assert done.returncode == 0, done.stderr
    assert "relay     ready, running for" in done.stdout
    assert "  lane    nothing waits" in done.stdout
    assert done.stderr == ""


async def test_as_json_it_is_the_admin_ports(config: Path, relay: RelayProcess, http: aiohttp.ClientSession) -> None:
    done = await asyncio.to_thread(run, "status", "-c", str(config), "--json")

    assert done.returncode == 0
    async with http.get(f"{relay.admin_url}/status.json") as answer:
        assert list(json.loads(done.stdout)) == list(await answer.json())


async def test_a_forecast_is_a_table_and_in_the_json(config: Path, relay: RelayProcess) -> None:
    done = await asyncio.to_thread(run, "status", "-c", str(config), "--forecast")
    as_json = await asyncio.to_thread(run, "status", "-c", str(config), "--forecast", "--json")

    assert (done.returncode, done.stderr) == (0, "")
    assert "in force is every_call" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if "0.0%" in line] == ["every_call", "on_change"]
    assert json.loads(as_json.stdout)["environments"][0]["forecast"]["send"] == "every_call"


def test_without_a_relay_there_is_no_forecast(config: Path) -> None:
    done = run("status", "-c", str(config), "--forecast")

    assert (done.returncode, done.stdout) == (1, "")
    assert "no relay answers at 127.0.0.1" in done.stderr
    assert "only a running relay has a forecast" in done.stderr
    assert "Traceback" not in done.stderr


async def test_without_a_relay_it_reads_the_outbox_and_says_so(
    flagsmith: StandInFlagsmith, http: aiohttp.ClientSession, heap: StandInHeap, tmp_path: Path, port: int
) -> None:
    capped = {"daily_cap": {"events": 10}}
    config = write(tmp_path, settings(flagsmith, heap, admin={"port": port}, defaults=capped))
    heap.fail_always(503)
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        await identify(http, relay.url, "ada")
        relay.terminate()
        assert await relay.ended() == 0

    done = await asyncio.to_thread(run, "status", "-c", str(config))
    as_json = await asyncio.to_thread(run, "status", "-c", str(config), "--json")

    assert done.returncode == as_json.returncode == 1
    assert "no relay answers at 127.0.0.1" in done.stderr
    assert "relay     not running; this is what stands in its outbox" in done.stdout
    assert "  books   1 captured = 0 delivered + 1 waiting" in done.stdout
    assert "  cap     1 of 10 events today (10%)" in done.stdout
    told = json.loads(as_json.stdout)
    assert (told["started_at"], told["config"], told["totals"]["waiting"]) == (None, None, 1)


def test_without_a_relay_a_memory_outbox_cannot_be_read(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path, port: int
) -> None:
    config = write(tmp_path, settings(flagsmith, heap, admin={"port": port}, outbox={"url": "memory://"}))

    done = run("status", "-c", str(config))

    assert done.returncode == 1
    assert "only a running relay can tell" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_relay_and_an_outbox_it_says_what_is_missing(config: Path) -> None:
    done = run("status", "-c", str(config))

    assert done.returncode == 1
    assert "outbox.db" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (config.parent / "data").exists()


async def test_what_something_else_at_the_admin_port_says_is_not_printed(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path
) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(text="relay     ready")

    async with RawTestServer(answer) as other:
        config = write(tmp_path, settings(flagsmith, heap, admin={"port": other.port}))
        done = await asyncio.to_thread(run, "status", "-c", str(config))

    assert (done.returncode, done.stdout) == (1, "")
    assert "but something else" in done.stderr


async def test_a_forecast_controls_no_terminal(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path) -> None:
    told = msgspec.json.encode(status(environment("\x1b[2J", forecast=FORECAST)))

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=told, headers={"Server": VIA})

    async with RawTestServer(answer) as other:
        config = write(tmp_path, settings(flagsmith, heap, admin={"port": other.port}))
        done = await asyncio.to_thread(run, "status", "-c", str(config), "--forecast")

    assert done.returncode == 0, done.stderr
    assert "\\u001b[2J" in done.stdout
    assert "\x1b" not in done.stdout
