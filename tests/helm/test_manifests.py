"""Whatever the values say, the cluster takes what the chart makes, and the relay takes its configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helm_python.chart import lint

from relay import config
from tests.helm.conftest import (
    CHART,
    LEAST,
    NEWEST,
    Manifest,
    check,
    manifests,
    one,
    over,
    pod,
    relay_container,
    render,
)

EVERYTHING: dict[str, Any] = {
    "expectedPods": 21,
    "autoscaling": {"enabled": True, "maxReplicas": 10},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "hosts": ["flags.example.com"],
        "tls": [{"secretName": "flags-tls", "hosts": ["flags.example.com"]}],
        "annotations": {"example.com/a": "b"},
    },
    "networkPolicy": {"enabled": True, "callers": [{"podSelector": {}}], "admin": [{"namespaceSelector": {}}]},
    "metrics": {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}, "dashboard": {"enabled": True}},
    "existingSecret": {"name": "relay", "as": "files"},
    "extraEnv": [{"name": "A", "value": "b"}],
    "imagePullSecrets": [{"name": "registry"}],
    "image": {"digest": "sha256:" + 64 * "a"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "priorityClassName": "high",
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "serviceAccount": {"annotations": {"a": "b"}},
}
SIDECAR_METRICS = {
    "podMonitor": {"enabled": True, "matchLabels": {"app.kubernetes.io/instance": "demo"}},
    "rules": {"enabled": True},
    "dashboard": {"enabled": True},
}
FLEET: dict[str, Any] = {
    "expectedPods": None,
    "config": {"outbox": {"url": "redis://redis"}},
    "networkPolicy": {"enabled": True},
}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "persistent": {"outbox": {"persistence": {"enabled": True, "storageClass": "fast"}}},
    "fleet": FLEET,
    "senders": over(FLEET, {"mode": "sidecar", "senders": {"enabled": True}}),
    "everything": EVERYTHING,
    "everything, persistent": over(EVERYTHING, {"outbox": {"persistence": {"enabled": True}}}),
    "secret as variables": {"existingSecret": {"name": "relay", "as": "env"}},
    "no extras": {
        "podDisruptionBudget": {"enabled": False},
        "topologySpreadConstraints": None,
        "serviceAccount": {"create": False},
    },
    "sidecar": {"mode": "sidecar", "metrics": SIDECAR_METRICS},
    "classic sidecar": {"mode": "sidecar", "sidecar": {"native": False}},
}


@pytest.mark.parametrize("version", ["1.29", NEWEST])
@pytest.mark.parametrize("name", VALUES)
def test_the_cluster_takes_every_manifest(name: str, version: str) -> None:
    for manifest in render(**VALUES[name]):
        check(manifest, version)


@pytest.mark.parametrize(("native", "versions"), [(True, ["1.29", NEWEST]), (False, ["1.25", "1.29", NEWEST])])
def test_the_cluster_takes_the_app_with_its_sidecar(
    render_app: Callable[..., list[Manifest]], *, native: bool, versions: list[str]
) -> None:
    for manifest in render_app(sidecar={"native": native}):
        for version in versions:
            check(manifest, version)


@pytest.mark.parametrize("name", ["everything", "everything, persistent", "secret as variables"])
def test_a_name_that_looks_like_a_number_or_a_boolean_stays_a_name(name: str) -> None:
    names: dict[str, Any] = {
        "nameOverride": "1e3",
        "fullnameOverride": "123",
        "priorityClassName": "true",
        "image": {"repository": "123", "tag": "456"},
        "existingSecret": {"name": "null"},
        "serviceAccount": {"name": "0x10"},
        "outbox": {"persistence": {"storageClass": "off"}},
        "sidecar": {"name": "789"},
        "ingress": {"className": "0"},
    }

    for manifest in manifests(CHART, over(LEAST, over(VALUES[name], names)), release="123"):
        check(manifest, NEWEST)


@pytest.mark.parametrize("name", VALUES)
def test_the_relay_finds_no_mistake_in_the_file_it_gets(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(one(render(**VALUES[name]), "ConfigMap")["data"]["config.yaml"])

    findings = config.examine(path, {"KEY": "client-key", "HEAP_APP_ID": "1234567890"})

    assert findings.mistakes == ()


def test_every_kind_that_was_asked_for_is_there() -> None:
    kinds = [each["kind"] for each in render(**EVERYTHING)]

    assert sorted(kinds) == sorted(
        [
            *("ConfigMap", "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy"),
            *("PodDisruptionBudget", "PrometheusRule", "Service", "Service", "ServiceAccount", "ServiceMonitor"),
        ]
    )


def test_a_sidecars_chart_makes_its_configuration_only() -> None:
    assert [each["kind"] for each in render(mode="sidecar")] == ["ConfigMap"]


def test_a_sidecar_is_watched_where_that_is_asked_for() -> None:
    kinds = [each["kind"] for each in render(mode="sidecar", metrics=SIDECAR_METRICS)]

    assert sorted(kinds) == ["ConfigMap", "ConfigMap", "PodMonitor", "PrometheusRule"]


@pytest.mark.parametrize("name", VALUES)
def test_lint_finds_nothing(name: str) -> None:
    found = lint(CHART, values=over(LEAST, VALUES[name]), strict=True)

    assert [each for each in found["messages"] if each["severity"] not in {"INFO", 1}] == []


# The restricted profile (kubernetes.io/docs/concepts/security/pod-security-standards), rule by rule.

PODS = [*(name for name in VALUES if "sidecar" not in name), "app, native", "app, classic"]


@pytest.fixture(params=PODS)
def spec(request: pytest.FixtureRequest, render_app: Callable[..., list[Manifest]]) -> Manifest:
    if request.param.startswith("app"):
        return pod(render_app(sidecar={"native": request.param.endswith("native")}))
    return pod(render(**VALUES[request.param]))


def containers(spec: Manifest) -> list[Manifest]:
    return [*(spec.get("initContainers") or []), *spec["containers"]]


def contexts(spec: Manifest) -> list[Manifest]:
    """Every securityContext of a pod: its own, which containers inherit, and theirs."""
    return [spec.get("securityContext") or {}, *(each.get("securityContext") or {} for each in containers(spec))]


def test_no_host_process_runs(spec: Manifest) -> None:
    assert not any(each.get("windowsOptions", {}).get("hostProcess") for each in contexts(spec))


def test_no_host_namespace_port_or_path_is_used(spec: Manifest) -> None:
    assert not {"hostNetwork", "hostPID", "hostIPC"} & {key for key, value in spec.items() if value}
    assert not any(port.get("hostPort") for each in containers(spec) for port in each.get("ports", []))
    assert not any("hostPath" in volume for volume in spec["volumes"])


def test_no_probe_or_hook_asks_another_host(spec: Manifest) -> None:
    for container in containers(spec):
        asked = [*(container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness"))]
        asked += container.get("lifecycle", {}).values()
        assert not any(each.get(how, {}).get("host") for each in asked for how in ("httpGet", "tcpSocket"))


def test_only_volumes_of_allowed_kinds_are_mounted(spec: Manifest) -> None:
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }

    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} <= allowed


def test_nothing_runs_as_root(spec: Manifest) -> None:
    inherited, *own = contexts(spec)

    assert all({**inherited, **each}["runAsNonRoot"] is True for each in own)
    assert not any(each.get("runAsUser") == 0 for each in contexts(spec))
    assert relay_container(spec)["securityContext"]["runAsUser"] > 0


def test_no_privilege_can_be_gained(spec: Manifest) -> None:
    for container in containers(spec):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context.get("privileged")


def test_system_calls_are_filtered(spec: Manifest) -> None:
    inherited, *own = contexts(spec)

    assert all({**inherited, **each}["seccompProfile"] == {"type": "RuntimeDefault"} for each in own)


def test_app_armor_is_not_weakened(spec: Manifest) -> None:
    kinds = {each["appArmorProfile"]["type"] for each in contexts(spec) if "appArmorProfile" in each}

    assert kinds <= {"RuntimeDefault", "Localhost"}


def test_se_linux_is_not_weakened(spec: Manifest) -> None:
    for options in (each.get("seLinuxOptions", {}) for each in contexts(spec)):
        kinds = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
        assert options.get("type", "") in kinds
        assert not {"user", "role"} & {key for key, value in options.items() if value}


def test_proc_is_masked(spec: Manifest) -> None:
    assert all(each.get("procMount", "Default") == "Default" for each in contexts(spec))


def test_no_kernel_parameter_is_set(spec: Manifest) -> None:
    """Some are allowed; none is needed."""
    assert not any(each.get("sysctls") for each in contexts(spec))


def test_the_pod_leaves_the_user_to_its_containers(spec: Manifest) -> None:
    """A sidecar's pod is the app's, which may need another user."""
    assert set(spec["securityContext"]) == {"fsGroup", "fsGroupChangePolicy"}


def test_the_root_file_system_is_read_only(spec: Manifest) -> None:
    assert relay_container(spec)["securityContext"]["readOnlyRootFilesystem"]


def test_the_pod_holds_no_token_of_the_cluster(spec: Manifest) -> None:
    assert spec["automountServiceAccountToken"] is False


def test_the_configuration_is_mounted_as_a_folder(spec: Manifest) -> None:
    """A subPath is never updated (github.com/kubernetes/kubernetes/issues/50345)."""
    assert not any("subPath" in mount for mount in relay_container(spec)["volumeMounts"])
