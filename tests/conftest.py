"""The neighbours every test may ask for: a stand-in Flagsmith, a strict stand-in Heap, and a relay between them."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
import structlog
import yaml

from relay.app import Relay, running
from relay.last_good import open_file
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap

CLIENT_KEY = "client-key-of-the-tests"
APP_ID = "1234567890"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What one test lets a relay log to may be closed when the next one runs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
async def heap() -> AsyncIterator[StandInHeap]:
    async with StandInHeap() as stand_in:
        yield stand_in


@pytest.fixture
async def flagsmith() -> AsyncIterator[StandInFlagsmith]:
    async with StandInFlagsmith(client_key=CLIENT_KEY) as stand_in:
        yield stand_in


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def settings(flagsmith: StandInFlagsmith, heap: StandInHeap, **changes: Any) -> dict[str, Any]:
    """The YAML of a relay between the stand-ins, on free ports; *changes* replace whole sections' keys."""
    base: dict[str, Any] = {
        "listen": {"port": 0},
        "admin": {"port": 0},
        "reload": "off",
        "upstream": {"url": flagsmith.url},
        "shutdown": {"grace": "0s", "finish": "5s", "drain": "5s"},
        "environments": [
            {"name": "tests", "keys": [CLIENT_KEY], "heap": {"app_id": APP_ID, "url": heap.url}},
        ],
    }
    for section, values in changes.items():
        base[section] = {**base.get(section, {}), **values} if isinstance(values, dict) else values
    return base


def write(folder: Path, content: dict[str, Any]) -> Path:
    """Write *content* as the YAML file of a relay."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


class StartRelay(Protocol):
    """Starts a relay in this process; *changes* as for `settings`."""

    def __call__(self, **changes: Any) -> AbstractAsyncContextManager[Relay]: ...


@pytest.fixture
def start_relay(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path) -> StartRelay:
    def start(**changes: Any) -> AbstractAsyncContextManager[Relay]:
        file = open_file(write(tmp_path, settings(flagsmith, heap, **changes)), {})
        return running(file.loaded.config, file=file)

    return start


@pytest.fixture
async def relay(start_relay: StartRelay) -> AsyncIterator[Relay]:
    async with start_relay() as relay:
        yield relay
