"""relay forget: erase one identity, for whoever may ask for that."""

from pathlib import Path

import click

from relay.cli.guest import settings_of, visit
from relay.cli.options import config_file, read_identity
from relay.config import Config
from relay.core.identity import hashed
from relay.core.status import count
from relay.model import Forgotten
from relay.outbox import Outbox


@click.command()
@config_file
@click.option("--yes", is_flag=True, help="Erase it for good.")
@click.argument("identity")
@click.pass_context
def forget(ctx: click.Context, path: Path, identity: str, *, yes: bool) -> None:
    """Erase IDENTITY from outbox, dead letters, journal and change memory; the relay may run meanwhile.

    - as IDENTITY reads it from standard input, so that it is not in the list of processes. What Heap has already, and
    a request that is on its way, are not touched.
    """
    settings = settings_of(path)
    if not yes:
        click.echo("nothing was erased; add --yes to erase this identity for good", err=True)
        ctx.exit(2)
    names = names_of(read_identity(identity), settings)
    erased = visit(settings, lambda outbox: erase(outbox, names))
    click.echo(
        f"erased: {count(erased.waiting, 'waiting event')}, {count(erased.dead_letters, 'dead letter')},"
        f" {count(erased.journal, 'journal line')}, {count(erased.memory, 'remembered state')}"
    )
    click.echo("Heap keeps what it has, and what was on its way to it just now; erase the user there, too", err=True)


def names_of(identity: str, settings: Config) -> list[str]:
    """What the outbox may have *identity* under: itself, and its hash under each key in the file, used now or not."""
    keys = [each.identity.key.get_secret_value().encode() for each in settings.environments if each.identity.key]
    return list(dict.fromkeys([identity, *(hashed(identity, key) for key in keys)]))


async def erase(outbox: Outbox, names: list[str]) -> Forgotten:
    """Forget all of *names*; how much that was together."""
    found = [await outbox.forget(name) for name in names]
    return Forgotten(
        waiting=sum(each.waiting for each in found),
        dead_letters=sum(each.dead_letters for each in found),
        journal=sum(each.journal for each in found),
        memory=sum(each.memory for each in found),
    )
