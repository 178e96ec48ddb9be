"""relay trace: what happened to one identity's last evaluations, and why."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from relay.cli.guest import settings_of, visit
from relay.cli.options import as_json, config_file, in_json, iso, read_identity, stamp
from relay.config import Config
from relay.config.addresses import fingerprint
from relay.core.nameless import nameless
from relay.core.status import count, span
from relay.model import Trace

NOT_SEEN = """\
not seen among the last {journal:,} evaluations of this outbox. What that may come from:
* The identity is another one: it is compared letter for letter, with its case and blanks.
* The call does not pass through this relay, or the SDK evaluates flags locally and never asks for an identity.
* Its environment key is not in this YAML. These are (SHA-256, first digits): {keys}
* It was answered longer ago than the journal goes back (outbox.journal), or was forgotten.
* Another relay captured it, into an outbox of its own."""


@click.command()
@config_file
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@as_json
@click.argument("identity")
@click.pass_context
def trace(ctx: click.Context, path: Path, identity: str, limit: int, *, as_json: bool) -> None:
    """Show what was captured for IDENTITY, what was decided, what Heap answered, and where the event is now.

    - as IDENTITY reads it from standard input, so that it is not in the list of processes. Exit code 1 where it was
    not seen.
    """
    settings = settings_of(path)
    now, name = time.time(), read_identity(identity)
    known = visit(settings, lambda outbox: outbox.trace(name, limit=limit, now=now))
    # Skips and events of one second may be stored one after the other.
    found = sorted((without_name(each, name) for each in known), key=lambda each: each.at, reverse=True)
    if as_json:
        click.echo(in_json([facts(each) for each in found]))
    else:
        for each in found:
            click.echo("\n".join(story(each, now)))
    if not found:
        click.echo(not_seen(settings), err=True)
        ctx.exit(1)


def without_name(found: Trace, identity: str) -> Trace:
    """*found* as it may end in a ticket: Heap's words may repeat the identity."""
    if found.cause is None:
        return found
    return replace(found, cause=replace(found.cause, detail=nameless(found.cause.detail, identity)))


def facts(found: Trace) -> dict[str, Any]:
    """One evaluation for a machine."""
    return {
        "at": iso(found.at),
        "environment": found.environment,
        "method": found.method,
        "send": found.verdict.send,
        "reason": found.verdict.reason,
        "place": found.place,
        "attempts": found.attempts,
        "answers": [{"at": iso(each.at), "answer": each.answer} for each in found.answers],
        "due": None if found.due is None else iso(found.due),
        "cause": None if found.cause is None else {"reason": found.cause.reason, "detail": found.cause.detail},
        "unchanged": found.unchanged,
        "unchanged_at": None if found.unchanged_at is None else iso(found.unchanged_at),
        "key": found.key,
        "properties": json.loads(found.properties),
    }


def story(found: Trace, now: float) -> Iterator[str]:
    """One evaluation for a person."""
    decided = "to be sent" if found.verdict.send else "not sent"
    yield f"{stamp(found.at)} UTC  {found.environment}  {found.method}  {decided} ({found.verdict.reason})"
    yield f"    {whereabouts(found, now)}"
    if before := found.answers[:-1]:
        yield f"    before that {', '.join(f'{each.answer} at {stamp(each.at)}' for each in before)} UTC"
    if found.unchanged and found.unchanged_at is not None:
        since = f"{count(found.unchanged, 'later answer')} unchanged, the last at {stamp(found.unchanged_at)} UTC"
        yield f"    {since}"
    if found.key:
        yield f"    idempotency key {found.key}"
    yield f"    {in_json(json.loads(found.properties), indent=None)}"
    yield ""


def whereabouts(found: Trace, now: float) -> str:
    """Where the event is, in a sentence."""
    match found.place:
        case "not_sent":
            return "no event was made"
        case "delivered":
            return f"delivered: Heap has it{tried(found)}"
        case "claimed":
            return f"being sent just now{tried(found)}"
        case "waiting":
            due = "" if found.due is None or found.due <= now else f", next try in {span(found.due - now)}"
            return f"waiting in the outbox{due}{tried(found)}"
        case "dead_letter" if found.cause is not None:
            detail = f": {found.cause.detail}" if found.cause.detail else ""
            return f"set aside as a dead letter, {found.cause.reason}{detail}{tried(found)}"
        case "gone" if found.cause is not None:
            return f"no longer stored, and not delivered: {found.cause.reason}{tried(found)}"
        case _:
            return f"no longer stored, and not delivered: dropped, superseded or forgotten{tried(found)}"


def tried(found: Trace) -> str:
    if not found.answers:
        return ""
    last = found.answers[-1]
    return f"; {count(found.attempts, 'attempt')}, the last answered {last.answer} at {stamp(last.at)} UTC"


def not_seen(settings: Config) -> str:
    keys = [fingerprint(key).removeprefix("sha256:") for each in settings.environments for key in each.keys]
    return NOT_SEEN.format(journal=settings.outbox.journal, keys=", ".join(keys) or "none")
