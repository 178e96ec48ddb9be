"""relay check --live, as it is typed, beside the stand-ins."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import settings, write


@dataclass(frozen=True, slots=True)
class Told:
    """What the command said of each probe."""

    exit_code: int
    probes: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, probe: str) -> Mapping[str, Any]:
        return self.probes[probe]


async def check_live(path: Path, *options: str) -> Told:
    """Run the command in a thread, so that the stand-ins can answer."""
    command = ["check", "-c", str(path), "--live", "--json", *options]
    done = await asyncio.to_thread(CliRunner().invoke, main, command)
    probes = json.loads(done.stdout)["live"]
    return Told(done.exit_code, {probe["probe"]: probe for probe in probes})


def in_shell(line: str, path: Path) -> "subprocess.CompletedProcess[str]":
    """*line* as typed, where `check` is the live check of the file at *path*."""
    return subprocess.run(
        [
            "bash",
            "-c",
            f'python=$0; check() {{ "$python" -m relay check -c "{path}" --live "$@"; }}; {line}',
            sys.executable,
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )


@pytest.fixture
def path(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path) -> Path:
    return write(tmp_path, settings(flagsmith, heap))
