"""docs/docker.md: its file and its command fit each other and the image."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

from click.testing import CliRunner

from relay.cli import main
from relay.config import Config
from relay.config.loader import load

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs/docker.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SECRETS = {"FLAGSMITH_CLIENT_KEY": "client-key", "HEAP_APP_ID": "1234567890"}

(FILE,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
(COMMAND,) = re.findall(r"^docker run (.*?)\n```", DOCS, re.DOTALL | re.MULTILINE)


def options(name: str) -> list[str]:
    """Every value of the option of that *name* in the command."""
    words = shlex.split(COMMAND)
    return [value for option, value in pairwise(words) if option == f"--{name}"]


def config(folder: Path) -> Config:
    path = folder / "config.yaml"
    path.write_text(FILE)
    return load(path, SECRETS).config


def test_relay_check_takes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(FILE)

    done = CliRunner().invoke(main, ["check", "-c", str(path), "--strict"], env=SECRETS)

    assert done.exit_code == 0, done.stderr


def test_the_container_gets_every_variable_that_the_file_names() -> None:
    assert set(options("env")) == set(re.findall(r"\$\{(\w+)\}", FILE)) == set(SECRETS)


def test_what_is_published_is_what_the_relay_listens_on(tmp_path: Path) -> None:
    read = config(tmp_path)

    assert {read.listen.host, read.admin.host} == {"0.0.0.0"}
    ports = [int(each.rpartition(":")[2]) for each in options("publish")]
    assert ports == [read.listen.port, read.admin.port]
    assert f"EXPOSE {ports[0]} {ports[1]}" in DOCKERFILE


def test_the_file_comes_with_its_folder_and_the_outbox_is_on_the_volume(tmp_path: Path) -> None:
    outbox = config(tmp_path).outbox.path
    assert outbox
    (started_with,) = re.findall(r'^CMD .*"(/\S+)"', DOCKERFILE, re.MULTILINE)
    (home,) = re.findall(r"^WORKDIR (/var\S+)", DOCKERFILE, re.MULTILINE)

    mounted = [each.partition(":")[2] for each in options("volume")]

    assert mounted == [f"{Path(started_with).parent}:ro", str(outbox.parent)]
    assert home == str(outbox.parent)


def test_docker_waits_longer_than_the_relay_takes_to_stop(tmp_path: Path) -> None:
    shutdown = config(tmp_path).shutdown

    (stop_timeout,) = map(int, options("stop-timeout"))

    assert stop_timeout > shutdown.grace + shutdown.finish + shutdown.drain
