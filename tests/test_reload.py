"""A configuration that changes under a real process: signals, the kubelet's swap, a restart on a broken file."""

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID, CLIENT_KEY, settings, write
from tests.processes import relay_process
from tests.test_process import identify, run

MISTAKE = "  prot: 1\n"


@pytest.fixture
def config(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path) -> Path:
    return write(tmp_path, settings(flagsmith, heap))


@pytest.fixture
def broken(config: Path) -> Path:
    """The same file after a relay ran on it, with a mistake."""
    copy = config.parent / "data" / "outbox.db.last-good.yaml"
    copy.parent.mkdir()
    copy.write_bytes(config.read_bytes())
    breaks(config)
    return config


def breaks(config: Path) -> None:
    config.write_text(config.read_text().replace("admin:\n", f"admin:\n{MISTAKE}"))


def breaks_off(config: Path) -> None:
    config.write_text(config.read_text() + "{")


def mended(config: Path) -> None:
    config.write_text(config.read_text().replace(MISTAKE, ""))


async def test_sighup_has_the_file_looked_at(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, config: Path
) -> None:
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        write(config.parent, settings(flagsmith, heap, environments=[]))
        relay.hang_up()
        assert (await relay.wait_for("config.reloaded"))["environments"] == 0

        await identify(http, relay.url, "ada")
        relay.terminate()
        assert await relay.ended() == 0
        assert relay.lines[-1]["kept"] == 0


async def test_status_and_metrics_follow_the_environments(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, config: Path
) -> None:
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        await identify(http, relay.url, "ada")
        await heap.wait_for_events(1)
        await until_told(http, f"{relay.admin_url}/metrics", 'relay_delivered_total{environment="tests"} 1.0')

        renamed = {"name": "renamed", "keys": [CLIENT_KEY], "heap": {"app_id": APP_ID, "url": heap.url}}
        write(config.parent, settings(flagsmith, heap, environments=[renamed]))
        relay.hang_up()

        await until_told(http, f"{relay.admin_url}/status.txt", "renamed\n  lane    nothing waits")
        metrics = await until_told(http, f"{relay.admin_url}/metrics", 'relay_delivered_total{environment="renamed"} 0')
        assert 'environment="tests"' not in metrics


async def until_told(http: aiohttp.ClientSession, url: str, words: str) -> str:
    """What is at *url*, once it says so."""
    async with asyncio.timeout(10):
        while True:
            async with http.get(url) as answer:
                if words in (told := await answer.text()):
                    return told
            await asyncio.sleep(0.05)


async def test_the_log_level_changes_while_running(
    flagsmith: StandInFlagsmith, heap: StandInHeap, config: Path
) -> None:
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        write(config.parent, settings(flagsmith, heap, log={"level": "warning"}, listen={"port": 1}))
        relay.hang_up()
        await relay.wait_for("config.needs_restart")
        relay.terminate()
        assert await relay.ended() == 0

    assert "config.reloaded" not in {line["event"] for line in relay.lines}
    assert "relay.stopped" not in {line["event"] for line in relay.lines}


class Volume:
    """A ConfigMap and a Secret, mounted as folders, that change as the kubelet changes them.

    A new folder is filled, `..data` is moved to it in one step, the old one is removed
    (github.com/kubernetes/kubernetes, pkg/volume/util/atomic_writer.go).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = 0

    def publish(self, files: Mapping[str, str]) -> None:
        self._versions += 1
        version = self.folder / f"..2026_11_24_12_00_00.{self._versions}"
        version.mkdir(parents=True)
        for name, text in files.items():
            (version / name).write_text(text)
        old = (self.folder / "..data").resolve()
        (self.folder / "..data_tmp").symlink_to(version.name)
        (self.folder / "..data_tmp").rename(self.folder / "..data")
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(Path("..data") / name)
        if old != self.folder / "..data":
            for file in old.iterdir():
                file.unlink()
            old.rmdir()


async def test_a_configmap_and_a_secret_change_as_the_kubelet_changes_them(
    flagsmith: StandInFlagsmith, heap: StandInHeap, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    maps, secrets = Volume(tmp_path / "config"), Volume(tmp_path / "secrets")
    key = {"keys": ["${file:../secrets/key}"], "heap": {"app_id": APP_ID, "url": heap.url}}

    def content(name: str) -> dict[str, str]:
        changes: dict[str, Any] = {
            "reload": "50ms",
            "outbox": {"url": f"sqlite:///{tmp_path}/outbox.db"},
            "environments": [{"name": name, **key}],
        }
        return {"config.yaml": yaml.safe_dump(settings(flagsmith, heap, **changes)), "other": name}

    secrets.publish({"key": "the-old-key"})
    maps.publish(content("first"))
    async with relay_process(tmp_path / "config" / "config.yaml") as relay:
        await relay.wait_for("relay.started")
        first = await relay.wait_for("relay.captures")

        maps.publish(content("second"))
        await relay.wait_for("config.reloaded")
        secrets.publish({"key": CLIENT_KEY})
        await relay.wait_for("config.reloaded", times=2)
        await identify(http, relay.url, "ada")
        await heap.wait_for_events(1)

        relay.terminate()
        assert await relay.ended() == 0

    assert first["environment"] == "first"
    assert [line["environments"] for line in relay.lines if line["event"] == "batch.delivered"] == [["second"]]


async def test_a_restart_on_a_broken_file_runs_on_the_last_good_one_and_says_so(
    config: Path, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        relay.terminate()
        assert await relay.ended() == 0
    breaks(config)

    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        await identify(http, relay.url, "ada")
        await heap.wait_for_events(1)
        async with http.get(f"{relay.admin_url}/status.json") as answer:
            state = (await answer.json())["config"]

    refused, last_good = relay.logged("config.refused"), relay.logged("config.last_good")
    assert refused["detail"].startswith(f"{config}:2: admin.prot: ")
    assert (refused["level"], last_good["level"]) == ("error", "warning")
    assert (state["last_good"], state["stale"], state["mistakes"]) == (True, True, [refused["detail"]])


async def test_a_probe_with_the_file_does_not_fail_for_the_mistakes_in_it(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path
) -> None:
    """Else the kubelet would end what a bad file must not take down."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = write(tmp_path, settings(flagsmith, heap, admin={"port": port}))
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        breaks(config)
        relay.hang_up()
        await relay.wait_for("config.refused")

        done = await asyncio.to_thread(run, "health", "-c", str(config))

    assert (done.returncode, done.stdout) == (0, "ok\n")


async def test_the_mended_file_is_taken_without_a_restart(broken: Path, http: aiohttp.ClientSession) -> None:
    async with relay_process(broken) as relay:
        await relay.wait_for("relay.started")
        mended(broken)
        relay.hang_up()
        await relay.wait_for("config.reloaded")
        async with http.get(f"{relay.admin_url}/status.json") as answer:
            state = (await answer.json())["config"]

    assert (state["last_good"], state["stale"], state["mistakes"], state["needs_restart"]) == (False, False, [], [])


async def test_a_restart_on_a_file_that_is_no_yaml_finds_its_outbox_in_the_text(
    config: Path, flagsmith: StandInFlagsmith, heap: StandInHeap
) -> None:
    elsewhere = {"url": f"sqlite:///{config.parent}/elsewhere/outbox.db"}
    write(config.parent, settings(flagsmith, heap, outbox=elsewhere))
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        relay.terminate()
        assert await relay.ended() == 0
    breaks_off(config)

    async with relay_process(config) as relay:
        await relay.wait_for("config.last_good")
        await relay.wait_for("relay.started")


def test_a_broken_file_without_a_copy_exits_2_with_its_mistakes(broken: Path) -> None:
    (broken.parent / "data" / "outbox.db.last-good.yaml").unlink()

    done = run("run", "-c", str(broken))

    assert done.returncode == 2
    assert done.stderr.startswith(f"{broken}:2: admin.prot: ")


def test_a_path_without_a_file_exits_2_whatever_was_kept(broken: Path) -> None:
    """No old content runs because of a slip in -c."""
    broken.unlink()

    done = run("run", "-c", str(broken))

    assert done.returncode == 2
    assert "there is no such file" in done.stderr
