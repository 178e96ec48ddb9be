"""A relay process with an admin port that its file names, so that commands can ask it."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import settings, write
from tests.processes import RelayProcess, relay_process


@pytest.fixture
def port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def config(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path, port: int) -> Path:
    return write(tmp_path, settings(flagsmith, heap, admin={"port": port}))


@pytest.fixture
async def relay(config: Path) -> AsyncIterator[RelayProcess]:
    async with relay_process(config) as relay:
        await relay.wait_for("relay.started")
        yield relay
