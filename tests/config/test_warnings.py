"""What may be meant, but is to be known."""

import pytest

from tests.config.conftest import ENVIRONMENT, Yaml


def test_the_built_in_integration_is_always_reminded_of(yaml: Yaml) -> None:
    """No file can show it, so it is no warning: a check that --strict lets nobody pass would be none."""
    findings = yaml.examine(ENVIRONMENT)

    assert findings.reminder.startswith("Flagsmith's own Heap integration must be off for these environments")
    assert findings.warnings == ()


def test_without_environments_there_is_nothing_to_remind_of(yaml: Yaml) -> None:
    assert yaml.examine("log: {}\n").reminder == ""


def test_no_environment_means_nothing_is_captured(yaml: Yaml) -> None:
    (warning,) = yaml.warnings("log: {}\n")

    assert warning == "1 environments: is empty, so all is forwarded and nothing captured; add one"


@pytest.mark.parametrize("key", ["ser.abcdefgh", '"${NAME:-ser.abcdefgh}"'])
def test_a_server_side_key_in_the_file_is_a_secret_in_plain_text(yaml: Yaml, key: str) -> None:
    (warning,) = yaml.warnings(ENVIRONMENT.replace("[client-key]", f"[client-key, {key}]"))

    assert warning.startswith("3 environments[0].keys[1]: is a server-side key, a secret, in plain text; write ${NAME}")


def test_a_server_side_key_by_reference_is_none(yaml: Yaml) -> None:
    assert len(yaml.warnings(ENVIRONMENT.replace("client-key", '"${FLAGSMITH_SERVER_KEY}"'))) == 0


def test_callers_bring_api_v1_themselves(yaml: Yaml) -> None:
    (warning,) = yaml.warnings(f"{ENVIRONMENT}upstream:\n  url: https://host/api/v1/\n")

    assert warning == "6 upstream.url: ends in /api/v1, which callers' paths bring already; delete it there"
