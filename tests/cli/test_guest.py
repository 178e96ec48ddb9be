"""Commands beside a relay whose YAML is broken just now: they are needed then most."""

import asyncio
from pathlib import Path

import pytest

from tests.cli.broken import append, has_a_copy
from tests.processes import RelayProcess
from tests.test_process import run


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["status"], 0),
        (["trace", "ada"], 1),
        (["dead-letters", "list"], 0),
        (["orphans", "list"], 0),
        (["forget", "--yes", "ada"], 0),
    ],
)
async def test_with_mistakes_in_its_yaml_the_last_good_content_serves_and_one_line_says_so(
    config: Path, relay: RelayProcess, command: list[str], code: int
) -> None:
    await has_a_copy(config)
    append(config, "logg: {}\n")

    done = await asyncio.to_thread(run, *command, "-c", str(config))

    assert done.returncode == code, done.stderr
    line = f"{config} has mistakes, so its last good content is used; `relay check -c {config}` tells them"
    assert done.stderr.splitlines().count(line) == 1
    assert "logg" not in done.stderr


def test_without_a_last_good_content_every_mistake_is_told(config: Path) -> None:
    append(config, "logg: {}\n")

    done = run("trace", "ada", "-c", str(config))

    assert done.returncode == 2
    assert ": logg: is no setting here" in done.stderr
    assert "Traceback" not in done.stderr
