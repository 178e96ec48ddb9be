"""relay check, as it is typed."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from relay.cli import main

GOOD = """\
environments:
  - name: production
    keys: ["${CLIENT_KEY}"]
    heap: {app_id: "1234567890", region: us}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.yaml"


def check(path: Path, text: str, *options: str) -> Result:
    path.write_text(text)
    return CliRunner().invoke(main, ["check", "-c", str(path), *options], env={"CLIENT_KEY": "client-key"})


def test_a_good_file_prints_the_merged_result_masked_and_exits_0(path: Path) -> None:
    done = check(path, GOOD)

    assert done.exit_code == 0
    shown = yaml.safe_load(done.stdout)
    assert shown["listen"]["port"] == 18080
    assert shown["environments"][0]["heap"] == {"app_id": "1234567890", "url": None, "region": "us", "share": 0.8}
    assert "client-key" not in done.output


def test_warnings_go_to_stderr_one_line_each(path: Path) -> None:
    done = check(path, GOOD.replace("]", ", ser.abcdefgh]", 1))

    first, second = done.stderr.splitlines()
    assert first.startswith(f"warning: {path}:3: environments[0].keys[1]: is a server-side key")
    assert second.startswith("reminder: Flagsmith's own Heap integration must be off")
    assert "abcdefgh" not in done.output


def test_mistakes_go_to_stderr_one_line_each_and_exit_2(path: Path) -> None:
    done = check(path, "listen: {prot: 1}\nlog: {level: loud}\n")

    assert done.exit_code == 2
    assert done.stdout == ""
    assert [line.removeprefix(str(path)) for line in done.stderr.splitlines()] == [
        ":1: listen.prot: is no setting here; write port instead",
        ":2: log.level: 'loud' is not one of its values; write debug, info, warning or error",
    ]


def test_strict_takes_warnings_for_mistakes(path: Path) -> None:
    rash = GOOD.replace("]", ", ser.abcdefgh]", 1)

    assert check(path, rash).exit_code == 0
    assert check(path, rash, "--strict").exit_code == 2


def test_a_good_file_passes_the_strict_check(path: Path) -> None:
    assert check(path, GOOD, "--strict").exit_code == 0


def test_json_has_mistakes_warnings_and_config(path: Path) -> None:
    good = json.loads(check(path, GOOD, "--json").stdout)
    bad = json.loads(check(path, "log: {level: loud}\n", "--json").stdout)

    assert set(good) == set(bad) == {"mistakes", "warnings", "reminder", "config"}
    assert good["mistakes"] == []
    assert good["warnings"] == []
    assert "must be off" in good["reminder"]
    assert good["config"]["environments"][0]["name"] == "production"
    assert bad["config"] is None
    assert bad["mistakes"] == [
        {
            "file": str(path),
            "line": 1,
            "path": "log.level",
            "text": "'loud' is not one of its values; write debug, info, warning or error",
        }
    ]


def test_json_keeps_the_exit_code(path: Path) -> None:
    assert check(path, "log: {level: loud}\n", "--json").exit_code == 2


def test_a_missing_file_is_one_line_and_exit_2(path: Path) -> None:
    done = CliRunner().invoke(main, ["check", "-c", str(path)])

    assert done.exit_code == 2
    assert done.stderr == f"{path}: there is no such file; give the YAML's path with -c\n"


def test_a_command_without_its_file_is_wrong_usage() -> None:
    done = CliRunner().invoke(main, ["check"])

    assert done.exit_code == 2
    assert "'-c' / '--config'" in done.stderr
