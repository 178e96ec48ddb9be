"""relay run: the relay itself."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import get_args

import click
import structlog
import uvloop

from relay import log
from relay.allocator import set_apart_what_stays, share_one_heap
from relay.app import Relay
from relay.cli.options import config_file
from relay.descriptors import allow_most
from relay.errors import ConfigError
from relay.fleet import Role
from relay.last_good import ConfigFile, open_file
from relay.watch import tell_mistakes, tell_warnings

# A thread at work (a scraper's figures, a large answer) lets the event loop have its turn after so long. Python's own
# 5 ms are lost at each of a request's few system calls (docs.python.org/3/library/sys.html#sys.setswitchinterval).
TURN_SECONDS = 0.0005


@click.command()
@config_file
@click.option(
    "--role",
    type=click.Choice(get_args(Role)),
    default="all",
    show_default=True,
    help="With an outbox in Redis: proxy captures and leaves delivery to others; sender delivers and serves no flags.",
)
def run(path: Path, role: Role) -> None:
    """Run the relay until SIGTERM or SIGINT; SIGHUP has it look at the file."""
    file = open_file(path, os.environ)
    if role != "all" and not file.loaded.config.outbox.redis:
        raise ConfigError(f"--role {role} shares an outbox with others; write redis://host:6379/0 for outbox.url")
    settings = file.loaded.config.log
    log.configure(settings.level, console=log.wants_console(settings.format))
    tell(file)
    sys.setswitchinterval(TURN_SECONDS)
    share_one_heap()
    allow_most()
    uvloop.run(serve(file, role))


def tell(file: ConfigFile) -> None:
    """What there is to know of the file before anything runs."""
    lines = structlog.get_logger(__name__)
    tell_mistakes(file.mistakes)
    if file.mistakes:
        lines.warning("config.last_good", advice="the last content without mistakes runs; mend the file, it is noticed")
    tell_warnings(file.loaded)
    if file.loaded.reminder:
        lines.info("config.reminder", detail=file.loaded.reminder)


async def serve(file: ConfigFile, role: Role) -> None:
    """Run one relay; the first signal shuts it down in order, a second one stops it at once.

    What was committed to the outbox is safe in either case.
    """
    relay = Relay(file.loaded.config, role=role, file=file)
    running = asyncio.create_task(relay.run(), name="relay")

    def on_signal() -> None:
        running.cancel() if relay.stopping else relay.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, relay.look_at_file)
    setting_apart = asyncio.create_task(set_apart_what_stays(relay.started), name="allocator.start")
    with suppress(asyncio.CancelledError):
        await running
    setting_apart.cancel()
