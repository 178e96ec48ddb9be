"""The command `relay` itself."""

import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import relay
from relay.cli import COMMANDS, main
from relay.errors import ConfigError, RelayError, StartError


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_says_what_it_does(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])

    assert done.exit_code == 0
    assert f"relay {name}" in done.stdout or f"main {name}" in done.stdout


def test_help_lists_them() -> None:
    listed = CliRunner().invoke(main, ["--help"]).stdout

    assert re.findall(r"^  ([\w-]+)  ", listed.partition("Commands:")[2], re.MULTILINE) == list(COMMANDS)


def test_version_is_the_package_s() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"relay, version {relay.__version__}\n"


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["fly"]).exit_code == 2


def test_a_command_imports_only_what_it_needs() -> None:
    """So that `relay --version` and `relay health` start fast."""
    code = "import sys, relay.cli; print(sorted({'pydantic', 'aiohttp', 'rich', 'relay.app'} & set(sys.modules)))"

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


COLLECTIONS_MEANWHILE = """
import gc
from relay.cli import main

before = gc.get_stats()
main.get_command(None, "run")
print(gc.get_stats() == before, gc.isenabled())
"""


def test_nothing_is_searched_for_garbage_while_a_command_is_imported() -> None:
    """All of it stays; a start would take a tenth longer."""
    assert subprocess.check_output([sys.executable, "-c", COLLECTIONS_MEANWHILE], text=True) == "True True\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("a.yaml:1: x: y\na.yaml:2: x: y"), 2, "a.yaml:1: x: y\na.yaml:2: x: y\n"),
        (StartError("port 1 is in use"), 1, "relay: port 1 is in use\n"),
        (RelayError("no"), 1, "relay: no\n"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: RelayError, code: int, line: str
) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(main, "get_command", lambda *_: failing)

    done = CliRunner().invoke(main, ["failing"])

    assert (done.exit_code, done.stderr) == (code, line)
