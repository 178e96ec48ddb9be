"""relay check --live: look at everything that a relay on this configuration would touch, before it does."""

import asyncio
import sys
from pathlib import Path

import click

from relay.cli.live.finding import Finding, Result
from relay.cli.live.flagsmith import probe_flagsmith
from relay.cli.live.heap import TEST_EVENT, TEST_IDENTITY, probe_heap
from relay.cli.live.machine import probe_machine
from relay.cli.live.storage import probe_outbox
from relay.cli.preview import find
from relay.config import Config, EnvironmentConfig

__all__ = ["Finding", "Result", "look"]


def look(settings: Config, path: Path, *, send_test: str | None, yes: bool) -> list[Finding]:
    """What every probe found; with *send_test*, an environment's name, after one event was sent to its Heap app.

    Raises ConfigError where no environment has that name, and click's Abort where the operator does not say yes.
    """
    test = find(settings, send_test, path) if send_test else None
    if test is not None and not yes:
        _confirm(test)
    return asyncio.run(_probe(settings, test))


def _confirm(test: EnvironmentConfig) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("--send-test asks before it sends; add --yes where there is no terminal")
    lane = test.heap.lane()
    click.confirm(
        f'Send one event "{TEST_EVENT}" to app {lane.app_id} at {lane.url}? '
        f"Heap keeps it, and makes a user {TEST_IDENTITY} for it",
        abort=True,
        err=True,
    )


async def _probe(settings: Config, test: EnvironmentConfig | None) -> list[Finding]:
    """All at once; told in the order in which an event meets them."""
    waited = await asyncio.gather(probe_flagsmith(settings), probe_outbox(settings.outbox), probe_heap(settings, test))
    return [*probe_machine(settings), *(finding for part in waited for finding in part)]
