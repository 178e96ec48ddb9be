"""What the other parts get: environments by key, lanes with shares, a picture without secrets."""

import hashlib

from relay.config import Config
from relay.model import Environment, Lane
from tests.config.conftest import Yaml

THREE = """\
outbox: {url: "memory://"}
environments:
  - name: production
    keys: [client, ser.secret-key]
    heap: {app_id: "1", region: us, share: 0.4}
  - name: beta
    keys: ["${BETA}"]
    event: Flags
    heap: {app_id: "1", region: us, share: 0.4}
  - name: europe
    keys: [eu]
    heap: {app_id: "1", region: eu}
"""
US, EU = Lane("https://heapanalytics.com", "1"), Lane("https://c.eu.heap-api.com", "1")


def named(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def test_every_key_leads_to_its_environment(yaml: Yaml) -> None:
    production = Environment("production", US, "Flagsmith Feature Flags")

    assert yaml.config(THREE, {"BETA": "beta-key"}).by_key() == {
        "client": production,
        "ser.secret-key": production,
        "beta-key": Environment("beta", US, "Flags"),
        "eu": Environment("europe", EU, "Flagsmith Feature Flags"),
    }


def test_environments_of_one_app_share_its_lane(yaml: Yaml) -> None:
    assert yaml.config(THREE, {"BETA": "b"}).lanes() == {US: 0.4, EU: 0.8}


def test_the_masked_result_names_keys_as_the_log_does(yaml: Yaml) -> None:
    """The first 8 hex digits of the SHA-256, by which the log names a key it does not know."""
    masked = yaml.config(THREE, {"BETA": "beta-key"}).masked()

    assert masked["environments"][0]["keys"] == [f"sha256:{named('client')}", f"sha256:{named('ser.secret-key')}"]
    assert masked["environments"][0]["heap"]["app_id"] == "1"
    assert "secret-key" not in str(masked)
    assert "beta-key" not in str(masked)


def test_the_masked_result_has_its_units_again(yaml: Yaml) -> None:
    masked = yaml.config(THREE, {"BETA": "b"}).masked()

    assert masked["listen"]["idle_timeout"] == "75s"
    assert masked["outbox"]["commit_timeout"] == "250ms"
    assert masked["outbox"]["max_bytes"] == "512MiB"
    assert masked["shutdown"]["grace"] == "5s"
    assert masked["reload"] == "5s"


def test_no_secret_is_in_a_repr(yaml: Yaml) -> None:
    """What a traceback or a debugger shows of a config."""
    assert "secret-key" not in repr(yaml.config(THREE, {"BETA": "b"}))


def test_a_config_can_be_made_in_code_as_well() -> None:
    environment = {"name": "a", "keys": ["k"], "heap": {"app_id": "1", "region": "us"}}
    config = Config.model_validate({"shutdown": {"grace": 0, "drain": 0.5}, "environments": [environment]})

    assert config.shutdown.drain == 0.5
    assert config.outbox.label == "sqlite:///data/outbox.db"
