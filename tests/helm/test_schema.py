"""What the schema of the values refuses."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from helm_python.errors import HelmValuesError
from jsonschema import Draft202012Validator

from relay.config.schema import json_schema
from tests.helm.conftest import CHART, NEWEST, check, render

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = (CHART / "values.yaml").read_text()
# What is null by default, or may be: then there is none of it.
OPTIONAL = {"labels", "resources", "topologySpreadConstraints"}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replicacount": 3}, "replicacount"),
        ({"config": {"listen": {"prot": 1}}}, "prot"),
        ({"config": {"outbox": {"max_bytes": 5}}}, "max_bytes"),
        ({"mode": "daemon"}, "mode"),
        ({"image": {"repository": "registry.example.com/relay:1.0"}}, "repository"),
        ({"image": {"tag": "1.0 beta"}}, "tag"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"fullnameOverride": "My_Relay"}, "fullnameOverride"),
        ({"ingress": {"hosts": ["https://flags.example.com/"]}}, "hosts"),
        ({"outbox": {"persistence": {"accessModes": []}}}, "accessModes"),
        ({"resources": {"limits": {"memory": None}}}, "memory"),
    ],
)
def test_a_typo_is_refused_before_anything_is_deployed(values: dict[str, Any], told: str) -> None:
    with pytest.raises(HelmValuesError, match=told):
        render(**values)


@pytest.mark.parametrize("repository", ["relay", "localhost/relay", "registry:5000/team/relay"])
def test_an_image_may_be_of_any_registry(repository: str) -> None:
    assert render(image={"repository": repository})


def content(values: dict[str, Any], *above: str) -> Iterator[tuple[str, ...]]:
    """The path of everything in *values* that is there and not optional."""
    for key, value in values.items():
        if key not in OPTIONAL and value not in (None, "", [], {}):
            yield (*above, key)
            yield from content(value, *above, key) if isinstance(value, dict) else ()


@pytest.mark.parametrize("path", [*content(yaml.safe_load(VALUES))], ids=".".join)
def test_a_default_cannot_be_taken_away(path: tuple[str, ...]) -> None:
    """To Helm null means that there is no such value. Without callers a policy would let everybody in."""
    values = yaml.safe_load(VALUES)
    *above, key = path
    del functools.reduce(dict.__getitem__, above, values)[key]

    [error] = Draft202012Validator(SCHEMA).iter_errors(values)

    assert error.message == f"{key!r} is a required property"


def test_what_may_be_null_is_not_there() -> None:
    lists = (
        "imagePullSecrets",
        "extraEnv",
        "topologySpreadConstraints",
        "tolerations",
        "extraVolumes",
        "extraVolumeMounts",
    )
    maps = ("podAnnotations", "podLabels", "nodeSelector", "affinity", "resources")
    names = ("priorityClassName", "nameOverride", "fullnameOverride")
    ports = {name: {"ports": None} for name in ("flagsmith", "heap")}

    made = render(
        **dict.fromkeys((*lists, *maps, *names)),
        image={"tag": None, "digest": None},
        networkPolicy={"enabled": True, **ports},
        outbox={"persistence": {"enabled": True, "storageClass": None}},
        metrics={name: {"enabled": True, "labels": None} for name in ("serviceMonitor", "rules", "dashboard")},
        serviceAccount={"name": None, "annotations": None},
    )

    for manifest in made:
        check(manifest, NEWEST)


def test_config_is_checked_by_the_relays_own_schema() -> None:
    """`make chart-schema` writes it there."""
    relay = json_schema()

    assert SCHEMA["properties"]["config"] == {"$ref": "#/$defs/config"}
    assert {name: value for name, value in SCHEMA["$defs"].items() if name != "config"} == relay["$defs"]
    assert SCHEMA["$defs"]["config"] == {key: relay[key] for key in SCHEMA["$defs"]["config"]}
