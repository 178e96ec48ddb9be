"""config.example.yaml and docs/configuration.md say what the code does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.config.mistakes import section_of
from relay.config.schema import Written
from relay.config.section import Section, in_yaml
from tests.config.conftest import Yaml

EXAMPLE = Path("config.example.yaml").read_text()
DOCS = Path("docs/configuration.md").read_text()
README = Path("README.md").read_text()
# What has no default, or stands for others.
REQUIRED = {f"environments[].{key}" for key in ("name", "keys", "heap.app_id", "heap.region")}


def settings(model: type[Section] = Written, path: str = "") -> Iterator[tuple[str, str]]:
    """Every key of the YAML with its default as written; those of `defaults` are the environments'."""
    for name, field in model.model_fields.items():
        place = f"{path}{name}"
        if place == "environments":
            yield from settings(section_of(field) or Section, "environments[].")
        elif inner := section_of(field):
            yield from () if place == "defaults" else settings(inner, f"{place}.")
        else:
            yield place, "required" if place in REQUIRED else in_yaml(model.default_shown(name))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The same of a masked config."""
    match value:
        case dict() if value:
            for key, each in value.items():
                yield from leaves(each, f"{path}.{key}" if path else key)
        case [dict() as first]:
            yield from leaves(first, f"{path}[]")
        case _:
            yield path, in_yaml(value)


def keys_of(text: str) -> list[str]:
    return re.findall(r"^[ -]*(?:# )?([a-z_]+):", text, re.MULTILINE)


def test_the_example_loads_with_every_key_at_its_default(yaml: Yaml) -> None:
    shown = dict(leaves(yaml.config(EXAMPLE).masked()))
    expected = {key: default for key, default in settings() if default != "required"}
    expected["outbox.url"] = in_yaml(f"sqlite:///{yaml.path.parent}/data/outbox.db")

    assert {key: shown[key] for key in expected} == expected


def test_the_example_has_every_key() -> None:
    names = {part.removesuffix("[]") for key, _ in settings() for part in key.split(".")}

    assert names | {"defaults"} == set(keys_of(EXAMPLE))


def test_every_line_of_the_example_has_one_comment() -> None:
    lines = [line for line in EXAMPLE.splitlines() if line and not line.lstrip().startswith("# ")]

    assert [line for line in lines if " # " not in line] == []


def test_the_docs_tables_have_every_key_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([\w.\[\]]+)` \| (.+?) \|", DOCS, re.MULTILINE))

    assert {key: default.strip("`") for key, default in rows.items()} == {
        key: default.strip('"') for key, default in settings()
    }


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", DOCS + README, re.DOTALL))
def test_the_examples_of_the_docs_load(yaml: Yaml, block: str) -> None:
    secrets = yaml.path.parent / "secrets"
    secrets.mkdir()
    (secrets / "flagsmith-server-key").write_text("ser.from-a-file\n")

    assert yaml.mistakes(block) == []


def test_the_mistakes_that_the_docs_show_are_told_in_these_words(yaml: Yaml) -> None:
    shown = [line.partition(": ")[2] for line in re.findall(r"^config\.yaml:.*", DOCS, re.MULTILINE)]
    found = yaml.mistakes(
        "listen: {idle_timeout: 75}\nenvironments: [{name: a, keys: [k], heap: {app_id: 1234567890, region: us}}]\n"
    )

    assert [line.partition(": ")[2] for line in found] == shown
