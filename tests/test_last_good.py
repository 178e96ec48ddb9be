"""The copy of the last configuration without mistakes."""

import re
import stat
from pathlib import Path

import pytest

from relay import last_good
from tests.config.conftest import ENVIRONMENT
from tests.tracing import traced

BROKEN = b"listen: {prot: 1}\n"


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    """At the default place of a YAML in the same folder."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "outbox.db"


def test_the_copy_has_the_file_s_bytes_and_is_for_its_owner_alone(outbox: Path) -> None:
    last_good.keep(outbox, b"# one\n")
    last_good.keep(outbox, b"# \xf6 two\n")

    (copy,) = outbox.parent.iterdir()
    assert copy.name == "outbox.db.last-good.yaml"
    assert copy.read_bytes() == b"# \xf6 two\n"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_what_a_crash_left_half_written_is_no_hindrance(outbox: Path) -> None:
    last_good.keep(outbox, b"# one\n")
    (outbox.parent / "outbox.db.last-good.yaml.new").write_bytes(b"# tw")

    last_good.keep(outbox, b"# two\n")

    (copy,) = outbox.parent.iterdir()
    assert copy.read_bytes() == b"# two\n"


KEEP = """
import os, sys
from pathlib import Path
from relay import last_good

last_good.keep(Path(sys.argv[1]), b"# content")
os.write(1, b"KEPT")
"""


def test_the_copy_is_on_the_disk_before_it_has_its_name_and_its_name_before_it_is_kept(
    outbox: Path, tmp_path: Path
) -> None:
    """Else a power cut could leave an empty file where the last good content was, or the one before it."""
    trace = traced(tmp_path, "fsync,/rename.*,write", KEEP, str(outbox))

    calls = re.findall(r'(?:write\(\d+, "(# content|KEPT)"|(fsync)\(|(rename)\w*\()', trace)
    assert ["".join(call) for call in calls] == ["# content", "fsync", "rename", "fsync", "KEPT"]


def test_the_same_content_is_not_written_again(outbox: Path) -> None:
    last_good.keep(outbox, b"# one\n")
    before = last_good.beside(outbox).stat()

    last_good.keep(outbox, b"# one\n")

    assert last_good.beside(outbox).stat() == before


def test_a_copy_is_read_as_if_it_stood_in_the_broken_file(outbox: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("ser.from-a-file")
    last_good.keep(outbox, ENVIRONMENT.replace("client-key", '"${file:key}"').encode())

    found = last_good.find(tmp_path / "relay.yaml", {}, BROKEN)

    assert found
    assert found.config
    assert list(found.config.by_key()) == ["ser.from-a-file"]
    assert found.config.outbox.path == outbox


@pytest.mark.parametrize("content", [None, b"", BROKEN])
def test_without_a_copy_or_with_mistakes_in_it_there_is_none(
    outbox: Path, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        last_good.keep(outbox, content)

    assert last_good.find(tmp_path / "relay.yaml", {}, BROKEN) is None


def test_an_outbox_in_memory_has_none(outbox: Path, tmp_path: Path) -> None:
    last_good.keep(outbox, ENVIRONMENT.encode())

    assert last_good.find(tmp_path / "relay.yaml", {}, b"outbox: {url: memory://}\n" + BROKEN) is None
