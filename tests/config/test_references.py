"""References to variables and files: replaced once, typed by their setting, never shown."""

from pathlib import Path

import pytest

from tests.config.conftest import ENVIRONMENT, Yaml


def test_the_text_of_a_reference_takes_the_setting_s_type(yaml: Yaml) -> None:
    environ = {"PORT": "8080", "ON": "true", "SIZE": "1MiB", "TIME": "250ms", "LEVEL": "debug", "SHARE": "0.5"}
    config = yaml.config(
        """\
        listen: {port: "${PORT}", max_header_bytes: "${SIZE}"}
        log: {level: "${LEVEL}"}
        upstream:
          trust_env: ${ON}
          connect_timeout: ${TIME}
        outbox: {dead_letters: {max_share: "${SHARE}"}}
        """,
        environ,
    )

    assert config.listen.port == 8080
    assert config.listen.max_header_bytes == 2**20
    assert config.log.level == "debug"
    assert config.upstream.trust_env is True
    assert config.upstream.connect_timeout == 0.25
    assert config.outbox.dead_letters.max_share == 0.5


def test_digits_from_a_reference_are_text_where_text_belongs(yaml: Yaml) -> None:
    config = yaml.config(ENVIRONMENT.replace('"1234567890"', '"${ID}"'), {"ID": "42"})

    assert config.environments[0].heap.app_id == "42"


def test_a_reference_may_be_a_part_of_a_value(yaml: Yaml) -> None:
    config = yaml.config("upstream: {url: 'https://${HOST}/${BASE:-flagsmith}'}\n", {"HOST": "example.com"})

    assert config.upstream.url == "https://example.com/flagsmith"


@pytest.mark.parametrize(("environ", "event"), [({}, "Seen"), ({"E": ""}, "Seen"), ({"E": "Mine"}, "Mine")])
def test_a_default_stands_in_for_what_is_unset_or_empty(yaml: Yaml, environ: dict[str, str], event: str) -> None:
    config = yaml.config(f"{ENVIRONMENT}    event: ${{E:-Seen}}\n", environ)

    assert config.environments[0].event == event


def test_a_doubled_dollar_is_a_literal(yaml: Yaml) -> None:
    config = yaml.config(f"{ENVIRONMENT}    event: $${{NAME}} $$ $x\n", {})

    assert config.environments[0].event == "${NAME} $$ $x"


def test_references_are_replaced_once(yaml: Yaml) -> None:
    config = yaml.config(f"{ENVIRONMENT}    event: ${{A}}\n", {"A": "${B}", "B": "no"})

    assert config.environments[0].event == "${B}"


def test_keys_are_never_replaced(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes('"${A}": {}\n', {"A": "log"})

    assert "is no setting here" in mistake


def test_an_unset_variable_is_named(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes("listen:\n  port: ${PORT}\n", {})

    assert mistake == (
        "relay.yaml:2: listen.port: the environment variable PORT is not set; "
        "set it for the relay, or write ${PORT:-default}"
    )


def test_a_file_is_relative_to_the_yaml_and_loses_its_final_newline(yaml: Yaml, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("ser.from-a-file\n")

    config = yaml.config(ENVIRONMENT.replace("client-key", '"${file:secrets/key}"'))

    assert list(config.by_key()) == ["ser.from-a-file"]


def test_a_file_may_be_absolute(yaml: Yaml, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("77\r\n")

    config = yaml.config(ENVIRONMENT.replace('"1234567890"', f'"${{file:{tmp_path}/id}}"'))

    assert config.environments[0].heap.app_id == "77"


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"x" * 70_000, "is larger than 64 KiB"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(yaml: Yaml, tmp_path: Path, content: bytes | None, advice: str) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)

    (mistake,) = yaml.mistakes(ENVIRONMENT.replace("client-key", '"${file:key}"'))

    assert f"relay.yaml:3: environments[0].keys[0]: the file key {advice}" in mistake


@pytest.mark.parametrize("name", ["/dev/zero", "."])
def test_a_device_or_a_folder_is_no_file(yaml: Yaml, name: str) -> None:
    (mistake,) = yaml.mistakes(f"log: {{level: '${{file:{name}}}'}}\n")

    assert f"{name} is not a file; name the file that holds the value instead" in mistake


@pytest.mark.parametrize("text", ["${", "${A", "${}", "${A-b}", "${1A}", "${file:}", "a ${ b }"])
def test_an_unfinished_reference_is_a_mistake(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(f"log: {{level: '{text}'}}\n", {"A": "x"})

    assert "has an unfinished reference; write ${NAME}" in mistake


def test_a_variable_that_is_not_utf_8_is_a_mistake(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes("log: {level: '${A}'}\n", {"A": "\udcff"})

    assert "${A} is not UTF-8" in mistake


@pytest.mark.parametrize(
    "text",
    [
        "log: {level: '${S}'}",
        "listen: {port: '${S}', host: '-${S}', idle_timeout: '${S}', max_header_bytes: '${S}'}",
        "upstream: {url: 'ftp://${S}', trust_env: '${S}', ca_file: ['${S}']}",
        "outbox: {url: 'redis://x:${S}@h', spool: 'x${S}'}",
        "environments: '${S}'",
        "environments: [{name: ' ${S}', keys: [' ${S}', '${S}', '${S}'], heap: {app_id: '${S}', region: '${S}'}}]",
        "environments: [{name: a, keys: '${S}', heap: '${S}'}, {name: '${S}'}, {name: '${S}'}]",
        "defaults: {identity: {key: '${S}', mode: '${S}'}, event: \"${S}\\n\"}",
        "log: {level: '${NOT_SET:-Tr0ub4dor}'}",
        "environments: [{name: a, keys: [' Tr0ub4dor '], heap: {app_id: '1', region: us}}]",
        "outbox: {url: 'redis://user:Tr0ub4dor@host:x'}",
        "upstream: {url: 'https://user:Tr0ub4dor@host'}",
        "upstream: {url: 'https://host?token=Tr0ub4dor'}",
        "upstream: {url: 'https://host/#Tr0ub4dor'}",
        "upstream: {url: Tr0ub4dor}",
        "environments: [{name: a, keys: [k], heap: {app_id: '1', url: 'http://h/?Tr0ub4dor'}}]",
        "environments: [{name: a, keys: [k], heap: {app_id: Tr0ub4dor, region: us}}]",
        'environments: [{name: a, keys: [k], heap: {app_id: "Tr0ub4dor\\n", region: us}}]',
    ],
)
def test_a_secret_is_in_no_mistake(yaml: Yaml, text: str) -> None:
    mistakes = yaml.mistakes(text, {"S": "Tr0ub4dor"})

    assert mistakes
    assert "Tr0ub4dor" not in "\n".join(mistakes)


@pytest.mark.parametrize(
    "text",
    [
        "log: {level: ser.abcdefgh}",
        "ser.abcdefgh: 1",
        "listen: {ser.abcdefgh: 1, ser.abcdefgh: 2}",
        "environments: [{name: a, keys: {ser.abcdefgh: 1}}]",
        "environments: [{name: a, keys: [ser.abcdefgh, ser.abcdefgh]}]",
    ],
)
def test_a_server_side_key_is_in_no_mistake_wherever_it_stands(yaml: Yaml, text: str) -> None:
    mistakes = yaml.mistakes(text)

    assert mistakes
    assert "abcdefgh" not in "\n".join(mistakes)
