"""Few examples in `make test`, many in `make fuzz`; and a proxy that stands through all the examples of a test."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, settings

from tests.fuzz.ground import Ground

# An example takes milliseconds, and on a busy machine any of them may take longer.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("few", PATIENT, max_examples=60)
settings.register_profile("fuzz", PATIENT, max_examples=3_000)
settings.load_profile("few")


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner.run(Ground.entered(runner, stack))
        runner.run(stack.aclose())
