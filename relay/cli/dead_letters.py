"""relay dead-letters: see what was set aside and why, send it again, or drop it."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from relay.cli.guest import settings_of, visit
from relay.cli.options import Moment, as_json, config_file, in_json, iso, stamp, visible
from relay.config import Config
from relay.core.budget import APP_EVENTS, rate_of
from relay.core.nameless import nameless
from relay.core.reasons import DEAD
from relay.core.status import count, span
from relay.core.translate import OBSTACLES
from relay.errors import ConfigError, RelayError
from relay.model import Lane, StoredLetter, Which
from relay.outbox import Outbox

# Dead letters read, or handed back, in one go.
PAGE = 500
LISTED = 100
# Characters of Heap's words in a list and in a table; `show` has all of them.
SHORTENED = 200
WORDS = 60

NUMBER = click.IntRange(min=1, max=2**63 - 1)
NONE_FIT = "no dead letters fit"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters a command is about: some numbers, or all that fit the filters."""

    which: Which
    numbers: tuple[int, ...] = ()
    # None: as many as there are.
    limit: int | None = None
    # Only what can be sent again, or only what never can; None: both.
    sendable: bool | None = None

    async def pages(self, outbox: Outbox) -> AsyncIterator[list[StoredLetter]]:
        """Page after page, at most the limit in all. What leaves between two pages does no harm."""
        left = self.limit
        async for page in self._named(outbox) if self.numbers else self._fitting(outbox):
            chosen = [letter for letter in page if self.sendable in {None, is_sendable(letter)}][:left]
            if chosen:
                yield chosen
            if left is not None and not (left := left - len(chosen)):
                return

    async def _named(self, outbox: Outbox) -> AsyncIterator[list[StoredLetter]]:
        for start in range(0, len(self.numbers), PAGE):
            found = [await one(outbox, number) for number in self.numbers[start : start + PAGE]]
            yield [letter for letter in found if letter is not None]

    async def _fitting(self, outbox: Outbox) -> AsyncIterator[list[StoredLetter]]:
        after = 0
        while page := await outbox.dead_letters(self.which, after=after, limit=PAGE):
            after = page[-1].number
            yield page


class Group(NamedTuple):
    """What dead letters have in common for whoever decides about them."""

    environment: str
    reason: str
    # Where they would go.
    lane: Lane


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


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options and arguments by which dead letters are chosen to be worked on."""
    options = (
        filters,
        click.option("--all", "everything", is_flag=True, help="All of them."),
        click.option("--dry-run", is_flag=True, help="Only say what would happen."),
        as_json,
        click.argument("numbers", type=NUMBER, nargs=-1),
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
    settings = settings_of(path)
    which = choose(settings, **chosen)

    async def read(outbox: Outbox) -> tuple[list[StoredLetter], int]:
        page = await outbox.dead_letters(which, limit=limit or LISTED)
        return page, await outbox.count_dead_letters(which)

    letters, total = visit(settings, read)
    if as_json:
        click.echo(in_json([facts(letter) for letter in letters]))
    elif letters:
        show_table(letters)
    if not total:
        click.echo(NONE_FIT, err=True)
    elif total > len(letters):
        click.echo(f"{total - len(letters):,} more of {total:,}; choose with filters, or raise --limit", err=True)


@dead_letters.command()
@config_file
@as_json
@click.argument("number", type=NUMBER)
def show(path: Path, number: int, *, as_json: bool) -> None:
    """Show one of them whole, with its identity."""
    settings = settings_of(path)
    letter = visit(settings, lambda outbox: one(outbox, number))
    if letter is None:
        raise no_such(number)
    event, cause = letter.letter.event, letter.letter.cause
    whole = {**facts(letter), "detail": cause.detail, "key": event.key, "event": json.loads(event.body)}
    if as_json:
        click.echo(in_json(whole))
        return
    for name, value in whole.items():
        click.echo(f"{name:<12}{in_json(value) if isinstance(value, dict) else value}")


@dead_letters.command()
@config_file
@selection
def replay(path: Path, *, dry_run: bool, as_json: bool, **chosen: Any) -> None:
    """Send them again, inside Heap's limits, with the time stamp and idempotency key they had."""
    settings = settings_of(path)
    choice = replace(choice_of(settings, **chosen), sendable=True)
    found = visit(settings, lambda outbox: survey(outbox, choice))
    stuck = visit(settings, lambda outbox: survey(outbox, replace(choice, limit=None, sendable=False)))
    done = 0
    if not as_json:
        tell_counts(found, "would be replayed" if dry_run else "to replay")
        tell_counts(stuck, "can never be sent, and stay")
    if not (found or stuck):
        click.echo(NONE_FIT, err=True)
    if found and not dry_run:
        done = visit(settings, lambda outbox: work_through(outbox, choice, found.total(), put_back(outbox)))
    if as_json:
        click.echo(in_json({"replayed": done, "chosen": grouped(found), "never": grouped(stuck)}))
    elif found:
        tell_speed(settings, found)
        if not dry_run:
            click.echo(f"{count(done, 'event')} put back to wait")


@dead_letters.command()
@config_file
@selection
@click.option("--yes", is_flag=True, help="Drop them for good.")
def drop(path: Path, *, dry_run: bool, as_json: bool, yes: bool, **chosen: Any) -> None:
    """Drop them for good; counted as dropped by the operator."""
    settings = settings_of(path)
    choice = choice_of(settings, **chosen)
    found = visit(settings, lambda outbox: survey(outbox, choice))
    done = 0
    if not found:
        click.echo(NONE_FIT, err=True)
    elif yes and not dry_run:
        done = visit(settings, lambda outbox: work_through(outbox, choice, found.total(), outbox.drop))
    if as_json:
        click.echo(in_json({"dropped": done, "chosen": grouped(found)}))
    elif yes and not dry_run:
        click.echo(f"{count(done, 'dead letter')} dropped")
    else:
        tell_counts(found, "would be dropped")
    if found and not (yes or dry_run):
        click.echo("nothing was dropped; add --yes to drop them for good", err=True)
        raise click.exceptions.Exit(2)


def choice_of(
    settings: Config, numbers: tuple[int, ...], limit: int | None, *, everything: bool, **chosen: Any
) -> Choice:
    """What the operator chose. Raises UsageError where that is nothing, as all of them is to be said, or two things."""
    filtered = everything or any(value is not None for value in chosen.values())
    if not (numbers or filtered):
        raise click.UsageError("say which: their numbers, filters like --reason, or --all")
    if numbers and (filtered or limit):
        raise click.UsageError("say which: their numbers, or filters like --reason, but not both")
    return Choice(choose(settings, **chosen), tuple(dict.fromkeys(numbers)), limit)


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


async def one(outbox: Outbox, number: int) -> StoredLetter | None:
    """The dead letter of that number; None where there is none."""
    found = await outbox.dead_letters(Which(), after=number - 1, limit=1)
    return found[0] if found and found[0].number == number else None


def no_such(number: int) -> RelayError:
    return RelayError(f"there is no dead letter {number}; `relay dead-letters list` has their numbers")


def is_sendable(letter: StoredLetter) -> bool:
    return letter.letter.cause.reason not in OBSTACLES


async def survey(outbox: Outbox, choice: Choice) -> "Counter[Group]":
    """How many there are of which. Raises RelayError for a number that is not there."""
    for number in choice.numbers:
        if await one(outbox, number) is None:
            raise no_such(number)
    found: Counter[Group] = Counter()
    async for page in choice.pages(outbox):
        letters = (stored.letter for stored in page)
        found.update(Group(each.event.environment, each.cause.reason, each.event.lane) for each in letters)
    return found


def put_back(outbox: Outbox) -> Callable[[Sequence[int]], Coroutine[Any, Any, int]]:
    """What lets dead letters wait again."""
    return lambda numbers: outbox.replay(numbers, now=time.time())


async def work_through(
    outbox: Outbox, choice: Choice, total: int, work: Callable[[Sequence[int]], Coroutine[Any, Any, int]]
) -> int:
    """Do *work* page by page, with a bar on a terminal; return how many there were.

    Whoever breaks it off finds the rest where it was, and is told how far it came.
    """
    done, finished = 0, False
    with click.progressbar(length=total, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        try:
            async for page in choice.pages(outbox):
                slice_ = asyncio.ensure_future(work([letter.number for letter in page]))
                try:
                    done += await asyncio.shield(slice_)
                except asyncio.CancelledError:
                    done += await slice_  # it is committed whatever happens here, and is to be told
                    raise
                bar.update(len(page))
            finished = True
        finally:
            if not finished:
                advice = "the others are as they were, and the same command goes on with them"
                click.echo(f"\nbroken off: {done:,} of {total:,} are done; {advice}", err=True)
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
        "detail": nameless(cause.detail, event.identity)[:SHORTENED],
    }


def grouped(found: Mapping[Group, int]) -> list[dict[str, Any]]:
    """How many of which, for a machine."""
    return [
        {"environment": environment, "reason": reason, "heap": lane.url, "app_id": lane.app_id, "events": events}
        for (environment, reason, lane), events in sorted(found.items(), key=repr)
    ]


COLUMNS = ("number", "set aside (UTC)", "environment", "reason", "tries", "captured (UTC)", "Heap's words")
NUMBERS = {"number", "tries"}


def show_table(letters: Sequence[StoredLetter]) -> None:
    """Nothing is cut, however narrow the terminal: the numbers are for the next command."""
    rows = [COLUMNS, *map(cells, letters)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            cell.rjust(width) if name in NUMBERS else cell.ljust(width)
            for name, cell, width in zip(COLUMNS, row, widths, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def cells(letter: StoredLetter) -> tuple[str, ...]:
    event, cause = letter.letter.event, letter.letter.cause
    times = stamp(letter.made_at), stamp(event.captured_at)
    words = visible(" ".join(facts(letter)["detail"][:WORDS].split()))
    return (str(letter.number), times[0], event.environment, cause.reason, str(letter.attempts), times[1], words)


def tell_counts(found: Mapping[Group, int], what: str) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for group, events in found.items():
        counts[group.environment, group.reason] += events
    for (environment, reason), events in sorted(counts.items()):
        click.echo(f"{events:>9,}  {environment}  {reason}  {what}")


def tell_speed(settings: Config, found: Mapping[Group, int]) -> None:
    """How fast they go to each app, and what will not go at all."""
    shares = settings.lanes()
    for lane in sorted({group.lane for group in found}, key=repr):
        events = sum(times for group, times in found.items() if group.lane == lane)
        names = ", ".join(sorted({group.environment for group in found if group.lane == lane}))
        if lane in shares:
            rate = rate_of(APP_EVENTS, shares[lane]).per_second
            speed = f"at most {rate:,.3g} events a second go to their app, so these take {span(max(1, events / rate))}"
            click.echo(f"{names}: {speed}")
        else:
            advice = f"no environment of this YAML names app {lane.app_id} any more; see `relay orphans list`"
            click.echo(f"{names}: {count(events, 'event')} will not be sent: {advice}")
