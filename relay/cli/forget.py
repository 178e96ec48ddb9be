"""relay forget: erase one identity, for whoever may ask for that."""

import os
from pathlib import Path

import click

from relay import config
from relay.cli.guest import visit
from relay.cli.options import config_file, read_identity
from relay.core.status import count


@click.command()
@config_file
@click.option("--yes", is_flag=True, help="Erase it for good.")
@click.argument("identity")
@click.pass_context
def forget(ctx: click.Context, path: Path, identity: str, *, yes: bool) -> None:
    """Erase IDENTITY from the outbox, the dead letters and the journal; the relay may run meanwhile.

    - as IDENTITY reads it from standard input, so that it is not in the list of processes. What Heap has already, and
    a request that is on its way, are not touched.
    """
    settings = config.load(path, os.environ).config
    if not yes:
        click.echo("nothing was erased; add --yes to erase this identity for good", err=True)
        ctx.exit(2)
    name = read_identity(identity)
    erased = visit(settings, lambda outbox: outbox.forget(name))
    click.echo(
        f"erased: {count(erased.waiting, 'waiting event')}, {count(erased.dead_letters, 'dead letter')},"
        f" {count(erased.journal, 'journal line')}"
    )
    click.echo("Heap keeps what it has, and what was on its way to it just now; erase the user there, too", err=True)
