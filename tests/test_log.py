"""Log lines say what happened, and never to whom."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from relay import log


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


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


def test_levels_below_the_configured_one_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("warning", console=False)

    structlog.get_logger("relay").info("batch.delivered")

    assert capsys.readouterr().err == ""
