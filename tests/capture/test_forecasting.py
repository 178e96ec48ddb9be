"""The forecast, in a whole relay between Flagsmith and Heap."""

import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest

from relay.app import Relay, running
from relay.capture.forecasting import IDENTITIES, Forecasts
from relay.capture.reading import Prepared
from relay.last_good import open_file
from relay.model import Clock, JournalEntry, Pace, Verdict
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.conftest import settings, write
from tests.test_app import identify

ASKED = ["ada", "ada", "bob", "ada", "bob"]
PACE = Pace("every_call", heartbeat=60.0, share=0.8)


class StartWith(Protocol):
    """Starts a relay with *rules*, at the beginning of a minute."""

    def __call__(self, **rules: Any) -> AbstractAsyncContextManager[Relay]: ...


@pytest.fixture
def start_with(flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path) -> StartWith:
    def start(**rules: Any) -> AbstractAsyncContextManager[Relay]:
        began = time.monotonic()
        file = open_file(write(tmp_path, settings(flagsmith, heap, defaults=rules)), {})
        return running(file.loaded.config, file=file, clock=Clock(monotonic=lambda: time.monotonic() - began))

    return start


async def forecast(http: aiohttp.ClientSession, relay: Relay, asked: list[str]) -> dict[str, Any]:
    """What the status tells once so many were asked about."""
    for identity in asked:
        await identify(http, relay, identity)
    await relay.parts.capture.drained()
    await relay.parts.figures.refresh()
    async with http.get(relay.admin_url + "/status.json") as answer:
        found = (await answer.json())["environments"][0]["forecast"]
    assert isinstance(found, dict)
    return found


def busiest(told: dict[str, Any]) -> tuple[int, int]:
    """By every_call and by on_change."""
    return told["every_call"]["busiest_minute"], told["on_change"]["busiest_minute"]


@pytest.mark.parametrize(
    ("rules", "verdicts"),
    [
        ({}, {"every_call"}),
        ({"send": "on_change"}, {"first_seen", "unchanged"}),
        ({"shadow": True}, {"shadow"}),
        ({"shadow": True, "send": "on_change"}, {"shadow"}),
        ({"daily_cap": {"events": 1, "then": "stop"}}, {"every_call", "over_cap"}),
        ({"identity": {"mode": "hmac_sha256", "key": "not-a-secret-0123456789"}}, {"every_call"}),
    ],
)
async def test_it_tells_of_both_ways_whatever_the_rules(
    start_with: StartWith, http: aiohttp.ClientSession, rules: dict[str, Any], verdicts: set[str]
) -> None:
    async with start_with(**rules) as relay:
        told = await forecast(http, relay, ASKED)

    assert busiest(told) == (5, 2)
    assert set(told["verdicts"]) == verdicts


async def test_what_the_rules_leave_out_is_a_verdict_and_no_event(
    start_with: StartWith, http: aiohttp.ClientSession
) -> None:
    async with start_with(identities={"exclude": ["bob"]}) as relay:
        told = await forecast(http, relay, [*ASKED, "x" * 300])

    assert busiest(told) == (3, 1)
    assert set(told["verdicts"]) == {"every_call", "filtered", "identity_too_long"}


async def test_a_restart_begins_it_anew(start_with: StartWith, http: aiohttp.ClientSession) -> None:
    async with start_with() as relay:
        assert busiest(await forecast(http, relay, ASKED)) == (5, 2)

    async with start_with() as relay:
        assert busiest(await forecast(http, relay, ["ada"])) == (1, 1)


async def test_it_is_in_the_report_and_in_the_metrics(start_with: StartWith, http: aiohttp.ClientSession) -> None:
    async with start_with(send="on_change") as relay:
        told = await forecast(http, relay, ASKED)
        async with http.get(relay.admin_url + "/status.txt") as answer:
            text = await answer.text()

    for mode in ("every_call", "on_change"):
        labels = {"environment": "tests", "mode": mode}
        assert relay.registry.get_sample_value("relay_forecast_events_per_day", labels) == told[mode]["a_day"]
    ratio = relay.registry.get_sample_value("relay_busiest_minute_ratio", {"environment": "tests"})
    assert ratio == told["on_change"]["of_limit"] == round(2 / 15_000, 4)
    assert "  peak    2 events in the busiest minute, 0.0% of Heap's limit" in text


# What one try of on_change makes of answers, as far as no relay is needed for it.


def answered(identity: str, fingerprint: int, at: float) -> Prepared:
    entry = JournalEntry(identity, "tests", at, "GET", Verdict(True, "every_call"), b"{}", "key")
    return Prepared(journal=entry, fingerprint=fingerprint)


def on_change(answers: list[tuple[int, float]], pace: Pace = PACE) -> int:
    """How many of ada's answers on_change would send."""
    forecasts = Forecasts(Clock(monotonic=lambda: 1.0))
    forecasts.follow({"tests": pace})
    for fingerprint, at in answers:
        forecasts.see_answer("tests", answered("ada", fingerprint, at))
    told = forecasts.tell("tests")
    assert told is not None
    return told.on_change.busiest_minute


@pytest.mark.parametrize(
    ("answers", "sent"),
    [
        ([(1, 0.0), (1, 1.0), (1, 59.0)], 1),
        ([(1, 0.0), (2, 1.0), (1, 2.0)], 3),
        ([(1, 0.0), (1, 59.0), (1, 60.0), (1, 119.0), (1, 120.0)], 3),
    ],
)
def test_on_change_is_tried_out_with_the_environments_own_heartbeat(
    answers: list[tuple[int, float]], sent: int
) -> None:
    assert on_change(answers) == sent


def test_more_identities_than_are_kept_are_told() -> None:
    now = 0.0
    forecasts = Forecasts(Clock(monotonic=lambda: now))
    forecasts.follow({"tests": PACE})
    for number in range(2 * IDENTITIES):
        forecasts.see_answer("tests", answered(f"user-{number}", 1, 0.0))
    now = 2 * 86_400.0

    told = forecasts.tell("tests")

    assert told is not None
    assert told.at_most


def test_an_environment_that_is_gone_is_forgotten() -> None:
    forecasts = Forecasts(Clock(monotonic=lambda: 1.0))
    forecasts.follow({"tests": PACE})
    forecasts.see_answer("tests", answered("ada", 1, 0.0))

    forecasts.follow({})
    forecasts.see_answer("tests", answered("ada", 1, 0.0))
    assert forecasts.tell("tests") is None
    forecasts.follow({"tests": PACE})

    told = forecasts.tell("tests")
    assert told is not None
    assert told.verdicts == {}
