"""The outbox: what can be said of its file and disk before a relay runs on them."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relay.cli.live import storage
from relay.cli.live.storage import FLEETING, OVER_THE_NETWORK, judge, probe_outbox
from relay.config import OutboxConfig
from tests.cli.live.conftest import Told, check_live
from tests.conftest import StartRelay
from tests.lacking import lacking
from tests.outbox.boxes import make_outbox, opened


def look(path: Path, **settings: Any) -> Told:
    found = asyncio.run(probe_outbox(OutboxConfig.model_validate({"url": f"sqlite:///{path}", **settings})))
    return Told(0, {one.probe: {"result": one.result, "detail": one.detail, "advice": one.advice} for one in found})


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def result(told: Told, name: str) -> tuple[str, str, str]:
    found = told[f"outbox.{name}"]
    return found["result"], found["detail"], found["advice"]


def test_a_file_that_is_not_there_will_be_made_and_is_not_made_here(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "outbox.db"

    told = look(path)

    assert result(told, "file") == ("ok", f"{path} is not there yet; `relay run` makes it", "")
    assert result(told, "owner") == ("ok", "no relay runs on it", "")
    assert told["outbox.disk"]["result"] == "ok"
    assert names(tmp_path) == []


async def test_the_relay_that_runs_on_it_is_named_and_not_disturbed(start_relay: StartRelay, tmp_path: Path) -> None:
    async with start_relay():
        told = await check_live(tmp_path / "config.yaml")

        assert told["outbox.file"]["detail"] == f"{tmp_path / 'data' / 'outbox.db'} can be opened"
        assert told["outbox.owner"]["detail"].startswith(f"the relay with process id {os.getpid()} on host ")
        assert told["outbox.owner"]["detail"].endswith(" runs on it")


def test_a_file_of_another_program_fails(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE of_somebody_else (a)")

    told = look(path)

    assert result(told, "file") == (
        *("failed", f"the outbox {path} is another program's database", "name another file in outbox.url"),
    )


def test_an_older_versions_file_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    path.touch()

    told = look(path)

    assert result(told, "file") == ("ok", f"{path} is an older version's; `relay run` migrates it", "")
    assert path.read_bytes() == b""


async def test_an_outbox_in_use_leaves_nothing_behind(tmp_path: Path) -> None:
    async with opened(make_outbox("sqlite", tmp_path)):
        before = names(tmp_path)

        await asyncio.to_thread(look, tmp_path / "outbox.db")

        assert names(tmp_path) == before


def test_a_folder_that_cannot_be_written_fails() -> None:
    """Not even by root, as those of /sys."""
    folder = Path("/sys/kernel")
    if not folder.is_dir():
        lacking("there is no /sys")

    told = look(folder / "outbox.db")

    outcome, detail, advice = result(told, "disk")
    assert outcome == "failed"
    assert detail.startswith(f"the outbox {folder / 'outbox.db'} cannot be written (")
    assert advice == "let the relay's user write the file and its folder"


def test_a_name_that_leads_nowhere_fails(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / "loop" / "outbox.db"

    told = look(path)

    outcome, detail, advice = result(told, "file")
    assert outcome == "failed"
    assert detail.startswith(f"the outbox {path} cannot be opened (Too many levels of symbolic links)")
    assert advice.startswith("check outbox.url")


def test_memory_is_a_warning_that_says_what_is_lost(tmp_path: Path) -> None:
    told = look(tmp_path, url="memory://")

    assert list(told.probes) == ["outbox.file"]
    outcome, detail, advice = result(told, "file")
    assert outcome == "warning"
    assert detail.startswith("memory:// ends with the process")
    assert advice.startswith("name a file in outbox.url")


def test_less_free_space_than_the_outbox_may_take_is_a_warning(tmp_path: Path) -> None:
    told = look(tmp_path / "outbox.db", max_bytes="99999999GiB")

    outcome, detail, advice = result(told, "space")
    assert outcome == "warning"
    assert detail.endswith("the outbox may need 102,399,998,984 MiB more")
    assert advice == "lower outbox.max_bytes, or give it a larger disk"


def test_a_slow_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "SLOW_ABOVE", 0.0)

    told = look(tmp_path / "outbox.db")

    assert told["outbox.disk"]["result"] == "warning"
    assert "a faster disk" in told["outbox.disk"]["advice"]


def test_the_file_system_is_found() -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir():
        lacking("there is no /dev/shm")

    told = look(memory / "outbox.db")

    assert result(told, "file_system")[:2] == ("warning", "tmpfs is memory, gone with the machine")


@pytest.mark.parametrize("kind", sorted(OVER_THE_NETWORK))
def test_a_file_system_over_the_network_is_a_warning(kind: str) -> None:
    found = judge("outbox.file_system", kind, ephemeral=True)

    assert (found.result, found.advice) == ("warning", "put the outbox on a disk of this machine")


@pytest.mark.parametrize("kind", sorted(FLEETING))
def test_a_fleeting_file_system_is_a_warning_unless_the_outbox_is_said_to_be(kind: str) -> None:
    assert judge("outbox.file_system", kind, ephemeral=False).result == "warning"
    assert judge("outbox.file_system", kind, ephemeral=True).result == "ok"


@pytest.mark.parametrize("kind", ["ext4", "xfs", ""])
def test_any_other_file_system_is_fine(kind: str) -> None:
    assert judge("outbox.file_system", kind, ephemeral=False).result == "ok"
