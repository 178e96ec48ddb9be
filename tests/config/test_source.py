"""What a configuration was read from, told by one digest."""

import hashlib
import os
from pathlib import Path

import pytest

from relay.config import Source, examine
from tests.config.conftest import ENVIRONMENT, Yaml

TEXT = ENVIRONMENT.replace("client-key", '"${file:key}"')


def test_a_file_that_names_no_other_has_the_digest_that_sha256sum_prints(yaml: Yaml) -> None:
    assert yaml.examine(ENVIRONMENT).source.digest == hashlib.sha256(ENVIRONMENT.encode()).hexdigest()


def test_a_change_in_a_named_file_changes_the_digest(yaml: Yaml, tmp_path: Path) -> None:
    key = tmp_path / "key"
    digests = {yaml.examine(TEXT).source.digest}
    for content in ("", "ser.one", "ser.two"):
        key.write_text(content)
        digests.add(yaml.examine(TEXT).source.digest)

    assert len(digests) == 4


@pytest.mark.parametrize("text", [TEXT, "- no mapping", "{", "log: {level: '${file:key}'}", "\0", "a: \xff", ""])
def test_the_digest_of_a_look_is_that_of_the_load_mistakes_or_not(yaml: Yaml, tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text("ser.from-a-file")

    source = yaml.examine(text.encode("latin-1")).source

    assert Source.now(yaml.path, source.files).digest == source.digest


@pytest.mark.parametrize("name", ["none", ".", "a\0b", "/dev/zero"])
def test_what_cannot_be_read_has_a_digest_of_its_own(tmp_path: Path, name: str) -> None:
    source = examine(tmp_path / name, {}).source

    assert Source.now(tmp_path / name, ()).digest == source.digest
    assert source.files == ()


def test_a_named_pipe_is_never_waited_for(yaml: Yaml, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")

    found = yaml.examine(TEXT)

    assert "is not a file" in found.mistakes[0].text
    assert Source.now(yaml.path, found.source.files).digest == found.source.digest


def test_other_content_is_read_as_if_it_stood_in_the_file(yaml: Yaml, tmp_path: Path) -> None:
    yaml.path.write_text("{")
    (tmp_path / "key").write_text("ser.from-a-file")

    found = examine(yaml.path, {}, TEXT.encode())

    assert found.config
    assert list(found.config.by_key()) == ["ser.from-a-file"]
    assert found.config.outbox.path == tmp_path / "data" / "outbox.db"
    assert found.source.digest == yaml.examine(TEXT).source.digest


def test_no_secret_is_in_the_repr_of_a_source(yaml: Yaml) -> None:
    assert "client-key" not in repr(yaml.examine(ENVIRONMENT).source)
