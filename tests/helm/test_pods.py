"""How many pods there are at a time, what each may send, and how they come and go."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helm_python.errors import HelmRenderError, HelmValuesError

from relay.config.rules import MAX_SHARE
from relay.core.budget import APP_EVENTS, IDENTITY_REQUESTS, rate_of, rate_within
from tests.helm.conftest import ENVIRONMENTS, Manifest, one, over, pod, relay_config, render

DOCS = Path(__file__).parents[2] / "docs"


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
    "values",
    [{"expectedPods": None}, {"expectedPods": 50}, {"mode": "sidecar", "expectedPods": 5}],
)
def test_a_share_that_is_given_is_one_of_many(values: dict[str, Any]) -> None:
    """The relay's default, copied, would be used by each of two pods, their successors and the surge."""

    def given(share: float | str) -> dict[str, Any]:
        return over(values, {"config": {"environments": [over(ENVIRONMENTS[0], {"heap": {"share": share}})]}})

    with pytest.raises(HelmRenderError, match=r"heap\.share of production is 0\.8, but \d+ pods .* at most 0\.1600"):
        render(**given(0.8))

    with pytest.raises(HelmRenderError, match="5 pods"):
        render(**given(MAX_SHARE / 5 + 0.001))

    assert render(**given(MAX_SHARE / 5 - 0.001))
    assert render(**given("${SHARE}"))


def test_a_share_that_all_inherit_is_one_of_many() -> None:
    with pytest.raises(HelmRenderError, match=r"heap\.share of production is 0\.3, but 5 pods"):
        render(config={"defaults": {"heap": {"share": 0.3}}})


def test_a_sidecars_pods_are_not_known() -> None:
    assert render(mode="sidecar", expectedPods=None, config={"defaults": {"heap": {"share": 0.8}}})


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
    share = relay_config(made)["defaults"]["heap"]["share"]

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


@pytest.mark.parametrize("resources", [None, {"requests": None}, {"requests": {"cpu": None}}])
def test_an_autoscaler_knows_what_a_pod_asks_for(resources: dict[str, Any] | None) -> None:
    """Without it the HPA reports <unknown> and never scales."""
    autoscaling = {"enabled": True, "maxReplicas": 5}

    with pytest.raises(HelmRenderError, match=r"autoscaling needs resources\.requests\.cpu"):
        render(autoscaling=autoscaling, resources=resources)

    assert render(autoscaling=autoscaling, resources={"limits": {"cpu": 1}})


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
