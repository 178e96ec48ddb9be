"""relay run: the relay itself."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import click
import structlog

from relay import config, log
from relay.app import Relay
from relay.cli.options import config_file


@click.command()
@config_file
def run(path: Path) -> None:
    """Run the relay until SIGTERM or SIGINT."""
    loaded = config.load(path, os.environ)
    lines = structlog.get_logger(__name__)
    log.configure(loaded.config.log.level, console=wants_console(loaded.config.log.format))
    for warning in loaded.warnings:
        lines.warning("config.warning", detail=str(warning))
    if loaded.reminder:
        lines.info("config.reminder", detail=loaded.reminder)
    asyncio.run(serve(loaded.config))


def wants_console(log_format: str) -> bool:
    """Whether log lines are for a person: said so, or "auto" on a terminal."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


async def serve(settings: config.Config) -> None:
    """Run one relay; the first signal shuts it down in order, a second one stops it at once.

    What was committed to the outbox is safe in either case.
    """
    relay = Relay(settings)
    running = asyncio.create_task(relay.run(), name="relay")

    def on_signal() -> None:
        running.cancel() if relay.stopping else relay.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    with suppress(asyncio.CancelledError):
        await running
