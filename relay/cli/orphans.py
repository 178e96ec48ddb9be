"""relay orphans: what waits for Heap apps that no environment names any more."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from relay.cli.guest import settings_of, visit
from relay.cli.options import as_json, config_file, iso
from relay.cli.preview import find
from relay.config import Config
from relay.core.orphans import orphaned
from relay.core.status import count, span
from relay.errors import RelayError
from relay.model import Lane, Level
from relay.outbox import Outbox

app_id = click.option("--app-id", required=True, metavar="APP_ID", help="The app that is named no more.")
url = click.option("--url", metavar="URL", help="Its Heap's address, where several have an app of that ID.")
yes = click.option("--yes", is_flag=True, help="Do it; without, only say what would happen.")


@click.group()
def orphans() -> None:
    """See, move or drop what waits for apps that no environment names any more; nothing is sent for them."""


@orphans.command("list")
@config_file
@as_json
def list_(path: Path, *, as_json: bool) -> None:
    """List the apps, and how much waits for each."""
    settings = settings_of(path)
    found = orphans_of(settings)
    if as_json:
        click.echo(json.dumps([facts(lane, levels) for lane, levels in found.items()], indent=2))
        return
    for lane, levels in found.items():
        click.echo(tell(lane, levels))
    if not found:
        click.echo("no orphans: every app that events wait for is named", err=True)


@orphans.command()
@config_file
@app_id
@url
@click.option("--to", "name", required=True, metavar="ENVIRONMENT", help="The environment whose app gets them.")
@yes
@click.pass_context
def move(ctx: click.Context, path: Path, app_id: str, url: str | None, name: str, *, yes: bool) -> None:
    """Let them wait for another app, with the time stamps and idempotency keys they have."""
    settings = settings_of(path)
    target = find(settings, name, path).heap.lane()
    lane, levels = the_orphan(settings, app_id, url)
    if not yes:
        refuse(ctx, tell(lane, levels), f"would go to app {target.app_id} at {target.url}")
    moved = visit(settings, lambda outbox: outbox.move(lane, target, now=time.time()))
    click.echo(f"{count(moved, 'event')} moved to app {target.app_id} at {target.url}")


@orphans.command()
@config_file
@app_id
@url
@yes
@click.pass_context
def drop(ctx: click.Context, path: Path, app_id: str, url: str | None, *, yes: bool) -> None:
    """Drop them for good; counted as dropped because they were orphaned."""
    settings = settings_of(path)
    lane, levels = the_orphan(settings, app_id, url)
    if not yes:
        refuse(ctx, tell(lane, levels), "would be dropped for good")
    dropped = visit(settings, lambda outbox: outbox.drop_lane(lane, now=time.time()))
    click.echo(f"{count(dropped, 'event')} dropped")


def orphans_of(settings: Config) -> dict[Lane, list[Level]]:
    """What waits in lanes that this YAML does not name."""

    async def look(outbox: Outbox) -> Sequence[Level]:
        return await outbox.levels()

    return dict(orphaned(visit(settings, look), settings.lanes().keys()))


def the_orphan(settings: Config, app_id: str, url: str | None) -> tuple[Lane, list[Level]]:
    """The one that was named. Raises RelayError where it is none, or one of several."""
    found = [item for item in orphans_of(settings).items() if item[0].app_id == app_id and url in {None, item[0].url}]
    if len(found) > 1:
        raise RelayError(f"several Heaps have an app {app_id}; add --url: {', '.join(lane.url for lane, _ in found)}")
    if not found:
        raise RelayError(f"app {app_id} is no orphan: nothing waits for it, or an environment names it")
    return found[0]


def refuse(ctx: click.Context, what: str, would: str) -> None:
    """Say what would happen, and end with exit code 2."""
    click.echo(f"{what}; {would}")
    click.echo("nothing was done; add --yes", err=True)
    ctx.exit(2)


def facts(lane: Lane, levels: Sequence[Level]) -> dict[str, Any]:
    return {
        "app_id": lane.app_id,
        "heap": lane.url,
        "events": sum(level.events for level in levels),
        "oldest": iso(min(level.oldest for level in levels)),
        "environments": sorted(level.environment for level in levels),
    }


def tell(lane: Lane, levels: Sequence[Level]) -> str:
    told = facts(lane, levels)
    age = span(time.time() - min(level.oldest for level in levels))
    names = ", ".join(told["environments"])
    return (
        f"app {lane.app_id} at {lane.url}: {count(told['events'], 'event')}, the oldest for {age}, captured for {names}"
    )
