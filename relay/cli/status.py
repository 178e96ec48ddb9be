"""relay status: the status page's figures in the terminal."""

import asyncio
import os
import time
from pathlib import Path

import click
import msgspec

from relay import config
from relay.admin.figures import Reading, oldest_by_environment
from relay.admin.status import status_of
from relay.app import make_outbox
from relay.cli.options import config_file
from relay.cli.running import ask_relay
from relay.config import Config
from relay.core.report import report
from relay.core.status import Status
from relay.errors import RelayError


@click.command()
@config_file
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, as /status.json has it.")
@click.pass_context
def status(ctx: click.Context, path: Path, *, as_json: bool) -> None:
    """Show how the relay is doing: what is captured, delivered, waiting and set aside, and how each Heap app stands.

    Exit code 0 where a relay answered. Where none does it is 1, and the figures are read from the outbox.
    """
    settings = config.load(path, os.environ).config
    answered, said = ask_relay(settings, "/status.json" if as_json else "/status.txt")
    if answered:
        click.echo(said)
        return
    click.echo(said, err=True)
    found = asyncio.run(visit(settings))
    click.echo(msgspec.json.encode(found) if as_json else report(found).rstrip())
    ctx.exit(1)


async def visit(settings: Config) -> Status:
    """What stands in the outbox, without a relay. Raises RelayError where it cannot be read."""
    if settings.outbox.path is None:
        raise RelayError("the outbox is memory://, which lives in the relay's process: only a running relay can tell")
    outbox = make_outbox(settings, guest=True)
    try:
        await outbox.open()
        levels = await outbox.levels()
        found = Reading(
            environments=settings.apps(),
            books=await outbox.books(),
            levels=levels,
            oldest=oldest_by_environment(levels),
            usage=await outbox.usage(),
        )
    finally:
        await outbox.close()
    return status_of(found, now=time.time(), in_memory=False)
