"""What the operator says, and what comes of it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python.errors import HelmRenderError, HelmValuesError

from relay.config.schema import json_schema
from relay.core.budget import APP_EVENTS, IDENTITY_REQUESTS, rate_of, rate_within
from relay.outbox.statements import RESERVE_BYTES
from tests.helm.conftest import (
    CHART,
    ENVIRONMENTS,
    LEAST,
    Manifest,
    manifests,
    notes,
    one,
    over,
    pod,
    relay_container,
    render,
)

DOCS = Path(__file__).parents[2] / "docs"


def relay_config(made: list[Manifest]) -> dict[str, Any]:
    """The YAML that the relay gets."""
    loaded: dict[str, Any] = yaml.safe_load(one(made, "ConfigMap")["data"]["config.yaml"])
    return loaded


def metadata(made: list[Manifest]) -> dict[str, dict[str, str]]:
    """The pods' labels and annotations."""
    [workload] = [each for each in made if each["kind"] in {"Deployment", "StatefulSet"}]
    found: dict[str, dict[str, str]] = workload["spec"]["template"]["metadata"]
    return found


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
    ("values", "told"),
    [
        ({"replicacount": 3}, "replicacount"),
        ({"config": {"listen": {"prot": 1}}}, "prot"),
        ({"config": {"outbox": {"max_bytes": 5}}}, "max_bytes"),
        ({"mode": "daemon"}, "mode"),
        ({"image": {"digest": "latest"}}, "digest"),
    ],
)
def test_a_typo_is_refused_before_anything_is_deployed(values: dict[str, Any], told: str) -> None:
    with pytest.raises(HelmValuesError, match=told):
        render(**values)


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


def test_a_configuration_without_environments_is_refused() -> None:
    with pytest.raises(HelmRenderError, match=r"config\.environments is empty"):
        manifests(CHART, {"expectedPods": 3})


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


# Heap's limits.


@pytest.mark.parametrize("pods", [12, 40, 300])
def test_each_pod_may_use_its_part_of_heaps_limits(pods: int) -> None:
    share = relay_config(render(expectedPods=pods))["defaults"]["heap"]["share"]

    assert math.isclose(share * pods, 0.8, rel_tol=1e-3)


@pytest.mark.parametrize("mode", ["service", "sidecar"])
def test_how_many_pods_there_will_be_has_to_be_said(mode: str) -> None:
    with pytest.raises(HelmRenderError, match=r"expectedPods is missing.*production"):
        render(mode=mode, expectedPods=None)


@pytest.mark.parametrize(
    "heap",
    [{"defaults": {"heap": {"share": 0.1}}}, {"environments": [over(ENVIRONMENTS[0], {"heap": {"share": 0.1}})]}],
)
def test_shares_that_are_given_are_left_alone(heap: dict[str, Any]) -> None:
    made = relay_config(render(expectedPods=None, config=heap))

    assert made["defaults" if "defaults" in heap else "environments"] == next(iter(heap.values()))


@pytest.mark.parametrize(
    ("values", "most"),
    [
        ({"replicaCount": 6}, 13),
        ({"replicaCount": 6, "rollout": {"maxSurge": "25%"}}, 14),
        ({"autoscaling": {"enabled": True, "maxReplicas": 6}}, 13),
    ],
)
def test_pods_that_still_deliver_while_a_rollout_goes_on_are_counted(values: dict[str, Any], most: int) -> None:
    with pytest.raises(HelmRenderError, match=rf"expectedPods is {most - 1}, but {most} pods can send"):
        render(**values, expectedPods=most - 1)

    assert render(**values, expectedPods=most)


@pytest.mark.parametrize("values", [{"replicaCount": 6}, {"autoscaling": {"enabled": True, "maxReplicas": 6}}])
def test_a_pod_with_a_volume_is_gone_before_the_next_one_sends(values: dict[str, Any]) -> None:
    volumes = {"outbox": {"persistence": {"enabled": True}}}

    with pytest.raises(HelmRenderError, match=r"expectedPods is 5, but 6 pods can send"):
        render(**values, **volumes, expectedPods=5)

    assert render(**values, **volumes, expectedPods=6)


def test_the_example_counts_the_pods_of_its_rollout(render_app: Callable[..., list[Manifest]]) -> None:
    """A Deployment's surge is a quarter if nothing is said, rounded up."""
    made = render_app()
    [replicas] = [each["spec"]["replicas"] for each in made if each["kind"] == "Deployment"]
    share = yaml.safe_load(one(made, "ConfigMap")["data"]["config.yaml"])["defaults"]["heap"]["share"]

    assert math.isclose(0.8 / share, 2 * replicas + math.ceil(replicas / 4), rel_tol=1e-3)


@pytest.mark.parametrize("pods", [1, 5, 9, 12, 40])
def test_the_docs_say_how_long_an_identity_waits(pods: int) -> None:
    events = rate_of(APP_EVENTS, 0.8 / pods).per_second
    wait = 1 / rate_within(IDENTITY_REQUESTS, 0.8 / pods).per_second
    seconds = f"{wait:.1f}" if wait < 2 else f"{wait:.0f}"

    assert f"| {pods} | {events:.0f} | {seconds} s |" in (DOCS / "kubernetes.md").read_text()


def test_no_more_pods_are_expected_than_can_share_heaps_limits() -> None:
    """At 1,000 pods one identity is sent every 42 minutes."""
    with pytest.raises(HelmValuesError, match="expectedPods"):
        render(expectedPods=1001)

    assert "share: 0.0008\n" in one(render(expectedPods=1000), "ConfigMap")["data"]["config.yaml"]


# Coming and going.


def test_an_autoscaler_has_room() -> None:
    with pytest.raises(HelmRenderError, match=r"autoscaling\.minReplicas is 3, more than maxReplicas, 2"):
        render(autoscaling={"enabled": True, "minReplicas": 3, "maxReplicas": 2})

    assert render(autoscaling={"enabled": False, "minReplicas": 3, "maxReplicas": 2})


@pytest.mark.parametrize("none", [0, "0%"])
def test_a_rollout_can_replace_a_pod(none: int | str) -> None:
    rollout = {"maxSurge": none, "maxUnavailable": 0}

    with pytest.raises(HelmRenderError, match="no pod could be replaced"):
        render(rollout=rollout)

    assert render(rollout={**rollout, "maxUnavailable": 1})
    assert render(rollout=rollout, outbox={"persistence": {"enabled": True}})


def test_the_kubelets_patience_covers_the_relays_shutdown() -> None:
    with pytest.raises(HelmRenderError, match=r"is 35, but config\.shutdown needs 42"):
        render(config={"shutdown": {"grace": "1500ms", "finish": "0.5m", "drain": "5s"}})

    made = render(config={"shutdown": {"grace": 0, "finish": "1m"}}, terminationGracePeriodSeconds=75)
    assert pod(made)["terminationGracePeriodSeconds"] == 75


def test_a_long_patience_stays_a_number() -> None:
    """Go would write it as 1e+06."""
    made = pod(render(terminationGracePeriodSeconds=1_000_000))["terminationGracePeriodSeconds"]

    assert made == 1_000_000
    assert isinstance(made, int)


def test_a_native_sidecar_is_told_when_the_app_is_gone_and_a_classic_one_serves_it_to_its_end() -> None:
    assert relay_config(render(mode="sidecar"))["shutdown"]["grace"] == "0s"
    assert relay_config(render(mode="sidecar", sidecar={"native": False}))["shutdown"]["grace"] == "15s"


# The sidecar.


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
    settings = yaml.safe_load(one(made, "ConfigMap")["data"]["config.yaml"])

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
        ({"priorityClassName": "high"}, "priorityClassName"),
    ],
)
def test_what_a_sidecar_has_no_use_for_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(HelmRenderError, match=rf"no use for: {told};"):
        render(mode="sidecar", **values)


def test_a_pod_monitor_finds_the_port_of_the_sidecars(render_app: Callable[..., list[Manifest]]) -> None:
    made = render_app(metrics={"podMonitor": {"enabled": True, "matchLabels": {"app": "shop"}}})
    spec = one(made, "PodMonitor")["spec"]

    [endpoint] = spec["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in relay_container(pod(made))["ports"]]
    assert spec["selector"]["matchLabels"] == {"app": "shop"}


def test_a_pod_monitor_is_not_for_a_service() -> None:
    with pytest.raises(HelmRenderError, match=r"metrics\.podMonitor is for mode sidecar; use metrics\.serviceMonitor"):
        render(metrics={"podMonitor": {"enabled": True}})


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


# The network.


def policy(**changes: Any) -> dict[str, Any]:
    made = render(**over({"networkPolicy": {"enabled": True}}, changes))
    spec: dict[str, Any] = one(made, "NetworkPolicy")["spec"]
    return spec


def egress_ports(**changes: Any) -> list[list[int]]:
    """Those to DNS, Flagsmith and Heap."""
    return [[port["port"] for port in rule["ports"]] for rule in policy(**changes)["egress"]]


def test_egress_is_dns_flagsmith_and_heap() -> None:
    assert policy()["policyTypes"] == ["Ingress", "Egress"]
    assert egress_ports() == [[53, 53], [443], [443]]
    assert [port["protocol"] for port in policy()["egress"][0]["ports"]] == ["UDP", "TCP"]


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://edge-proxy:8000", 8000),
        ("http://edge-proxy/base:9/", 80),
        ("https://flagsmith.internal", 443),
        ("http://[fd00::1]:8000", 8000),
        ("http://[fd00::1]", 80),
    ],
)
def test_egress_leads_to_the_ports_of_the_configuration(url: str, port: int) -> None:
    double = {"name": "staging", "keys": ["${STAGING}"], "heap": {"app_id": "2", "url": url}}
    inherits = {"name": "production", "keys": ["${KEY}"], "heap": {"app_id": "1"}}

    assert egress_ports(config={"upstream": {"url": url}})[1] == [port]
    assert egress_ports(config={"environments": [*ENVIRONMENTS, double, double]})[2] == list(dict.fromkeys([443, port]))
    assert egress_ports(config={"defaults": {"heap": {"url": url}}, "environments": [inherits]})[2] == [port]


def test_a_port_that_only_a_reference_knows_has_to_be_said() -> None:
    config = {"upstream": {"url": "${FLAGSMITH_URL}"}}

    with pytest.raises(HelmRenderError, match=r"networkPolicy\.flagsmith\.ports is empty, and \$\{FLAGSMITH_URL\} "):
        policy(config=config)

    assert egress_ports(config=config, networkPolicy={"flagsmith": {"ports": [8000]}})[1] == [8000]


def test_nobody_is_let_in_or_out_by_an_empty_list() -> None:
    """To Kubernetes an empty list of peers is everybody."""
    for rule in ({"callers": []}, {"flagsmith": {"to": []}}, {"heap": {"to": []}}, {"dns": {"to": []}}):
        with pytest.raises(HelmValuesError, match="minItems"):
            policy(networkPolicy=rule)

    assert len(policy(networkPolicy={"admin": []})["ingress"]) == 1


def test_addresses_of_both_kinds_are_reached() -> None:
    _, flagsmith, heap = policy()["egress"]

    for rule in (flagsmith, heap):
        assert [peer["ipBlock"]["cidr"] for peer in rule["to"]] == ["0.0.0.0/0", "::/0"]


def test_only_callers_ports_lead_in_from_the_ingress() -> None:
    made = render(ingress={"enabled": True, "hosts": ["flags.example.com"]})
    [rule] = one(made, "Ingress")["spec"]["rules"]
    [path] = rule["http"]["paths"]

    assert path["backend"]["service"] == {"name": "demo-flagsmith-heap-relay", "port": {"name": "http"}}
    assert [port["name"] for port in one(made, "Service")["spec"]["ports"]] == ["http"]


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


def test_the_readme_of_the_chart_names_every_value() -> None:
    readme = (CHART / "README.md").read_text()

    assert [key for key in yaml.safe_load((CHART / "values.yaml").read_text()) if f"`{key}" not in readme] == []


def test_the_least_values_are_enough() -> None:
    assert manifests(CHART, LEAST)


def test_config_is_checked_by_the_relays_own_schema() -> None:
    """`make chart-schema` writes it there."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    relay = json_schema()

    assert schema["properties"]["config"] == {"$ref": "#/$defs/config"}
    assert {name: value for name, value in schema["$defs"].items() if name != "config"} == relay["$defs"]
    assert schema["$defs"]["config"] == {key: relay[key] for key in schema["$defs"]["config"]}


# Monitoring.


def test_the_charts_rules_and_dashboard_are_those_of_the_docs() -> None:
    made = render(metrics={"rules": {"enabled": True}, "dashboard": {"enabled": True}})

    dashboard = one(made, "ConfigMap", "demo-flagsmith-heap-relay-dashboard")["data"]["flagsmith-heap-relay.json"]
    assert one(made, "PrometheusRule")["spec"] == yaml.safe_load((DOCS / "alerts.yaml").read_text())
    assert json.loads(dashboard) == json.loads((DOCS / "grafana/relay.json").read_text())
