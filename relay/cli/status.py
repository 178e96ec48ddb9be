"""relay status: the status page's figures in the terminal."""

import time
from pathlib import Path

import click
import msgspec

from relay.admin.figures import Reading, oldest_by_environment
from relay.admin.status import status_of
from relay.cli.guest import settings_of, visit
from relay.cli.options import config_file, visible
from relay.cli.running import ask_relay
from relay.config import Config
from relay.core.daily import Days, day_of, standings
from relay.core.prospect import prospect
from relay.core.report import report
from relay.core.status import Status
from relay.errors import RelayError
from relay.outbox import Outbox


@click.command()
@config_file
@click.option("--forecast", is_flag=True, help="Show what each environment sends a day, and would on change only.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, as /status.json has it.")
@click.pass_context
def status(ctx: click.Context, path: Path, *, forecast: bool, as_json: bool) -> None:
    """Show how the relay is doing: what is captured, delivered, waiting and set aside, and how each Heap app stands.

    Exit code 0 where a relay answered. Where none does it is 1, and the figures are read from the outbox.
    """
    settings = settings_of(path)
    answered, said = ask_relay(settings, "/status.json" if as_json or forecast else "/status.txt")
    if answered:
        click.echo(visible(prospect(parse(said)).rstrip()) if forecast and not as_json else said)
        return
    click.echo(said, err=True)
    if forecast and not as_json:
        raise RelayError("only a running relay has a forecast, as it begins with the relay's start; start it")
    found = visit(settings, lambda outbox: read(outbox, settings))
    click.echo(msgspec.json.encode(found) if as_json else report(found).rstrip())
    ctx.exit(1)


def parse(said: str) -> Status:
    """What a relay of this version told as JSON. Raises RelayError where it is none."""
    try:
        return msgspec.json.decode(said, type=Status)
    except msgspec.DecodeError as error:
        raise RelayError("what answers at the file's admin port is no relay of this version") from error


async def read(outbox: Outbox, settings: Config) -> Status:
    """What stands in the outbox, without a relay."""
    levels, now = await outbox.levels(), time.time()
    found = Reading(
        environments=settings.apps(),
        books=await outbox.books(),
        levels=levels,
        oldest=oldest_by_environment(levels),
        usage=await outbox.usage(),
        read_at=now,
        caps=standings(settings.caps(), Days(await outbox.days()), day_of(now)),
    )
    members = await outbox.members(now=now) if settings.outbox.redis else ()
    return status_of(found, now=now, kind=settings.outbox.kind, members=members)
