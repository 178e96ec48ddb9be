"""relay schema: what an editor needs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from relay.cli import main

SCHEMA = json.loads(CliRunner().invoke(main, ["schema"]).stdout)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EXAMPLE = Path("config.example.yaml").read_text()


def errors(text: str) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(yaml.safe_load(text))]


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from schema.get("properties", {}).items()
    for section in schema.get("$defs", {}).values():
        yield from properties(section)


def test_it_is_a_schema_of_draft_2020_12() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_key_has_a_description() -> None:
    sections = {f"#/$defs/{name}": schema for name, schema in SCHEMA["$defs"].items()}
    described = [
        {**sections.get(schema.get("$ref", ""), {}), **schema, "name": name} for name, schema in properties(SCHEMA)
    ]

    assert [schema["name"] for schema in described if not schema.get("description")] == []


def test_defaults_are_shown_as_they_are_written() -> None:
    defaults = {name: schema.get("default") for name, schema in properties(SCHEMA)}

    assert defaults["max_answer"] == "4MiB"
    assert defaults["connect_timeout"] == "2s"
    assert defaults["heartbeat"] == "24h"
    assert defaults["reload"] == "5s"


def test_the_example_is_valid() -> None:
    assert errors(EXAMPLE) == []


@pytest.mark.parametrize(
    ("written", "mistaken"),
    [
        ("port: 18080", "port: 70000"),
        ("port: 18080", "prot: 18080"),
        ("idle_timeout: 75s", "idle_timeout: 75"),
        ("connect_timeout: 2s", "connect_timeout: 0"),
        ("max_header_bytes: 64KiB", "max_header_bytes: 64k"),
        ("level: info", "level: loud"),
        ('"${HEAP_APP_ID}"', "1234567890"),
        ("region: us", "region: uk"),
        ("share: 0.8", "share: 0.95"),
        ("trust_env: false", "trust_env: maybe"),
        ("url: sqlite:///data/outbox.db", "url: postgres://x"),
        ("url: https://edge", "url: ftp://edge"),
        ("reload: 5s", "reload: sometimes"),
        ('keys: ["${FLAGSMITH_CLIENT_KEY}", "${FLAGSMITH_SERVER_KEY}"]', "keys: []"),
        ("- name: production", "- nom: production"),
    ],
)
def test_an_editor_sees_the_mistake(written: str, mistaken: str) -> None:
    assert written in EXAMPLE
    assert errors(EXAMPLE.replace(written, mistaken, 1))


@pytest.mark.parametrize(
    ("written", "reference"),
    [
        ("port: 18080", 'port: "${PORT}"'),
        ("idle_timeout: 75s", 'idle_timeout: "${TIME:-75s}"'),
        ("max_header_bytes: 64KiB", 'max_header_bytes: "${file:size}"'),
        ("level: info", 'level: "${LEVEL}"'),
        ("trust_env: false", 'trust_env: "${PROXY}"'),
        ("share: 0.8", 'share: "${SHARE}"'),
        ("url: https://edge.api.flagsmith.com", 'url: "${URL}"'),
        ("url: https://edge.api.flagsmith.com", 'url: "https://${HOST}"'),
        ("ca_file: null", 'ca_file: "${CA}"'),
        ("max_in_flight: 1000", 'max_in_flight: "${MANY}"'),
    ],
)
def test_a_reference_fits_every_setting(written: str, reference: str) -> None:
    assert written in EXAMPLE
    assert errors(EXAMPLE.replace(written, reference, 1)) == []


def test_what_defaults_give_may_be_missing_from_an_environment() -> None:
    text = 'defaults: {heap: {app_id: "1", region: us}}\nenvironments: [{name: a, keys: [k]}]\n'

    assert errors(text) == []
