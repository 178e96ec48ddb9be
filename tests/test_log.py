"""Log lines say what happened, and never to whom."""

import asyncio
import gc
import json
import logging
from typing import Any

import pytest
import structlog

from relay import log


def crash(identity: str) -> None:
    raise ValueError(f"cannot read {identity}")


def test_a_line_is_one_json_object_with_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", console=False)

    structlog.get_logger("relay").info("batch.delivered", events=3)

    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["events"], line["level"]) == ("batch.delivered", 3, "info")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("name", ["identity", "Identifier", "key", "app_id", "token", "body", "properties"])
def test_what_names_a_person_or_opens_a_door_is_redacted(capsys: pytest.CaptureFixture[str], name: str) -> None:
    log.configure("info", console=False)

    structlog.get_logger("relay").info("call.made", **{name: "ada"})

    assert "ada" not in capsys.readouterr().err


@pytest.mark.parametrize("fact", [{"Key": "ada"}, [{"identity": "ada"}], ({"a": [{"b": {"token": ["ada"]}}]},)])
def test_what_is_private_is_redacted_however_deep_it_is(capsys: pytest.CaptureFixture[str], fact: Any) -> None:
    log.configure("info", console=False)

    structlog.get_logger("relay").info("call.made", fact=fact, other={"reasons": ["kept"]})

    line = json.loads(capsys.readouterr().err)
    assert "ada" not in str(line["fact"])
    assert line["other"] == {"reasons": ["kept"]}


@pytest.mark.parametrize("console", [False, True])
def test_a_traceback_shows_places_and_neither_texts_nor_variables(
    capsys: pytest.CaptureFixture[str], console: bool
) -> None:
    log.configure("info", console=console)

    try:
        crash("ada")
    except ValueError:
        structlog.get_logger("relay").exception("task.crashed", task="capture")
        logging.getLogger("some.library").exception("failed")

    said = capsys.readouterr().err
    assert said.count("ValueError at test_log.py:") == 2
    assert "ada" not in said


@pytest.mark.parametrize("console", [False, True])
async def test_a_task_that_nobody_asked_shows_places_and_no_texts(
    capsys: pytest.CaptureFixture[str], console: bool
) -> None:
    """asyncio's own words have the task in them, and with it the text of its exception."""
    log.configure("info", console=console)

    async def work() -> None:
        crash("ada")

    task = asyncio.create_task(work())
    await asyncio.wait({task})
    del task
    gc.collect()

    said = capsys.readouterr().err
    assert "Task exception was never retrieved" in said
    assert "ValueError at test_log.py:" in said
    assert "ada" not in said


async def test_a_callback_that_crashed_does_not_show_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", console=False)

    asyncio.get_running_loop().call_soon(crash, "ada")
    await asyncio.sleep(0)

    line = json.loads(capsys.readouterr().err)
    assert line["event"].startswith("Exception in callback crash")  # from Python 3.12 on, also where it is
    assert line["exception"].startswith("ValueError at test_log.py:")
    assert "ada" not in str(line)


def test_levels_below_the_configured_one_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("warning", console=False)

    structlog.get_logger("relay").info("batch.delivered")

    assert capsys.readouterr().err == ""
