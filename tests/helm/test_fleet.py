"""Pods that share an outbox in Redis: some capture, some deliver, and Heap's limits are theirs together."""

from typing import Any

import pytest
from helm_python.errors import HelmRenderError

from tests.helm.conftest import ENVIRONMENTS, Manifest, one, over, relay_config, relay_container, render

NAME = "demo-flagsmith-heap-relay"
REDIS = "redis://:${REDIS_PASSWORD}@redis.shop:6379/0"
SENDERS = {"enabled": True, "replicas": 3}


def fleet(url: str = REDIS, **changes: Any) -> list[Manifest]:
    """What the chart makes with an outbox in Redis."""
    return render(**over({"expectedPods": None, "config": {"outbox": {"url": url}}}, changes))


def pod_of(made: list[Manifest], name: str) -> Manifest:
    [found] = [
        each for each in made if each["kind"] in {"Deployment", "StatefulSet"} and each["metadata"]["name"] == name
    ]
    spec: Manifest = found["spec"]["template"]
    return spec


def ports(made: list[Manifest], name: str) -> list[list[int]]:
    """Of the ways out, after DNS."""
    return [[port["port"] for port in rule["ports"]] for rule in one(made, "NetworkPolicy", name)["spec"]["egress"][1:]]


@pytest.mark.parametrize("mode", ["service", "sidecar"])
def test_pods_that_share_heaps_limits_are_not_counted(mode: str) -> None:
    assert "defaults" not in relay_config(fleet(mode=mode))


def test_pods_are_counted_for_nothing_nowhere() -> None:
    with pytest.raises(HelmRenderError, match=r"expectedPods divides Heap's limits among pods, .* leave it out"):
        fleet(expectedPods=12)


def test_a_share_is_the_whole_fleets() -> None:
    """However many pods there are."""
    given = {"environments": [over(ENVIRONMENTS[0], {"heap": {"share": 0.9}})]}

    assert fleet(config=given, replicaCount=40)


def test_one_that_is_a_reference_as_a_whole_is_not_seen() -> None:
    with pytest.raises(HelmRenderError, match="expectedPods is missing"):
        fleet("${REDIS_URL}")


def test_every_pod_does_everything_where_nothing_is_said() -> None:
    assert relay_container(pod_of(fleet(), NAME)["spec"])["args"] == ["run", "-c", "/etc/relay/config.yaml"]


def test_senders_are_pods_apart_and_the_others_only_capture() -> None:
    made = fleet(senders=SENDERS)
    proxy, sender = (relay_container(pod_of(made, name)["spec"]) for name in (NAME, f"{NAME}-sender"))

    assert proxy["args"][-2:] == ["--role", "proxy"]
    assert sender["args"][-2:] == ["--role", "sender"]
    assert [port["name"] for port in sender["ports"]] == ["relay-admin"]
    assert one(made, "Deployment", f"{NAME}-sender")["spec"]["replicas"] == 3
    assert sender["image"] == proxy["image"]


def test_no_caller_is_led_to_a_sender() -> None:
    """A Service and a budget for disruptions would count it among those that serve."""
    made = fleet(senders=SENDERS)
    labels = pod_of(made, f"{NAME}-sender")["metadata"]["labels"]
    selectors = [
        *(one(made, "Service", name)["spec"]["selector"] for name in (NAME, f"{NAME}-pods")),
        one(made, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(made, "Deployment")["spec"]["selector"]["matchLabels"],
    ]

    for selector in selectors:
        assert not selector.items() <= labels.items()
    assert one(made, "Service", f"{NAME}-sender")["spec"]["selector"].items() <= labels.items()


def test_sidecars_leave_delivery_to_senders() -> None:
    made = fleet(mode="sidecar", senders=SENDERS, networkPolicy={"enabled": True})

    assert relay_container(pod_of(made, f"{NAME}-sender")["spec"])["args"][-2:] == ["--role", "sender"]
    assert [each["metadata"]["name"] for each in made if each["kind"] == "NetworkPolicy"] == [f"{NAME}-sender"]


@pytest.mark.parametrize("outbox", [{}, {"url": "memory://"}])
def test_senders_need_an_outbox_that_they_can_read(outbox: dict[str, Any]) -> None:
    with pytest.raises(
        HelmRenderError, match=r"senders\.enabled is true, but config\.outbox\.url is .*; write redis://"
    ):
        render(senders=SENDERS, config={"outbox": outbox})


def test_a_spool_is_on_the_volume_so_that_a_container_may_be_restarted() -> None:
    assert relay_config(fleet())["outbox"]["spool"] == "sqlite:////var/lib/relay/spool.db"
    assert relay_config(fleet(config={"outbox": {"spool": "memory://"}}))["outbox"]["spool"] == "memory://"
    assert "spool" not in relay_config(render())["outbox"]


def test_a_volume_holds_the_spool_and_not_the_fleets_outbox() -> None:
    assert fleet(config={"outbox": {"max_bytes": "64GiB"}}, outbox={"emptyDir": {"sizeLimit": "520Mi"}})

    with pytest.raises(HelmRenderError, match=r"emptyDir\.sizeLimit is 519Mi, too small"):
        fleet(config={"outbox": {"max_bytes": "64GiB"}}, outbox={"emptyDir": {"sizeLimit": "519Mi"}})


def test_a_spool_is_on_a_volume() -> None:
    with pytest.raises(HelmRenderError, match=r"config\.outbox\.spool is sqlite:///spool\.db, which is on no volume"):
        fleet(config={"outbox": {"spool": "sqlite:///spool.db"}})


@pytest.mark.parametrize(
    ("url", "redis"),
    [
        (REDIS, [6379]),
        ("rediss://redis:7000/0?prefix=a:", [7000]),
        ("redis://a:b/c@d@redis", [6379]),
        ("redis+cluster://a:7000,b:7001,[::1]:7002", [7000, 7001, 7002]),
        ("redis+sentinel://a,b:7001/main", [6379, 26379, 7001]),
    ],
)
def test_redis_is_let_through(url: str, redis: list[int]) -> None:
    assert ports(fleet(url, networkPolicy={"enabled": True}), NAME) == [[443], [443], redis]


def test_each_role_is_let_out_to_whom_it_asks() -> None:
    made = fleet(senders=SENDERS, networkPolicy={"enabled": True}, config={"upstream": {"url": "http://edge:8000"}})

    assert ports(made, NAME) == [[8000], [6379]]
    assert ports(made, f"{NAME}-sender") == [[443], [6379]]
    [way_in] = one(made, "NetworkPolicy", f"{NAME}-sender")["spec"]["ingress"]
    assert [port["port"] for port in way_in["ports"]] == ["relay-admin"]


def test_a_redis_that_only_a_reference_knows_needs_its_ports() -> None:
    with pytest.raises(HelmRenderError, match=r"networkPolicy\.redis\.ports is empty"):
        fleet("redis://${HOST}/0", networkPolicy={"enabled": True})

    assert ports(fleet("redis://${HOST}/0", networkPolicy={"enabled": True, "redis": {"ports": [7]}}), NAME)[-1] == [7]


def test_a_socket_needs_no_way_out() -> None:
    assert ports(fleet("unix:///run/redis.sock", networkPolicy={"enabled": True}), NAME) == [[443], [443]]
