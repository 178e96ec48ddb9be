import asyncio
import html
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from click.testing import CliRunner, Result

from relay.cli import main
from relay.cli.preview import REASONS
from relay.core.identity import hashed
from relay.core.rules import EMPTY, SHADOW, SKIPS
from relay.core.translate import OBSTACLES
from relay.sandbox.faults import Fault, Reply
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import APP_ID, CLIENT_KEY, settings, write

ARGUMENTS = ("--environment", "tests", "--identity", "ada")


@pytest.fixture
def path(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path) -> Path:
    return write(tmp_path, settings(flagsmith, heap))


async def preview(path: Path, *arguments: str, typed: str | None = None) -> Result:
    """Run the command beside the stand-ins' event loop."""
    command = ["preview", "-c", str(path), *arguments]
    return await asyncio.to_thread(CliRunner().invoke, main, command, input=typed)


def event(result: Result) -> dict[str, Any]:
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def flags_answer(*flags: dict[str, Any], **others: Any) -> Reply:
    body = json.dumps({"identifier": "ada", **others, "flags": flags}).encode()
    return Reply(200, body, (("Content-Type", "application/json"),))


async def test_the_event_that_heap_would_get_is_printed(path: Path, heap: StandInHeap) -> None:
    result = await preview(path, *ARGUMENTS)

    assert result.exit_code == 0, result.output
    found = event(result)
    assert list(found) == ["event", "identity", "properties", "timestamp", "idempotency_key"]
    assert (found["event"], found["identity"]) == ("Flagsmith Feature Flags", "ada")
    assert found["properties"]["dark_mode"] is True
    assert found["properties"]["free_trial_days"] == 0
    assert found["properties"]["greeting"] == "Grüße aus Zürich 👋"
    assert len(found["idempotency_key"]) >= 32


async def test_it_says_where_the_event_would_go_and_sends_nothing(path: Path, heap: StandInHeap) -> None:
    result = await preview(path, *ARGUMENTS)

    assert f"would go to app {APP_ID} at {heap.url}" in result.stderr
    assert heap.requests == []


async def test_flagsmith_is_asked_once_with_the_first_key_and_the_caller_is_warned(
    path: Path, flagsmith: StandInFlagsmith
) -> None:
    result = await preview(path, *ARGUMENTS)

    (asked,) = flagsmith.requests
    assert (asked.method, asked.target) == ("GET", "/api/v1/identities/?identifier=ada")
    assert ("x-environment-key", CLIENT_KEY) in [(name.lower(), value) for name, value in asked.headers]
    assert "counts the call, and makes the identity exist" in result.stderr


async def test_a_relay_on_the_way_is_told_not_to_capture(path: Path, flagsmith: StandInFlagsmith) -> None:
    await preview(path, *ARGUMENTS)

    (asked,) = flagsmith.requests
    assert any(name.lower() == "via" and "flagsmith-heap-relay" in value for name, value in asked.headers)


@pytest.mark.parametrize(
    ("typed", "identity"), [("ada\n", "ada"), ("  ada & co\n\n", "  ada & co\n"), ("Jürgen", "Jürgen")]
)
async def test_a_dash_reads_the_identity_from_standard_input(path: Path, typed: str, identity: str) -> None:
    result = await preview(path, "--environment", "tests", "--identity", "-", typed=typed)

    assert event(result)["identity"] == identity


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_answer_is_read(path: Path, flagsmith: StandInFlagsmith, coding: Any) -> None:
    flagsmith.coding = coding

    result = await preview(path, *ARGUMENTS)

    assert event(result)["identity"] == "ada"


async def test_what_was_altered_is_told(path: Path, flagsmith: StandInFlagsmith) -> None:
    flag = {"feature": {"name": "terms"}, "enabled": True, "feature_state_value": "x" * 2000}
    flagsmith.replies.append(flags_answer(flag))

    result = await preview(path, *ARGUMENTS)

    assert event(result)["properties"] == {"terms": "x" * 1023}
    assert "altered, so that Heap takes it: value_cut 1" in result.stderr


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (flags_answer(identifier=" "), "no_identity"),
        (Reply(200, b'{"detail":"Missing identifier"}', (("Content-Type", "application/json"),)), "not_flags"),
        (Reply(200, b"<html>", (("Content-Type", "text/html"),)), "not_flags"),
        (Reply(200, b"{", (("Content-Type", "application/json"),)), "undecodable"),
        (Reply(200, b" " * 5_000_000, (("Content-Type", "application/json"),)), "too_large"),
    ],
)
async def test_an_answer_without_an_event_is_explained(
    path: Path, flagsmith: StandInFlagsmith, answer: Reply, reason: str
) -> None:
    flagsmith.replies.append(answer)

    result = await preview(path, *ARGUMENTS)

    assert (result.exit_code, result.stdout) == (0, "")
    assert f"nothing would be sent: {reason}, " in result.stderr


async def test_a_dead_letter_is_shown_and_explained(path: Path) -> None:
    result = await preview(path, "--environment", "tests", "--identity", "x" * 256)

    assert event(result)["identity"] == "x" * 256
    assert "nothing would be sent: a dead letter, identity_too_long, " in result.stderr


def with_rules(path: Path, **rules: Any) -> Path:
    """The file at *path* with *rules* for its environment."""
    content = yaml.safe_load(path.read_text())
    content["environments"][0] |= rules
    return write(path.parent, content)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"identity": {"block": ["^ada$"]}}, "blocked"),
        ({"identities": {"exclude": ["a*"]}}, "filtered"),
        ({"sample": 0}, "sampled_out"),
        ({"features": {"include": ["nothing"]}, "empty": "skip"}, "empty"),
    ],
)
async def test_what_a_rule_keeps_back_is_explained_and_there_is_no_event(
    path: Path, rules: dict[str, Any], reason: str
) -> None:
    result = await preview(with_rules(path, **rules), *ARGUMENTS)

    assert (result.exit_code, result.stdout) == (0, "")
    assert f"nothing would be sent: {reason}, " in result.stderr


async def test_in_shadow_the_event_is_shown_and_why_it_would_not_go(path: Path) -> None:
    result = await preview(with_rules(path, shadow=True), *ARGUMENTS)

    assert event(result)["identity"] == "ada"
    assert "nothing would be sent: shadow, the environment's rules say shadow: true" in result.stderr
    assert "would go to" not in result.stderr


async def test_the_event_has_the_hash_and_the_properties_that_heap_would_get(path: Path) -> None:
    key = "not-a-secret-0123456789"
    rules = {"features": {"include": ["dark_mode"]}, "extra_properties": {"team": "growth"}}

    result = await preview(with_rules(path, **rules, identity={"mode": "hmac_sha256", "key": key}), *ARGUMENTS)

    assert event(result)["identity"] == hashed("ada", key.encode())
    assert event(result)["properties"] == {"dark_mode": True, "team": "growth"}


def test_every_reason_of_the_rules_has_words() -> None:
    assert set(SKIPS) | {EMPTY.reason, SHADOW.reason} | OBSTACLES <= set(REASONS)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (302, "write the address it redirects to as upstream.url"),
        (400, "try another identity, or ask whoever runs it"),
        (401, "see in Flagsmith that the key belongs to it, and is not disabled"),
        (403, "see in Flagsmith that the key belongs to it, and is not disabled"),
        (404, "see that upstream.url is Flagsmith's address, without /api/v1"),
        (429, "it is asked too often; try again later"),
        (503, "it, or what stands before it, is not well; try again later"),
        (206, "try another identity, or ask whoever runs it"),
    ],
)
async def test_a_flagsmith_that_refuses_is_one_line_with_advice_and_exit_code_1(
    path: Path, flagsmith: StandInFlagsmith, status: int, advice: str
) -> None:
    flagsmith.replies.append(Reply(status))

    result = await preview(path, *ARGUMENTS)

    assert (result.exit_code, result.stdout) == (1, "")
    (_, line) = result.stderr.splitlines()
    assert line == f"relay: Flagsmith at {flagsmith.url} answered {status} to the first key of tests; {advice}"


IDENTITY = 'jürgen "j" o\'neill'


@pytest.mark.parametrize(
    "words",
    [
        CLIENT_KEY,
        IDENTITY,
        quote(IDENTITY),
        json.dumps(IDENTITY),
        html.escape(IDENTITY),
        " " * 190 + CLIENT_KEY,
        f"Got more than 8190 bytes when reading: {quote(IDENTITY)[:7]}...",
        f"{CLIENT_KEY[:12]}…",
    ],
)
async def test_an_error_has_neither_the_key_nor_the_identity_in_whatever_writing(
    path: Path, flagsmith: StandInFlagsmith, words: str
) -> None:
    flagsmith.replies.append(Reply(400, words.encode()))

    result = await preview(path, "--environment", "tests", "--identity", IDENTITY)

    assert result.exit_code == 1
    assert CLIENT_KEY[:12] not in result.output
    assert "rgen" not in result.output


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.RESET, Fault.TRUNCATE])
async def test_a_flagsmith_that_breaks_off_is_one_line_and_exit_code_1(
    path: Path, flagsmith: StandInFlagsmith, fault: Fault
) -> None:
    flagsmith.replies.extend([fault, fault])

    result = await preview(path, *ARGUMENTS)

    assert (result.exit_code, result.stdout) == (1, "")
    (_, line) = result.stderr.splitlines()
    assert line.startswith(f"relay: Flagsmith at {flagsmith.url} could not be asked: ")


async def test_an_environment_that_is_not_in_the_file_is_exit_code_2_and_names_those_that_are(path: Path) -> None:
    result = await preview(path, "--environment", "staging", "--identity", "ada")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{path}: no environment has that name; there are: tests\n"


async def test_a_key_given_for_an_environment_is_not_repeated(path: Path) -> None:
    result = await preview(path, "--environment", CLIENT_KEY, "--identity", "ada")

    assert result.exit_code == 2
    assert CLIENT_KEY not in result.output


async def test_a_file_with_mistakes_is_exit_code_2(tmp_path: Path, flagsmith: StandInFlagsmith) -> None:
    result = await preview(write(tmp_path, {"nonsense": True}), *ARGUMENTS)

    assert result.exit_code == 2
    assert flagsmith.requests == []
