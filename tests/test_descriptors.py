"""A relay takes as many open files as it may, and goes through a time without any."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import CLIENT_KEY, settings, write
from tests.processes import relay_process

FILES = resource.RLIMIT_NOFILE


@pytest.fixture
def config(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path) -> Path:
    return write(tmp_path, settings(flagsmith, heap))


@pytest.fixture
def _few_files() -> Iterator[None]:
    """What a login allows: less than a process may ask for."""
    usual = resource.getrlimit(FILES)
    resource.setrlimit(FILES, (512, usual[1]))
    yield
    resource.setrlimit(FILES, usual)


@pytest.mark.usefixtures("_few_files")
async def test_a_relay_takes_as_many_open_files_as_it_may(config: Path) -> None:
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")

        soft, hard = resource.prlimit(relay.process.pid, FILES)

        assert soft == hard > 512


async def test_files_that_ran_out_are_one_log_line_and_callers_are_served_once_there_are_some(
    config: Path, http: aiohttp.ClientSession
) -> None:
    """The event loop cuts off callers without a word."""
    async with relay_process(config) as relay, AsyncExitStack() as idle:
        started = await relay.wait_for("relay.started")
        resource.prlimit(relay.process.pid, FILES, (40, 40))
        host, port = started["listen"].removeprefix("http://").split(":")
        for _ in range(40):
            _, writer = await asyncio.open_connection(host, int(port))
            idle.callback(writer.close)

        said = await relay.wait_for("files.exhausted")
        await idle.aclose()
        async with http.get(f"{relay.url}/api/v1/flags/", headers={"X-Environment-Key": CLIENT_KEY}) as answer:
            assert answer.status == 200

        assert (said["level"], said["allowed"]) == ("error", 40)
        assert "ulimit -n" in said["advice"]
        assert [line["event"] for line in relay.lines if line["level"] == "error"] == ["files.exhausted"]
