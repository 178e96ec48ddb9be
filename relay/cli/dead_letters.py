"""relay dead-letters: see what was set aside and why, send it again, or drop it."""

import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import rich.box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from relay import config
from relay.cli.guest import visit
from relay.cli.options import Moment, as_json, config_file, iso, stamp
from relay.config import Config
from relay.core.budget import APP_EVENTS
from relay.core.reasons import DEAD
from relay.core.status import count, span
from relay.core.translate import OBSTACLES
from relay.errors import ConfigError, RelayError
from relay.model import StoredLetter, Which
from relay.outbox import Outbox

# Dead letters read, or handed back, in one go.
PAGE = 500
LISTED = 100
# Of Heap's words in a table; `show` has all of them.
WORDS = 60


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters a command is about: some numbers, or all that fit the filters."""

    which: Which
    numbers: tuple[int, ...] = ()
    # None: as many as there are.
    limit: int | None = None

    async def pages(self, outbox: Outbox) -> AsyncIterator[list[StoredLetter]]:
        """Page after page, in the order of their numbers. What leaves between two pages does no harm."""
        after, left = 0, self.limit
        while left is None or left > 0:
            page = await outbox.dead_letters(self.which, after=after, limit=PAGE)
            if not page:
                return
            after = page[-1].number
            chosen = [letter for letter in page if not self.numbers or letter.number in self.numbers][:left]
            left = None if left is None else left - len(chosen)
            if chosen:
                yield chosen


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options by which dead letters are chosen."""
    options = (
        click.option("--environment", metavar="NAME", help="Captured for this one."),
        click.option("--reason", metavar="REASON", help=f"One of {', '.join(DEAD)}."),
        click.option("--since", type=Moment(), help="Set aside at or after: a date, a time, or an age like 2h or 7d."),
        click.option("--until", type=Moment(), help="Set aside before."),
        click.option("--limit", type=click.IntRange(min=1), help="At most so many."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """See events that were set aside, send them again, or drop them; the relay may run meanwhile."""


@dead_letters.command("list")
@config_file
@filters
@as_json
def list_(path: Path, limit: int | None, *, as_json: bool, **chosen: Any) -> None:
    """List what was set aside: when, for whom of the YAML, why. Never an identity."""
    settings = config.load(path, os.environ).config
    which = choose(settings, **chosen)

    async def read(outbox: Outbox) -> tuple[list[StoredLetter], int]:
        page = await outbox.dead_letters(which, limit=limit or LISTED)
        return page, await outbox.count_dead_letters(which)

    letters, total = visit(settings, read)
    if as_json:
        click.echo(json.dumps([facts(letter) for letter in letters], indent=2, ensure_ascii=False))
    elif letters:
        show_table(letters)
    if not total:
        click.echo("no dead letters fit", err=True)
    elif total > len(letters):
        click.echo(f"{total - len(letters):,} more of {total:,}; choose with filters, or raise --limit", err=True)


@dead_letters.command()
@config_file
@as_json
@click.argument("number", type=click.IntRange(min=1))
def show(path: Path, number: int, *, as_json: bool) -> None:
    """Show one of them whole, with its identity."""
    settings = config.load(path, os.environ).config
    found = visit(settings, lambda outbox: outbox.dead_letters(Which(), after=number - 1, limit=1))
    if not found or found[0].number != number:
        raise RelayError(f"there is no dead letter {number}; `relay dead-letters list` has their numbers")
    letter = found[0]
    event, cause = letter.letter.event, letter.letter.cause
    whole = {**facts(letter), "detail": cause.detail, "key": event.key, "event": json.loads(event.body)}
    if as_json:
        click.echo(json.dumps(whole, indent=2, ensure_ascii=False))
        return
    for name, value in whole.items():
        shown = json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict) else value
        click.echo(f"{name:<12}{shown}")


@dead_letters.command()
@config_file
@filters
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@click.argument("numbers", type=click.IntRange(min=1), nargs=-1)
def replay(
    path: Path, numbers: tuple[int, ...], limit: int | None, *, everything: bool, dry_run: bool, **chosen: Any
) -> None:
    """Send them again, inside Heap's limits, with the time stamp and idempotency key they had."""
    settings = config.load(path, os.environ).config
    choice = choice_of(settings, numbers, limit, everything=everything, **chosen)
    found = visit(settings, lambda outbox: survey(outbox, choice))
    sendable = Counter({what: times for what, times in found.items() if what[1] not in OBSTACLES})
    tell_counts(sendable, "would be replayed" if dry_run else "to replay")
    tell_counts(found - sendable, "can never be sent, and stay")
    if not dry_run and sendable:
        done = visit(settings, lambda outbox: hand_back(outbox, choice, sendable.total()))
        click.echo(f"{count(done, 'event')} put back to wait")
        tell_speed(settings, sendable)


@dead_letters.command()
@config_file
@filters
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@click.option("--yes", is_flag=True, help="Drop them for good.")
@click.argument("numbers", type=click.IntRange(min=1), nargs=-1)
def drop(
    path: Path,
    numbers: tuple[int, ...],
    limit: int | None,
    *,
    everything: bool,
    dry_run: bool,
    yes: bool,
    **chosen: Any,
) -> None:
    """Drop them for good; counted as dropped by the operator."""
    settings = config.load(path, os.environ).config
    choice = choice_of(settings, numbers, limit, everything=everything, **chosen)
    if yes and not dry_run:
        done = visit(settings, lambda outbox: throw_away(outbox, choice))
        click.echo(f"{count(done, 'dead letter')} dropped")
        return
    tell_counts(visit(settings, lambda outbox: survey(outbox, choice)), "would be dropped")
    if not dry_run:
        click.echo("nothing was dropped; add --yes to drop them for good", err=True)
        raise click.exceptions.Exit(2)


def choice_of(
    settings: Config, numbers: tuple[int, ...], limit: int | None, *, everything: bool, **chosen: Any
) -> Choice:
    """What the operator chose. Raises UsageError where that is nothing: all of them is to be said."""
    if not (numbers or everything or any(value is not None for value in chosen.values())):
        raise click.UsageError("say which: their numbers, filters like --reason, or --all")
    return Choice(choose(settings, **chosen), numbers, limit)


def choose(
    settings: Config, environment: str | None, reason: str | None, since: float | None, until: float | None
) -> Which:
    """The filters as the outbox takes them. Raises ConfigError where one of them can fit nothing."""
    if reason is not None and reason not in DEAD:
        raise ConfigError(f"no dead letter has the reason {reason!r}; there are: {', '.join(DEAD)}")
    if environment is not None:
        names = visit(settings, known_environments) | {each.name for each in settings.environments}
        if environment not in names:
            raise ConfigError(f"no environment has that name; there are: {', '.join(sorted(names)) or 'none'}")
    return Which(environment, reason, since, until)


async def known_environments(outbox: Outbox) -> set[str]:
    """Those of the outbox, which may be the YAML's no more."""
    return set(await outbox.books())


# What the commands do.


async def survey(outbox: Outbox, choice: Choice) -> "Counter[tuple[str, str]]":
    """How many there are by environment and reason."""
    found: Counter[tuple[str, str]] = Counter()
    async for page in choice.pages(outbox):
        found.update((letter.letter.event.environment, letter.letter.cause.reason) for letter in page)
    return found


async def hand_back(outbox: Outbox, choice: Choice, total: int) -> int:
    """Let them wait again, page by page; whoever breaks it off finds the rest where it was."""

    async def page_by_page(numbers: Sequence[int]) -> int:
        return await outbox.replay(numbers, now=time.time())

    return await work_through(outbox, choice, total, page_by_page)


async def throw_away(outbox: Outbox, choice: Choice) -> int:
    return await work_through(outbox, choice, None, outbox.drop)


async def work_through(
    outbox: Outbox, choice: Choice, total: int | None, work: Callable[[Sequence[int]], Awaitable[int]]
) -> int:
    """Do *work* on every page, with a bar on a terminal; return how many there were."""
    console = Console(stderr=True)
    done = 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total)
        try:
            async for page in choice.pages(outbox):
                done += await work([letter.number for letter in page])
                progress.update(bar, advance=len(page))
        finally:
            if done and console.is_terminal:
                progress.console.print(f"{done:,} done")
    return done


# What they print.


def facts(letter: StoredLetter) -> dict[str, Any]:
    """One dead letter for a list, which may end in a ticket: without its identity."""
    event, cause = letter.letter.event, letter.letter.cause
    return {
        "number": letter.number,
        "made_at": iso(letter.made_at),
        "environment": event.environment,
        "reason": cause.reason,
        "attempts": letter.attempts,
        "captured_at": iso(event.captured_at),
        "detail": nameless(cause.detail, event.identity),
    }


def nameless(detail: str, identity: str) -> str:
    """Heap's words without the identity, as it is or as JSON writes it."""
    for name in (identity, json.dumps(identity)[1:-1]):
        detail = detail.replace(name, "***") if name else detail
    return detail


def show_table(letters: Sequence[StoredLetter]) -> None:
    table = Table(box=rich.box.SIMPLE, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("number", "set aside (UTC)", "environment", "reason", "tries", "captured (UTC)", "Heap's words"):
        table.add_column(name, no_wrap=True, justify="right" if name in {"number", "tries"} else "left")
    for letter in letters:
        event, cause = letter.letter.event, letter.letter.cause
        words = facts(letter)["detail"][:WORDS]
        times = stamp(letter.made_at), stamp(event.captured_at)
        table.add_row(
            *(str(letter.number), times[0], event.environment, cause.reason, str(letter.attempts), times[1]),
            rich.markup.escape(words),
        )
    # A pipe has no width: nothing is cut or broken there.
    Console(width=None if Console().is_terminal else 250).print(table)


def tell_counts(found: Mapping[tuple[str, str], int], what: str) -> None:
    for (environment, reason), times in sorted(found.items()):
        click.echo(f"{times:>9,}  {environment}  {reason}  {what}")


def tell_speed(settings: Config, sendable: Mapping[tuple[str, str], int]) -> None:
    """How long it will take, and what will not go at all."""
    shares = {each.name: each.heap.share for each in settings.environments}
    for environment in sorted({name for name, _ in sendable}):
        events = sum(times for (name, _), times in sendable.items() if name == environment)
        if environment not in shares:
            click.echo(f"{environment}: not in this YAML; if no other environment names its app, see `relay orphans`")
            continue
        rate = shares[environment] * APP_EVENTS.amount / APP_EVENTS.window
        click.echo(
            f"{environment}: at most {rate:,.0f} events a second go to its app; these take {span(events / rate)}"
        )
