"""relay preview: what one identity's event would be, without sending it."""

import asyncio
import json
import os
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import click

from relay import __version__, config
from relay.capture.keys import time_ordered_key
from relay.cli.options import config_file, in_json, read_identity
from relay.config import Config, EnvironmentConfig
from relay.connection import UpstreamAnswer
from relay.core.evaluate import evaluate
from relay.core.headers import lines
from relay.core.recognise import VIA
from relay.core.rules import Decision, decide
from relay.errors import CaptureRefused, ConfigError, RelayError, UpstreamError
from relay.model import DeadLetter, Event, Exchange, Verdict
from relay.upstream import Outgoing, Upstream

# Why nothing would be sent, in a reader's words.
REASONS = {
    "no_identity": "the identity is missing, or white space only",
    "not_flags": "the answer is not a list of flags",
    "too_large": "the answer is larger than the capture settings allow",
    "undecodable": "the answer cannot be read",
    "identity_too_long": "Heap takes identities of at most 255 characters, and a cut one would be somebody else's",
    "identity_unacceptable": "the identity holds NUL or half a character, and a changed one would be somebody else's",
    "event_too_large": "the event does not fit into one request to Heap",
    "blocked": "the identity is of a kind that identity.block names",
    "filtered": "the identity is not one that identities includes",
    "transient": "the identity is transient",
    "sampled_out": "the identity is not in the sample",
    "empty": "no flag is left that could be sent",
    "shadow": "the environment's rules say shadow: true",
}

# What to do about an answer other than 200, by its status, else by its class. The answer's own words are not repeated:
# they may hold the key or the identity, whole or cut, in whatever writing.
UNKNOWN_KEY = "see in Flagsmith that the key belongs to it, and is not disabled"
ADVICE = {
    401: UNKNOWN_KEY,
    403: UNKNOWN_KEY,
    404: "see that upstream.url is Flagsmith's address, without /api/v1",
    429: "it is asked too often; try again later",
}
CLASS_ADVICE = {
    3: "write the address it redirects to as upstream.url",
    5: "it, or what stands before it, is not well; try again later",
}


@click.command()
@config_file
@click.option("--environment", "name", required=True, metavar="NAME", help="Its name in the YAML.")
@click.option("--identity", required=True, metavar="IDENTITY", help="Whose flags to ask for; - reads standard input.")
def preview(path: Path, name: str, identity: str) -> None:
    """Ask Flagsmith for one identity, and print the event that Heap would get. Nothing is sent to Heap.

    Flagsmith counts it as a call, and makes the identity exist. The event goes to standard output, all else to
    standard error.
    """
    settings = config.load(path, os.environ).config
    environment = find(settings, name, path)
    identity = read_identity(identity)
    _note(f"asking {settings.upstream.url}: Flagsmith counts the call, and makes the identity exist in {name}")
    call = asyncio.run(exchange(settings, environment, identity))
    show(outcome(call, settings))


def find(settings: Config, name: str, path: Path) -> EnvironmentConfig:
    """The environment of that name. Raises ConfigError, without the name: a key may be given for it by mistake."""
    for environment in settings.environments:
        if environment.name == name:
            return environment
    names = ", ".join(environment.name for environment in settings.environments) or "none"
    raise ConfigError(f"{path}: no environment has that name; there are: {names}")


async def exchange(settings: Config, environment: EnvironmentConfig, identity: str) -> Exchange | str:
    """The exchange as the relay would capture it, or why it would not. Raises RelayError where there is no 200."""
    target = "/api/v1/identities/?identifier=" + quote(identity, safe="", errors="surrogateescape")
    key = environment.keys[0].get_secret_value()
    try:
        async with Upstream(settings.upstream) as upstream:
            answer = await upstream.send(Outgoing("GET", target.encode(), fields(upstream, key, "preview")))
            with closing(answer):
                body = await read(answer, settings.capture.max_answer)
    except UpstreamError as error:
        raise RelayError(f"Flagsmith at {settings.upstream.url} could not be asked: {error.reason}") from error
    if answer.status != 200:
        raise RelayError(
            f"Flagsmith at {settings.upstream.url} answered {answer.status} to the first key of {environment.name}; "
            f"{advice(answer.status, 'try another identity, or ask whoever runs it')}"
        )
    if body is None:
        return "too_large"
    return Exchange(
        environment=environment.environment(),
        method="GET",
        target=target,
        request_type="",
        request_encoding="",
        request_body=b"",
        answer_type=answer.text(b"content-type"),
        answer_encoding=answer.text(b"content-encoding"),
        answer_body=body,
        received_at=time.time(),
    )


def fields(upstream: Upstream, key: str, command: str) -> bytes:
    """The headers an SDK sends; and Via, so that another relay on the way does not capture what a *command* asks."""
    headers = [
        (b"Host", upstream.origin.authority),
        (b"X-Environment-Key", key.encode()),
        (b"Accept", b"application/json"),
        (b"Accept-Encoding", b"gzip, deflate"),
        (b"User-Agent", f"{VIA}/{__version__} {command}".encode()),
        (b"Via", f"1.1 {VIA}-{command}".encode()),
    ]
    return lines(headers)


async def read(answer: UpstreamAnswer, limit: int) -> bytes | None:
    """The answer's body; None where it is larger than *limit* bytes."""
    body = bytearray()
    while chunk := await answer.read():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def advice(status: int, otherwise: str) -> str:
    """What to do about an answer of that *status*; *otherwise* where there is none of its own."""
    return ADVICE.get(status) or CLASS_ADVICE.get(status // 100, otherwise)


def outcome(call: Exchange | str, settings: Config) -> Decision:
    """What the relay would decide about *call*."""
    if isinstance(call, str):
        return Decision(Verdict(False, call))
    try:
        found = evaluate(call, max_decoded=settings.capture.max_decoded, max_flags=settings.capture.max_flags)
    except CaptureRefused as refusal:
        return Decision(Verdict(False, refusal.reason))
    if isinstance(found, Verdict):
        return Decision(found)
    key = time_ordered_key(call.received_at)
    return decide(found, call.environment, key=key, captured_at=call.received_at)


def show(decision: Decision) -> None:
    """The event on standard output; on standard error where it would go, what was altered, or why it would not go."""
    verdict, made = decision.verdict, decision.translation
    if made:
        event = made.entry.event if isinstance(made.entry, DeadLetter) else made.entry
        _print_event(event)
        if altered := made.properties.altered:
            counts = ", ".join(f"{reason} {times}" for reason, times in sorted(altered.items()))
            _note(f"altered, so that Heap takes it: {counts}")
        if verdict.send:
            _note(f"would go to app {event.lane.app_id} at {event.lane.url}; nothing was sent")
    if not verdict.send:
        dead = "a dead letter, " if decision.entry else ""
        _note(f"nothing would be sent: {dead}{verdict.reason}, {REASONS[verdict.reason]}")


def _print_event(event: Event) -> None:
    click.echo(in_json(json.loads(event.body)))


def _note(text: str) -> None:
    click.echo(text, err=True)
