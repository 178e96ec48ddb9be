"""The metrics keep Prometheus' conventions, and what is built on them names what is there."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from relay.app import Relay
from relay.core import reasons
from relay.core.recognise import ROUTES
from relay.core.settle import Kind
from relay.metrics import LAG, Amounts
from tests.conftest import StartRelay
from tests.test_app import identify

DOCS = Path(__file__).parents[1] / "docs"
ROW = re.compile(r"^\| `((?:relay|process|python)_\w+)` \| (\w+) \|(.*?)\|(.*?)\|", re.MULTILINE)
# github.com/prometheus/prometheus, util/testutil/promlint: what `promtool check metrics` complains about.
TYPES = {"counter", "gauge", "histogram", "summary"}
UNITS = {
    *("ms", "us", "ns", "sec", "s", "min", "h", "b", "kb", "mb", "gb", "milliseconds", "microseconds", "minutes"),
    *("hours", "days", "kilobytes", "megabytes", "percent"),
}
SUFFIXES = ("_bucket", "_sum", "_count")
# What Prometheus adds to whatever it scrapes.
ADDED = {"job", "instance", "le"}


def test_amounts_are_told_as_prometheus_client_tells_a_histogram() -> None:
    """Those on the edge of a bucket, below all, above all, and none."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    amounts = Amounts("relay_lag_seconds", "Lag.", LAG, ours)
    histogram = Histogram("relay_lag_seconds", "Lag.", buckets=LAG, registry=theirs)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
    assert generate_latest(ours) == generate_latest(theirs)

    for each in (0.0, 1.0, 1.5, 604_800.0, 1e9):
        amounts.observe(each)
        histogram.observe(each)

    assert generate_latest(ours) == generate_latest(theirs)


async def scraped(relay: Relay, http: aiohttp.ClientSession) -> list[Metric]:
    """Every family that a scraper is told, once each has a sample."""
    metrics = relay.parts.metrics
    for metric in (metrics.skipped, metrics.altered):
        metric.labels("tests", "empty")
    metrics.config_info.labels("3f9ac01be22d")
    await identify(http, relay, "ada")
    async with asyncio.timeout(10):
        while relay.parts.figures.reading.usage is None:
            await asyncio.sleep(0.01)
    async with http.get(relay.admin_url + "/metrics") as answer:
        return list(text_string_to_metric_families(await answer.text()))


@pytest.fixture
async def families(start_relay: StartRelay, http: aiohttp.ClientSession) -> list[Metric]:
    async with start_relay(defaults={"daily_cap": {"events": 1000}}) as relay:
        return await scraped(relay, http)


def name_of(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def labels_of(family: Metric) -> set[str]:
    return {label for sample in family.samples for label in sample.labels} - ADDED


async def test_every_metric_keeps_the_conventions(families: list[Metric]) -> None:
    for family in families:
        words = name_of(family).split("_")
        assert family.documentation, family.name
        assert family.samples, family.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name), family.name
        assert not UNITS & set(words), family.name
        assert not TYPES & set(words), family.name
        assert family.type == "counter" or not family.name.endswith("_total"), family.name
        assert family.type == "histogram" or not family.name.endswith(SUFFIXES), family.name
        assert all(re.fullmatch(r"[a-z_]+", label) for label in labels_of(family)), family.name


async def test_the_docs_tell_of_every_metric_with_its_type_and_labels(families: list[Metric]) -> None:
    told = {
        (name, kind, frozenset(re.findall(r"\w+", labels)))
        for name, kind, labels, _ in ROW.findall((DOCS / "metrics.md").read_text())
    }

    assert told == {(name_of(family), family.type, frozenset(labels_of(family))) for family in families}


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("relay_requests_total", ROUTES),
        ("relay_upstream_errors_total", reasons.UPSTREAM),
        ("relay_skipped_total", reasons.SKIPPED),
        ("relay_refused_total", reasons.REFUSED),
        ("relay_dropped_total", reasons.DROPPED),
        ("relay_dead_letters_total", reasons.DEAD),
        ("relay_attempts_total", tuple(Kind)),
        ("relay_config_reloads_total", reasons.RELOADED),
    ],
)
def test_the_docs_list_every_word_of_a_closed_set(metric: str, words: tuple[str, ...]) -> None:
    [meaning] = [meaning for name, _, _, meaning in ROW.findall((DOCS / "metrics.md").read_text()) if name == metric]

    assert set(words) <= set(re.findall(r"`(\w+)`", meaning))


def expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression of the alerts and of the dashboard, each with whose it is."""
    for group in yaml.safe_load((DOCS / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads((DOCS / "grafana/relay.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"][1:]:
        yield variable["name"], variable["definition"]


async def test_alerts_and_dashboard_name_metrics_and_labels_that_are_there(families: list[Metric]) -> None:
    labels = {sample.name: labels_of(family) for family in families for sample in family.samples}

    for owner, expression in expressions():
        named = re.findall(r"\b(?:relay|process)_\w+\b", expression)
        asked = set(re.findall(r"(\w+)(?:=~|!=|==?)\"", expression))
        asked |= {label for by in re.findall(r"by \((.*?)\)", expression) for label in by.split(", ")}
        assert named, owner
        assert set(named) <= labels.keys(), owner
        assert asked - ADDED <= set().union(*(labels[name] for name in named)), owner


# Of the outbox, or of a Heap app: every relay of a fleet tells the same.
SHARED = re.compile(
    r"\brelay_(?:outbox_(?:events|oldest_seconds|bytes|capacity_bytes)|dead_letters\b(?!_)|remembered|books_difference"
    r"|superseded_total|dropped_total|lane_state|budget_used_ratio|daily_cap_ratio)"
)


def test_what_all_relays_of_a_fleet_tell_alike_is_never_added_up() -> None:
    for owner, expression in expressions():
        if expression.startswith("label_values("):
            continue
        for found in SHARED.finditer(expression):
            around = re.findall(r"\b(sum|max|min|avg|count)\b", expression[: found.start()])
            assert around[-1:] == ["max"], owner


async def test_the_dashboard_shows_every_metric_of_the_relay(families: list[Metric]) -> None:
    shown = " ".join(expression for _, expression in expressions())

    unseen = {family.name for family in families if family.name.startswith("relay_") and family.name not in shown}
    assert unseen == {"relay_remembered", "relay_config_info", "relay_config_loaded_timestamp_seconds"}


def test_every_alert_says_how_serious_it_is_and_what_to_do() -> None:
    headings = re.findall(r"^#+ (.+)$", (DOCS / "operating.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    rules = yaml.safe_load((DOCS / "alerts.yaml").read_text())["groups"][0]["rules"]

    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/operating.md", rule["alert"]
        assert anchor in anchors, rule["alert"]
    assert len({rule["alert"] for rule in rules}) == len(rules)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    dashboard = json.loads((DOCS / "grafana/relay.json").read_text())

    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    sources = {panel["datasource"]["uid"] for panel in panels}
    assert sources == {"${datasource}"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"] == [
        *("Flags", "Capture", "Delivery", "Outbox", "Process", "Cost")
    ]
