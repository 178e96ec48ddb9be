"""The chart, rendered by Helm's own engine."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from helm_python import Chart

HELM = Path(__file__).parent.parent.parent / "helm"
CHART = HELM / "flagsmith-heap-relay"

NEWEST = kubernetes_validate.latest_version()
# For custom resources, whose schemas no cluster ships: what their operators' reference pages require of the parts used.
CUSTOM = {path.stem: json.loads(path.read_text()) for path in Path(__file__).parent.glob("schemas/*.json")}

Manifest = dict[str, Any]
ENVIRONMENTS = [{"name": "production", "keys": ["${KEY}"], "heap": {"app_id": "${HEAP_APP_ID}", "region": "us"}}]
# What an operator has to say at least.
LEAST: dict[str, Any] = {
    "image": {"repository": "registry.example.com/relay"},
    "config": {"environments": ENVIRONMENTS},
    "expectedPods": 12,
}


def over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """*changes* over *base*, key by key and nested."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = over(merged[key], value) if both else value
    return merged


class Strict(yaml.CSafeLoader):
    """YAML as a cluster takes it: PyYAML would let the last of two equal keys win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"repeated keys: {keys}"
        return super().construct_mapping(node, deep)


def manifests(chart: Path, values: dict[str, Any], release: str = "demo") -> list[Manifest]:
    """Everything the chart at *chart* makes of *values*."""
    with Chart.load(chart) as loaded:
        rendered = loaded.render(values=values, name=release, namespace="shop")
    texts = [text for name, text in sorted(rendered.items()) if not name.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.load_all(text, Strict) if document]


def render(**changes: Any) -> list[Manifest]:
    """What the chart makes of the least values and *changes*."""
    return manifests(CHART, over(LEAST, changes))


def notes(**changes: Any) -> str:
    with Chart.load(CHART) as loaded:
        rendered = loaded.render(values=over(LEAST, changes), name="demo", namespace="shop")
    return rendered["flagsmith-heap-relay/templates/NOTES.txt"]


def check(manifest: Manifest, version: str) -> None:
    """Raises where a cluster of *version* would refuse the manifest."""
    if manifest["kind"] in CUSTOM:
        jsonschema.validate(manifest, CUSTOM[manifest["kind"]])
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def one(made: list[Manifest], kind: str, name: str = "demo-flagsmith-heap-relay") -> Manifest:
    """The manifest of that kind and name, which must be there."""
    [found] = [each for each in made if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pod(made: list[Manifest]) -> Manifest:
    """The only pod template's spec."""
    [found] = [each for each in made if each["kind"] in {"Deployment", "StatefulSet"}]
    spec: Manifest = found["spec"]["template"]["spec"]
    return spec


def relay_container(spec: Manifest) -> Manifest:
    """The relay's container of a pod, wherever it stands."""
    everywhere = [*(spec.get("initContainers") or []), *spec["containers"]]
    found: Manifest
    [found] = [each for each in everywhere if each["name"] == "flagsmith-heap-relay"]
    return found


def relay_config(made: list[Manifest]) -> dict[str, Any]:
    """The YAML that the relay gets."""
    loaded: dict[str, Any] = yaml.safe_load(one(made, "ConfigMap")["data"]["config.yaml"])
    return loaded


def metadata(made: list[Manifest]) -> dict[str, dict[str, str]]:
    """The pods' labels and annotations."""
    [workload] = [each for each in made if each["kind"] in {"Deployment", "StatefulSet"}]
    found: dict[str, dict[str, str]] = workload["spec"]["template"]["metadata"]
    return found


@pytest.fixture(scope="session")
def render_app(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Manifest]]:
    """What the example of an app's chart makes, with the relay's among its dependencies; *changes* are the relay's."""
    app = tmp_path_factory.mktemp("helm") / "example-app"
    shutil.copytree(HELM / "example-app", app)
    shutil.copytree(CHART, app / "charts" / CHART.name)

    def render(**changes: Any) -> list[Manifest]:
        return manifests(app, {"flagsmith-heap-relay": changes})

    return render
