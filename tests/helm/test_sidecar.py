"""The relay in the pods of another chart."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from helm_python.errors import HelmRenderError

from tests.helm.conftest import (
    CHART,
    ENVIRONMENTS,
    LEAST,
    Manifest,
    metadata,
    one,
    over,
    pod,
    relay_config,
    relay_container,
    render,
)


def test_a_native_sidecar_comes_first_and_never_ends(render_app: Callable[..., list[Manifest]]) -> None:
    spec = pod(render_app())

    assert [each["name"] for each in spec["initContainers"]] == ["flagsmith-heap-relay"]
    assert spec["initContainers"][0]["restartPolicy"] == "Always"
    assert [each["name"] for each in spec["containers"]] == ["app"]


def test_a_classic_sidecar_stands_beside_the_app(render_app: Callable[..., list[Manifest]]) -> None:
    spec = pod(render_app(sidecar={"native": False}))

    assert not spec["initContainers"]
    assert [each["name"] for each in spec["containers"]] == ["app", "flagsmith-heap-relay"]
    assert "restartPolicy" not in spec["containers"][1]


def test_a_sidecar_serves_the_pod_alone_and_is_probed_from_outside(render_app: Callable[..., list[Manifest]]) -> None:
    """The kubelet cannot reach a loopback address."""
    made = render_app()
    settings = relay_config(made)

    assert settings["listen"]["host"] == "127.0.0.1"
    assert settings["admin"]["host"] == "0.0.0.0"
    probes = {
        key: value["httpGet"]["port"] for key, value in relay_container(pod(made)).items() if key.endswith("Probe")
    }
    assert probes == dict.fromkeys(("startupProbe", "readinessProbe", "livenessProbe"), "relay-admin")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"outbox": {"persistence": {"enabled": True}}, "podLabels": {"a": "b"}}, "outbox.persistence, podLabels"),
        ({"metrics": {"serviceMonitor": {"enabled": True}}}, r"metrics\.serviceMonitor"),
        *(({name: {"enabled": True}}, name) for name in ("autoscaling", "ingress", "networkPolicy")),
        *(({name: {"a": "b"}}, name) for name in ("affinity", "nodeSelector", "podAnnotations", "podLabels")),
        *(({name: [{"name": "a"}]}, name) for name in ("imagePullSecrets", "tolerations")),
        ({"podDisruptionBudget": {"enabled": False}}, "podDisruptionBudget"),
        ({"priorityClassName": "high"}, "priorityClassName"),
        ({"replicaCount": 3}, "replicaCount"),
        ({"rollout": {"maxSurge": "25%"}}, "rollout"),
        ({"service": {"port": 8080}}, "service"),
        ({"serviceAccount": {"name": "app"}}, "serviceAccount"),
        ({"topologySpreadConstraints": None}, "topologySpreadConstraints"),
    ],
)
def test_what_a_sidecar_has_no_use_for_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(HelmRenderError, match=rf"no use for: {told};"):
        render(mode="sidecar", **values)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"metrics": {"podMonitor": {"enabled": True}}}, "metrics.podMonitor"),
        ({"sidecar": {"native": False}}, "sidecar.native"),
    ],
)
def test_what_a_service_has_no_use_for_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(HelmRenderError, match=rf"no use for: {told};"):
        render(**values)


def test_values_that_say_the_defaults_are_no_mistake() -> None:
    """A file with all of them may be where an operator starts from."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert render(**over(values, {**LEAST, "mode": "sidecar"}))


def test_a_pod_monitor_finds_the_port_of_the_sidecars(render_app: Callable[..., list[Manifest]]) -> None:
    made = render_app(metrics={"podMonitor": {"enabled": True, "matchLabels": {"app": "shop"}}})
    spec = one(made, "PodMonitor")["spec"]

    [endpoint] = spec["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in relay_container(pod(made))["ports"]]
    assert spec["selector"]["matchLabels"] == {"app": "shop"}


def test_the_app_learns_where_its_flags_are(render_app: Callable[..., list[Manifest]]) -> None:
    made = pod(render_app(config={"listen": {"port": 7070}, "environments": ENVIRONMENTS}))

    assert made["containers"][0]["env"] == [{"name": "FLAGSMITH_API_URL", "value": "http://127.0.0.1:7070/api/v1/"}]


def test_a_changed_configuration_restarts_the_service_and_never_the_app(
    render_app: Callable[..., list[Manifest]],
) -> None:
    before, after = render(), render(config={"log": {"level": "debug"}})

    assert metadata(before)["annotations"] != metadata(after)["annotations"]
    [app] = [each for each in render_app() if each["kind"] == "Deployment"]
    assert "annotations" not in app["spec"]["template"]["metadata"]
