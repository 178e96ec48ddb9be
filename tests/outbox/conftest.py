"""The outbox under test: every storage in turn."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.outbox import Outbox
from tests.outbox.boxes import BACKENDS, make_outbox, opened


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def outbox(backend: str, tmp_path: Path) -> AsyncIterator[Outbox]:
    async with opened(make_outbox(backend, tmp_path)) as box:
        yield box
