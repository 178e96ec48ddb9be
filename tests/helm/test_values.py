"""What the operator says, and what comes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python.errors import HelmRenderError

from relay.outbox.putting import RESERVE_BYTES
from tests.helm.conftest import (
    CHART,
    ENVIRONMENTS,
    LEAST,
    Manifest,
    manifests,
    metadata,
    notes,
    one,
    pod,
    relay_config,
    relay_container,
    render,
)

DOCS = Path(__file__).parents[2] / "docs"


# Configuration.


def test_the_operators_configuration_stands_over_the_charts() -> None:
    made = relay_config(render(config={"listen": {"port": 8080}, "upstream": {"url": "https://flagsmith.internal"}}))

    assert made["listen"] == {"host": "0.0.0.0", "port": 8080}
    assert made["upstream"] == {"url": "https://flagsmith.internal"}
    assert made["environments"] == ENVIRONMENTS


def test_the_pods_ports_are_those_of_the_configuration() -> None:
    made = render(config={"listen": {"port": 8080}, "admin": {"port": 8081}})

    assert [port["containerPort"] for port in relay_container(pod(made))["ports"]] == [8080, 8081]


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("listen", "port"),
        ("admin", "port"),
        ("shutdown", "grace"),
        ("shutdown", "finish"),
        ("shutdown", "drain"),
        ("capture", "memory"),
        ("outbox", "max_bytes"),
    ],
)
def test_what_the_chart_reckons_with_is_no_reference(section: str, key: str) -> None:
    with pytest.raises(HelmRenderError, match=rf"config\.{section}\.{key} is \$\{{THIS}}, and .* write it out"):
        render(config={section: {key: "${THIS}"}})


@pytest.mark.parametrize("section", ["listen", "admin"])
def test_a_pod_cannot_take_any_free_port(section: str) -> None:
    with pytest.raises(HelmRenderError, match=rf"config\.{section}\.port is 0.*from 1 to 65535"):
        render(config={section: {"port": 0}})


def test_all_that_the_operator_has_to_say_is_asked_for_at_once() -> None:
    asked = (
        r"image\.repository is empty",
        r"config\.environments is empty",
        r"expectedPods is missing: .* all environments",
    )

    with pytest.raises(HelmRenderError, match=r".*\. ".join(asked)):
        manifests(CHART, {})

    assert manifests(CHART, LEAST)


@pytest.mark.parametrize(("left_out", "asked"), [("image", "image.repository"), ("config", "config.environments")])
def test_what_was_said_is_not_asked_for(left_out: str, asked: str) -> None:
    with pytest.raises(HelmRenderError, match=rf"\): {asked} is empty[^;]*;[^;]*$"):
        manifests(CHART, {key: value for key, value in LEAST.items() if key != left_out})


@pytest.mark.parametrize(
    ("values", "ephemeral"),
    [({}, True), ({"outbox": {"persistence": {"enabled": True}}}, False), ({"mode": "sidecar"}, True)],
)
def test_the_relay_knows_whether_its_outbox_dies_with_the_pod(values: dict[str, Any], *, ephemeral: bool) -> None:
    assert relay_config(render(**values))["outbox"]["ephemeral"] is ephemeral


def test_a_persistent_outbox_is_a_claim_of_a_stateful_set() -> None:
    made = render(outbox={"persistence": {"enabled": True, "size": "5Gi"}})
    workload = one(made, "StatefulSet")

    [claim] = workload["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert {"name": claim["metadata"]["name"], "mountPath": "/var/lib/relay"} in relay_container(pod(made))[
        "volumeMounts"
    ]
    assert one(made, "Service", workload["spec"]["serviceName"])["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize(
    ("volume", "name"),
    [
        (lambda size: {"emptyDir": {"sizeLimit": size}}, "outbox.emptyDir.sizeLimit"),
        (lambda size: {"persistence": {"enabled": True, "size": size}}, "outbox.persistence.size"),
    ],
)
def test_a_volume_holds_what_the_relay_may_store_and_its_reserve(
    volume: Callable[[str], dict[str, Any]], name: str
) -> None:
    config = {"outbox": {"max_bytes": "1GiB"}}
    enough = 1024 + RESERVE_BYTES // 2**20

    with pytest.raises(HelmRenderError, match=rf"{name} is {enough - 1}Mi, too small for .* \(1GiB\)"):
        render(config=config, outbox=volume(f"{enough - 1}Mi"))

    assert render(config=config, outbox=volume(f"{enough}Mi"))


@pytest.mark.parametrize(
    ("little", "enough"),
    [("545M", "546M"), ("545259k", "545260k"), ("532479Ki", "532480Ki"), ("0.5Gi", "0.51Gi"), ("0.0004Ti", "0.0005Ti")],
)
def test_sizes_of_volumes_are_read_as_kubernetes_does(little: str, enough: str) -> None:
    """The default of 512 MiB needs 520 MiB: 545,259,520 bytes."""
    with pytest.raises(HelmRenderError, match="too small"):
        render(outbox={"emptyDir": {"sizeLimit": little}})

    assert render(outbox={"emptyDir": {"sizeLimit": enough}})


def test_an_outbox_that_lies_elsewhere_is_not_measured() -> None:
    assert render(config={"outbox": {"url": "memory://"}}, outbox={"emptyDir": {"sizeLimit": "1Mi"}})


@pytest.mark.parametrize("path", ["data/outbox.db", "/data/outbox.db", "/var/lib/relay"])
def test_an_outbox_is_on_a_volume(path: str) -> None:
    """Where it cannot be written flags pass and nothing is captured."""
    with pytest.raises(HelmRenderError, match=rf"config\.outbox\.url is sqlite:///{path}, which is on no volume"):
        render(config={"outbox": {"url": f"sqlite:///{path}"}})


@pytest.mark.parametrize("url", ["sqlite:////data/outbox.db", "${OUTBOX_URL}"])
def test_an_outbox_may_be_on_a_volume_of_the_operators(url: str) -> None:
    mounts = [{"name": "data", "mountPath": "/data/"}]

    assert render(config={"outbox": {"url": url}}, extraVolumeMounts=mounts)


@pytest.mark.parametrize("persistent", [False, True])
def test_an_outbox_in_an_empty_dir_is_not_declared_lasting(*, persistent: bool) -> None:
    values = {"config": {"outbox": {"ephemeral": False}}, "outbox": {"persistence": {"enabled": persistent}}}

    if persistent:
        assert render(**values)
    else:
        with pytest.raises(HelmRenderError, match=r"config\.outbox\.ephemeral is false, but .* emptyDir"):
            render(**values)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
@pytest.mark.parametrize(("mode", "section"), [("service", "listen"), ("service", "admin"), ("sidecar", "admin")])
def test_who_has_to_reach_the_relay_does(mode: str, section: str, host: str) -> None:
    with pytest.raises(HelmRenderError, match=rf"config\.{section}\.host is {host}, which nothing outside"):
        render(mode=mode, config={section: {"host": host}})

    assert render(mode=mode, config={section: {"host": "::"}})


# Names and labels.


def test_labels_and_annotations_join_the_charts_which_stand() -> None:
    """The selectors need the chart's labels, and the checksum what restarts the pods."""
    ours = {"app.kubernetes.io/name": "flagsmith-heap-relay", "app.kubernetes.io/instance": "demo"}
    given = {"app.kubernetes.io/name": "other", "team": "growth"}
    made = metadata(render(podLabels=given, podAnnotations={"checksum/config": "none", "team": "growth"}))

    assert made["labels"] == {**ours, "team": "growth"}
    assert made["annotations"] == {**metadata(render())["annotations"], "team": "growth"}


@pytest.mark.parametrize(
    ("part", "kind", "name"),
    [
        ("serviceMonitor", "ServiceMonitor", "demo-flagsmith-heap-relay"),
        ("rules", "PrometheusRule", "demo-flagsmith-heap-relay"),
        ("dashboard", "ConfigMap", "demo-flagsmith-heap-relay-dashboard"),
    ],
)
def test_an_operators_labels_join_the_charts_which_stand(part: str, kind: str, name: str) -> None:
    labels = {"app.kubernetes.io/name": "other", "release": "prometheus"}
    made = one(render(metrics={part: {"enabled": True, "labels": labels}}), kind, name)["metadata"]["labels"]

    assert made["app.kubernetes.io/name"] == "flagsmith-heap-relay"
    assert made["release"] == "prometheus"


def test_pods_are_spread_among_their_own_kind_unless_another_is_named() -> None:
    rule = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    other = {"matchLabels": {"app.kubernetes.io/name": "other"}}
    plain, named = pod(render(topologySpreadConstraints=[rule, {**rule, "labelSelector": other}]))[
        "topologySpreadConstraints"
    ]

    assert plain == {**rule, "labelSelector": one(render(), "Deployment")["spec"]["selector"]}
    assert named == {**rule, "labelSelector": other}


def test_a_chart_that_depends_on_it_may_switch_it_on(render_app: Callable[..., list[Manifest]]) -> None:
    """Helm hands the value of a dependency's `condition` on to it, and the schema sees it."""
    assert render_app(enabled=True)


# Size.


def test_a_container_asks_for_little_and_may_hold_its_copies() -> None:
    plain = relay_container(pod(render()))["resources"]
    roomy = relay_container(pod(render(config={"capture": {"memory": "100MiB"}})))["resources"]

    assert plain == {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "160Mi"}}
    assert roomy["limits"] == {"memory": "364Mi"}


def test_resources_may_be_left_to_the_cluster() -> None:
    assert relay_container(pod(render(resources=None)))["resources"] == {"limits": {"memory": "160Mi"}}


def test_limits_that_are_given_are_left_alone() -> None:
    assert relay_container(pod(render(resources={"limits": {"memory": "1Gi"}})))["resources"]["limits"] == {
        "memory": "1Gi"
    }


# Words.


@pytest.mark.parametrize("mode", ["service", "sidecar"])
def test_the_notes_tell_how_to_point_an_sdk_and_see_the_first_event(mode: str) -> None:
    said = notes(mode=mode)

    assert "/api/v1/" in said
    assert "port-forward" in said
    assert "live data" in said


def test_the_notes_say_https_where_the_ingress_speaks_it() -> None:
    plain = {"enabled": True, "hosts": ["flags.example.com"]}

    assert "http://flags.example.com/api/v1/" in notes(ingress=plain)
    assert "https://flags.example.com/api/v1/" in notes(ingress={**plain, "tls": [{"secretName": "flags-tls"}]})


def test_the_notes_name_the_events_to_look_for() -> None:
    other = {**ENVIRONMENTS[0], "name": "staging", "keys": ["${STAGING}"]}
    config = {"defaults": {"event": "Flags seen"}, "environments": [*ENVIRONMENTS, {**other, "event": "Staging flags"}]}

    assert 'look for "Flagsmith Feature Flags" in' in notes()
    assert 'look for "Flags seen" or "Staging flags" in' in notes(config=config)


def test_the_notes_warn_of_volumes_that_outlive_their_pods() -> None:
    values = {"autoscaling": {"enabled": True}, "outbox": {"persistence": {"enabled": True}}}

    assert "WARNING" in notes(**values)
    assert "WARNING" not in notes()


def test_the_docs_name_the_service_as_the_chart_does() -> None:
    assert one(manifests(CHART, LEAST, release="relay"), "Service", "relay-flagsmith-heap-relay")
    assert "`http://relay-flagsmith-heap-relay.NAMESPACE/api/v1/`" in (DOCS / "kubernetes.md").read_text()


def test_the_docs_ask_the_container_by_its_name_and_for_its_file() -> None:
    container = relay_container(pod(render()))
    asked = f"-c {container['name']} -- relay status -c {container['args'][-1]}\n"

    assert asked in (DOCS / "kubernetes.md").read_text()


def test_the_readme_builds_the_image_that_the_chart_asks_for() -> None:
    repository = "registry.example.com/flagsmith-heap-relay"
    image = relay_container(pod(render(image={"repository": repository})))["image"]

    assert f"docker push {image}\n" in (CHART / "README.md").read_text()


def test_the_readme_of_the_chart_names_every_value() -> None:
    readme = (CHART / "README.md").read_text()

    assert [key for key in yaml.safe_load((CHART / "values.yaml").read_text()) if f"`{key}" not in readme] == []


# Monitoring.


def test_the_charts_rules_and_dashboard_are_those_of_the_docs() -> None:
    made = render(metrics={"rules": {"enabled": True}, "dashboard": {"enabled": True}})

    dashboard = one(made, "ConfigMap", "demo-flagsmith-heap-relay-dashboard")["data"]["flagsmith-heap-relay.json"]
    assert one(made, "PrometheusRule")["spec"] == yaml.safe_load((DOCS / "alerts.yaml").read_text())
    assert json.loads(dashboard) == json.loads((DOCS / "grafana/relay.json").read_text())
