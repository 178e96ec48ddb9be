"""The tables of docs/configuration.md show what the rules do."""

import hmac
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from relay.core.coalesce import decide as decide_on_change
from relay.core.identity import hashed, is_sampled
from relay.core.rules import decide
from relay.model import Evaluation, Flag, Sent, Verdict
from tests.config.conftest import ENVIRONMENT, Yaml
from tests.lacking import lacking

DOCS = Path("docs/configuration.md").read_text()


def rows(header: str) -> list[list[str]]:
    """The cells below the table's *header*, without backticks."""
    table = DOCS.partition(f"\n| {header} |\n")[2].partition("\n\n")[0]
    found = [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in table.splitlines()[1:]]
    assert found
    return found


def decided(yaml: Yaml, rule: str, identity: str = "ada", feature: str = "dark_mode") -> Any:
    (found,) = yaml.config(f"{ENVIRONMENT}    {rule}\n").environments
    evaluation = Evaluation(identity, (Flag(feature, True, None, None),), transient=False)
    return decide(evaluation, found.environment(), key="k" * 32, captured_at=0.0)


@pytest.mark.parametrize(("patterns", "name", "meant"), rows("patterns | name | meant"))
def test_a_name_is_meant_as_the_table_says(yaml: Yaml, patterns: str, name: str, meant: str) -> None:
    by_feature = decided(yaml, f"features: {patterns}", feature=name).translation.properties.text
    by_identity = decided(yaml, f"identities: {patterns}", identity=name).verdict

    assert (by_feature != b"{}", by_identity.send) == (meant == "yes", meant == "yes")


@pytest.mark.parametrize(("block", "identity", "blocked"), rows("block | identity | blocked"))
def test_an_identity_is_blocked_as_the_table_says(yaml: Yaml, block: str, identity: str, blocked: str) -> None:
    found = decided(yaml, f"identity: {{{block}}}", identity=identity).verdict

    assert (found == Verdict(False, "blocked")) == (blocked == "yes")


SAMPLES = "environment | identity | first 8 bytes | 0.08 | 0.1 | 0.5 | 0.9"


@pytest.mark.parametrize(
    ("environment", "identity", "digest", "places"), [(*row[:3], row[3:]) for row in rows(SAMPLES)]
)
def test_an_identity_is_sampled_as_the_table_says(
    environment: str, identity: str, digest: str, places: list[str]
) -> None:
    samples = [float(part) for part in SAMPLES.split(" | ")[3:]]

    assert [is_sampled(environment, identity, sample) for sample in samples] == [place == "in" for place in places]
    assert [int(digest, 16) / 2**64 < sample for sample in samples] == [place == "in" for place in places]


@pytest.mark.parametrize(("answers", "reasons"), rows("answers, and when | reasons"))
def test_answers_are_sent_for_the_reasons_that_the_table_says(answers: str, reasons: str) -> None:
    last, found = None, []
    for answer in answers.split(", "):
        state, at = ord(answer[0]), float(answer[2:-1]) * 3600
        verdict = decide_on_change(state, at, last, 24 * 3600)
        last = Sent(state, at) if verdict.send else last
        found.append(verdict.reason)

    assert ", ".join(found) == reasons


HASHES = rows("identity | Heap's identity")
(KEY,) = re.findall(r"^With the key `(.+)`:$", DOCS, re.MULTILINE)
every_hash = pytest.mark.parametrize(("identity", "expected"), HASHES)


def recipe(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)\n```", DOCS)
    return str(found)


@every_hash
def test_an_identity_has_the_hash_that_the_table_says(identity: str, expected: str) -> None:
    assert hashed(identity, KEY.encode()) == expected


@every_hash
def test_the_recipe_in_python_makes_the_hashes_of_the_table(identity: str, expected: str) -> None:
    assert eval(recipe("python"), {"hmac": hmac, "key": KEY, "identity": identity}) == expected


@every_hash
def test_the_recipe_in_javascript_makes_the_hashes_of_the_table(identity: str, expected: str) -> None:
    node = shutil.which("node") or lacking("node is not installed: run `make test`")
    script = (
        f"const crypto = require('node:crypto'), [key, identity] = process.argv.slice(1); console.log({recipe('js')})"
    )

    done = subprocess.run([node, "-e", script, KEY, identity], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == expected
