"""Who reaches the relay, and whom it reaches."""

from typing import Any

import pytest
from helm_python.errors import HelmRenderError, HelmValuesError

from tests.helm.conftest import ENVIRONMENTS, one, over, render


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


@pytest.mark.parametrize("rule", [{"callers": []}, *({name: {"to": []}} for name in ("dns", "flagsmith", "heap"))])
def test_nobody_is_let_in_or_out_by_an_empty_list(rule: dict[str, Any]) -> None:
    """To Kubernetes an empty list of peers is everybody."""
    with pytest.raises(HelmValuesError, match="minItems"):
        policy(networkPolicy=rule)


def test_the_admin_port_may_be_closed_to_all() -> None:
    assert [rule["ports"][0]["port"] for rule in policy(networkPolicy={"admin": []})["ingress"]] == ["http"]


def test_addresses_of_both_kinds_are_reached() -> None:
    _, flagsmith, heap = policy()["egress"]

    for rule in (flagsmith, heap):
        assert [peer["ipBlock"]["cidr"] for peer in rule["to"]] == ["0.0.0.0/0", "::/0"]


def test_only_the_callers_port_and_what_sdks_ask_lead_in_from_the_ingress() -> None:
    """A Flagsmith of one's own serves its dashboard and its administration beside /api/."""
    made = render(ingress={"enabled": True, "hosts": ["flags.example.com"]})
    [rule] = one(made, "Ingress")["spec"]["rules"]
    [path] = rule["http"]["paths"]

    assert path["path"] == "/api/"
    assert path["backend"]["service"] == {"name": "demo-flagsmith-heap-relay", "port": {"name": "http"}}
    assert [port["name"] for port in one(made, "Service")["spec"]["ports"]] == ["http"]
