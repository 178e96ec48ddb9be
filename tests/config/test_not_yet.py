"""Settings of a later version: their default passes, all else is refused, nothing is ignored."""

import pytest

from relay.config.models import OutboxConfig
from relay.config.section import NOT_YET, Section, in_yaml
from tests.config.conftest import Yaml

OTHERS = {
    "OutboxConfig": {"spool": "sqlite:///spool.db"},
}
PLACES: dict[str, tuple[str, type[Section]]] = {
    "OutboxConfig": ("outbox", OutboxConfig),
}
CASES = [(section, name, value) for section, names in OTHERS.items() for name, value in names.items()]


def text(section: str, name: str, value: str) -> str:
    place, _ = PLACES[section]
    return f"{place}: {{{name}: {value}}}\n"


def test_every_one_of_them_is_tried_here() -> None:
    assert {section: set(names) for section, names in OTHERS.items()} == NOT_YET


@pytest.mark.parametrize(("section", "name", "value"), CASES)
def test_another_value_than_the_default_is_refused_with_the_line_to_write(
    yaml: Yaml, section: str, name: str, value: str
) -> None:
    (mistake,) = yaml.mistakes(text(section, name, value))

    assert "is not yet possible in this version; write " in mistake
    line = mistake.rpartition("; write ")[2]
    assert yaml.mistakes(text(section, name, line.partition(": ")[2])) == []


@pytest.mark.parametrize(("section", "name"), [(section, name) for section, name, _ in CASES])
def test_the_default_passes(yaml: Yaml, section: str, name: str) -> None:
    default = in_yaml(PLACES[section][1].default_shown(name))

    assert yaml.mistakes(text(section, name, default)) == []
