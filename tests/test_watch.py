"""A configuration file that changes while the relay runs: taken whole or not at all, and disturbing nobody."""

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from structlog.testing import capture_logs

from relay import watch
from relay.app import Relay, running
from relay.last_good import open_file
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID, CLIENT_KEY, settings
from tests.test_app import identify, sample

OTHER_ID = "2222222222"
MISTAKE = "listen: {prot: 1}\n"


@dataclass
class File:
    """The YAML of a relay between the stand-ins."""

    path: Path
    flagsmith: StandInFlagsmith
    heap: StandInHeap

    def environment(self, name: str = "tests", key: str = CLIENT_KEY, app_id: str = APP_ID) -> dict[str, Any]:
        return {"name": name, "keys": [key], "heap": {"app_id": app_id, "url": self.heap.url}}

    def text(self, **changes: Any) -> str:
        return yaml.safe_dump(settings(self.flagsmith, self.heap, **changes))

    def write(self, **changes: Any) -> None:
        """As an editor does: the old content is gone before the new one is there."""
        self.path.write_text(self.text(**changes))

    def running(self, **changes: Any) -> AbstractAsyncContextManager[Relay]:
        self.write(**changes)
        file = open_file(self.path, {})
        return running(file.loaded.config, file=file)


@pytest.fixture
def file(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path) -> File:
    return File(tmp_path / "config.yaml", flagsmith, heap)


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not reached():
            await asyncio.sleep(0.005)


async def reloaded(relay: Relay) -> None:
    """Have the relay look, and return once what the file holds runs."""
    before = relay.config_state
    relay.look_at_file()
    await until(lambda: relay.config_state is not before and not relay.config_state.stale)


def counted(relay: Relay, result: str) -> float:
    return sample(relay.registry, "relay_config_reloads_total", result=result)


async def test_an_environment_that_comes_is_captured_at_once(file: File, http: aiohttp.ClientSession) -> None:
    key = file.flagsmith.server_key
    async with file.running() as relay:
        file.write(environments=[file.environment(), file.environment("more", key, OTHER_ID)])
        await reloaded(relay)
        await identify(http, relay, "ada", key)
        await file.heap.wait_for_events(1)

    assert [event.identity for event in file.heap.stored(OTHER_ID)] == ["ada"]


async def test_a_change_is_noticed_without_being_asked(file: File) -> None:
    async with file.running(reload="20ms") as relay:
        file.write(reload="20ms", environments=[])
        await until(lambda: counted(relay, "applied"))

        assert relay.parts.proxy.environments == {}


async def test_a_file_that_does_not_change_is_not_loaded_again(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where it is written anew, as the kubelet does when another key of the ConfigMap changes."""
    monkeypatch.setattr(watch, "SETTLE_SECONDS", 0)
    async with file.running(reload="20ms") as relay:
        before = relay.config_state
        file.write(reload="20ms")
        await asyncio.sleep(0.2)

        assert relay.config_state is before
        assert not counted(relay, "applied")


async def test_a_secret_that_is_rotated_is_taken_over(file: File, http: aiohttp.ClientSession) -> None:
    secret = file.path.parent / "key"
    secret.write_text("expired\n")
    async with file.running(environments=[file.environment(key="${file:key}")]) as relay:
        secret.write_text(f"{CLIENT_KEY}\n")
        await reloaded(relay)
        await identify(http, relay, "ada")
        await file.heap.wait_for_events(1)

        assert list(relay.parts.proxy.environments) == [CLIENT_KEY]


async def test_a_mistake_keeps_what_runs_and_is_told_once_with_its_line(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SETTLE_SECONDS", 0)
    with capture_logs() as logs:
        async with file.running(reload="20ms") as relay:
            before = relay.config_state
            file.path.write_text(MISTAKE)
            await until(lambda: relay.config_state.stale)
            await asyncio.sleep(0.2)  # ten more looks

            assert relay.config_state.digest == before.digest
            assert relay.config_state.loaded_at == before.loaded_at
            [mistake] = relay.config_state.mistakes
            assert mistake.startswith(f"{file.path}:1: listen.prot: ")
            assert list(relay.parts.proxy.environments) == [CLIENT_KEY]
            assert counted(relay, "refused") == sample(relay.registry, "relay_config_stale") == 1

    [line] = [line for line in logs if line["event"] == "config.refused"]
    assert (line["detail"], line["log_level"]) == (mistake, "error")


async def test_who_asks_is_told_a_mistake_again(file: File) -> None:
    async with file.running() as relay:
        file.path.write_text(MISTAKE)
        for times in (1, 2):
            relay.look_at_file()
            await until(lambda times=times: counted(relay, "refused") == times)  # type: ignore[misc]  # a default in a lambda


async def test_who_asks_without_a_change_is_told_that(file: File) -> None:
    with capture_logs() as logs:
        async with file.running() as relay:
            relay.look_at_file()
            await until(lambda: any(line["event"] == "config.unchanged" for line in logs))

            assert not counted(relay, "applied")


async def test_a_mended_file_is_taken(file: File) -> None:
    async with file.running() as relay:
        file.path.write_text(MISTAKE)
        relay.look_at_file()
        await until(lambda: relay.config_state.stale)
        file.write(environments=[])
        await reloaded(relay)

        assert relay.config_state.mistakes == ()
        assert sample(relay.registry, "relay_config_stale") == 0


@pytest.mark.parametrize("end", ["none", "device", "folder"])
async def test_whatever_becomes_of_the_file_the_relay_goes_on(
    file: File, http: aiohttp.ClientSession, end: str
) -> None:
    """A device never ends; what is read of it does."""
    async with file.running() as relay:
        file.path.unlink()
        if end == "device":
            file.path.symlink_to("/dev/zero")
        if end == "folder":
            file.path.mkdir()
        relay.look_at_file()
        await until(lambda: relay.config_state.stale)

        await identify(http, relay, "ada")
        await file.heap.wait_for_events(1)


async def test_a_file_that_is_still_being_written_is_waited_for(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first half may be valid, and lack environments."""
    monkeypatch.setattr(watch, "SETTLE_SECONDS", 1.0)
    more = [file.environment(), file.environment("more", "another-key", OTHER_ID)]
    half, whole = file.text(environments=more[:1], shutdown={"grace": "1ms"}), file.text(environments=more)
    with capture_logs() as logs:
        async with file.running() as relay:
            file.path.write_text(half)
            relay.look_at_file()
            await asyncio.sleep(0.1)
            file.path.write_text(whole)
            await until(lambda: counted(relay, "applied"))

    assert [line["environments"] for line in logs if line["event"] == "config.reloaded"] == [2]


async def test_what_needs_a_restart_is_named_and_the_rest_is_taken(file: File) -> None:
    with capture_logs() as logs:
        async with file.running() as relay:
            file.write(listen={"port": 1}, outbox={"dead_letters": {"max_age": "1d"}}, environments=[])
            await reloaded(relay)
            waiting = ("listen.port", "outbox.dead_letters.max_age")

            assert relay.config_state.needs_restart == waiting
            assert relay.parts.proxy.environments == {}
            [line] = [line for line in logs if line["event"] == "config.needs_restart"]
            assert line["settings"] == waiting

            file.write()
            await reloaded(relay)
            assert not relay.config_state.needs_restart


async def test_how_often_to_look_changes_while_running(file: File) -> None:
    async with file.running() as relay:
        file.write(reload="20ms")
        await reloaded(relay)
        file.write(reload="20ms", environments=[])
        await until(lambda: counted(relay, "applied") == 2)


async def test_the_times_of_the_shutdown_change_while_running(file: File, http: aiohttp.ClientSession) -> None:
    file.flagsmith.delay = 600
    async with asyncio.timeout(20), file.running(shutdown={"finish": "10m"}) as relay:
        call = asyncio.create_task(identify(http, relay, "ada"))
        await until(lambda: file.flagsmith.requests)
        file.write(shutdown={"finish": "100ms"})
        await reloaded(relay)

    with pytest.raises(aiohttp.ClientError):
        await call


async def test_a_request_in_flight_keeps_the_environment_it_came_with(file: File, http: aiohttp.ClientSession) -> None:
    """Its event waits as an orphan, for whoever names the app again."""
    file.flagsmith.delay = 1
    with capture_logs() as logs:
        async with file.running() as relay:
            call = asyncio.create_task(identify(http, relay, "ada"))
            await until(lambda: file.flagsmith.requests)
            file.write(environments=[])
            await reloaded(relay)
            await call
            await relay.parts.capture.drained()
            assert (await relay.outbox.books())["tests"].waiting == 1

            file.write(environments=[], shutdown={"grace": "1ms"})
            await reloaded(relay)
            await until(lambda: any(line["event"] == "lane.orphaned" for line in logs))
            assert file.heap.requests == []

            file.write()
            await reloaded(relay)
            await file.heap.wait_for_events(1)


async def test_heap_has_every_event_once_however_often_lanes_come_and_go(
    file: File, http: aiohttp.ClientSession
) -> None:
    key = file.flagsmith.server_key
    both = [file.environment(), file.environment("more", key, OTHER_ID)]
    called: list[str] = []

    async def call(relay: Relay) -> None:
        while True:
            called.append(f"person-{len(called)}")  # first: a call that is broken off may be captured
            await identify(http, relay, called[-1], (CLIENT_KEY, key)[len(called) % 2])
            await asyncio.sleep(0.01)

    async with file.running(environments=both) as relay:
        traffic = asyncio.create_task(call(relay))
        for environments in [both[:1], both, [], both[1:], both] * 2:
            before = len(called)
            file.write(environments=environments)
            await reloaded(relay)
            await until(lambda before=before: len(called) > before + 5)  # type: ignore[misc]  # a default in a lambda
        traffic.cancel()
        await asyncio.wait([traffic])
        await relay.parts.capture.drained()
        books = (await relay.outbox.books()).values()
        await file.heap.wait_for_events(sum(book.captured for book in books), within=30)

    stored = [event.identity for app in (APP_ID, OTHER_ID) for event in file.heap.stored(app)]
    assert len(stored) == len(set(stored))
    assert set(stored) <= set(called)
    assert file.heap.duplicates == 0
    assert file.heap.violations == []


async def test_the_loop_turns_while_a_thousand_environments_are_checked_and_taken(file: File) -> None:
    many = [file.environment(f"e{number}", f"key-{number}", str(number)) for number in range(1, 1001)]
    counts = {"checking": 0, "taking": 0}
    async with file.running() as relay:
        file.write(environments=many)
        relay.look_at_file()
        while not counted(relay, "applied"):
            counts["taking" if relay.config_state.stale else "checking"] += 1
            await asyncio.sleep(0.001)

    assert counts["checking"] > 10
    assert counts["taking"] > 10


async def test_the_metrics_tell_what_runs(file: File) -> None:
    async with file.running() as relay:
        first = relay.config_state
        file.write(environments=[])
        await reloaded(relay)
        second = relay.config_state

        assert sample(relay.registry, "relay_config_info", digest=first.digest[:12]) == 0
        assert sample(relay.registry, "relay_config_info", digest=second.digest[:12]) == 1
        assert sample(relay.registry, "relay_config_loaded_timestamp_seconds") == second.loaded_at


async def test_the_admin_port_tells_what_runs(file: File, http: aiohttp.ClientSession) -> None:
    async with file.running() as relay:
        file.path.write_text(MISTAKE)
        relay.look_at_file()
        await until(lambda: relay.config_state.stale)
        async with http.get(f"{relay.admin_url}/status.json") as answer:
            told = (await answer.json())["config"]

    assert set(told) == {"digest", "loaded_at", "stale", "mistakes", "needs_restart", "last_good"}
    assert (told["digest"], told["stale"], told["last_good"]) == (relay.config_state.digest, True, False)
    assert told["mistakes"] == list(relay.config_state.mistakes)


async def test_what_was_taken_is_kept_for_a_restart_and_a_mistake_is_not(file: File) -> None:
    copy = file.path.parent / "data" / "outbox.db.last-good.yaml"
    async with file.running() as relay:
        await until(copy.exists)
        assert copy.read_bytes() == file.path.read_bytes()

        file.write(environments=[])
        good = file.path.read_bytes()
        await reloaded(relay)
        await until(lambda: copy.read_bytes() == good)

        file.path.write_text(MISTAKE)
        relay.look_at_file()
        await until(lambda: relay.config_state.stale)

    assert copy.read_bytes() == good
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


async def test_a_copy_that_cannot_be_kept_costs_a_warning(file: File) -> None:
    (file.path.parent / "data" / "outbox.db.last-good.yaml").mkdir(parents=True)
    with capture_logs() as logs:
        async with file.running() as relay:
            await until(lambda: any(line["event"] == "config.unkept" for line in logs))
            file.write(environments=[])
            await reloaded(relay)

    assert [line["log_level"] for line in logs if line["event"] == "config.unkept"] == ["warning", "warning"]


async def test_a_pipe_is_read_once(file: File, http: aiohttp.ClientSession) -> None:
    """`relay run -c <(…)`: to read it again would wait for ever."""
    os.mkfifo(file.path)
    writer = threading.Thread(target=file.write)
    writer.start()
    found = await asyncio.to_thread(open_file, file.path, {})
    writer.join()
    async with running(found.loaded.config, file=found) as relay:
        relay.look_at_file()
        await identify(http, relay, "ada")

        assert not relay.config_state.stale


async def test_a_pipe_in_the_files_place_is_waited_for_by_nobody(file: File) -> None:
    async with file.running() as relay:
        good = file.path.read_text()
        file.path.unlink()
        os.mkfifo(file.path)
        relay.look_at_file()
        await until(lambda: relay.config_state.stale)

        file.path.unlink()
        file.path.write_text(good + "\n# mended")
        relay.look_at_file()
        await until(lambda: not relay.config_state.stale)
