"""The status page in a real browser, with the system's Chromium."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
import pytest_asyncio
from msgspec.structs import replace
from playwright.async_api import Browser, BrowserContext, Page, expect

from relay import config
from relay.app import running
from relay.core.report import report
from relay.core.status import CapStatus, EnvironmentStatus, OrphanStatus, OutboxStatus
from relay.model import ConfigState
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.admin.browser import Complaints, chromium, served
from tests.admin.statuses import FORECAST, HELD, NOW, OPEN, PAUSED, RECOVERED, environment, status
from tests.conftest import CLIENT_KEY, settings, write
from tests.lacking import lacking
from tests.test_app import identify

# One browser serves all of them: to start it takes longer than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

AXE = Path(__file__).parents[1] / "sdk/node_modules/axe-core/axe.min.js"
# What stands for a figure that there is none of.
NOTHING = "\N{EN DASH}"
MANY = [
    environment(f"environment-{number:02}", [OPEN, PAUSED, OPEN, HELD, OPEN][number % 5], number % 5 % 2)
    for number in range(50)
]
TROUBLED = status(
    environment("production", PAUSED, 12304),
    environment("staging", HELD, 2, dead_letters={"refused_by_heap": 3}, difference=1),
    environment("costly", daily_cap=CapStatus(10_000, "stop", 10_000), forecast=FORECAST),
    environment("renamed", None, 7),
    ready=False,
    orphans=[OrphanStatus("https://c.eu.heap-api.com", 321, NOW - 7200, ["old"])],
    config=ConfigState("ab" * 32, NOW, True, ("config.yaml:12: heap.region: write us or eu",), ("listen.port",), True),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def browser(program: Browser) -> AsyncIterator[BrowserContext]:
    """A fresh profile."""
    context = await program.new_context()
    yield context
    await context.close()


async def opened(browser: BrowserContext, url: str) -> tuple[Page, Complaints]:
    """The page once it shows something, and what the browser thinks of it."""
    page, complaints = await browser.new_page(), Complaints()
    complaints.watch(page, url)
    await page.goto(url)
    await expect(page.locator("#ready")).to_be_visible()
    return page, complaints


async def test_a_form_on_the_page_can_be_sent_nowhere(browser: BrowserContext) -> None:
    """What is not there today must not be of use to whoever gets one in."""
    async with served(status) as url:
        page, _ = await opened(browser, url)

        async with page.expect_console_message() as refused:
            await page.evaluate("document.body.appendChild(document.createElement('form')).submit()")

        assert "form-action 'none'" in (await refused.value).text


@pytest.mark.parametrize("environments", [[], [environment("production")], MANY], ids=len)
async def test_it_shows_any_number_of_environments_and_asks_nobody_else(
    browser: BrowserContext, environments: list[EnvironmentStatus]
) -> None:
    async with served(lambda: status(*environments)) as url:
        page, complaints = await opened(browser, url)

        await expect(page.locator("#environments > li")).to_have_count(len(environments))
        await expect(page.locator("#none")).to_be_visible(visible=not environments)
        assert complaints == []


async def test_what_needs_somebody_is_said_in_words_and_comes_first(browser: BrowserContext) -> None:
    async with served(lambda: TROUBLED) as url:
        page, _ = await opened(browser, url)

        assert await page.locator(".name").all_text_contents() == ["staging", "production", "renamed", "costly"]
        text = await page.locator("main").inner_text()
        assert "Heap answers 503 since 14:02 UTC, 12,304 events waiting, next try in 40 s" in text
        assert "held: Heap refuses the app (404) since 14:02 UTC" in text
        assert "321 events of old wait for an app at https://c.eu.heap-api.com" in text
        assert "config.yaml:12: heap.region: write us or eu" in text
        assert "off by 1" in text
        assert "costly: 10,000 of 10,000 events of its daily cap: the rest of the day is skipped." in text
        await expect(page.locator("#ready")).to_have_text("not ready")


async def test_what_could_not_be_read_yet_is_not_told_as_nothing(browser: BrowserContext) -> None:
    unread = OutboxStatus("sqlite", problem="the outbox outbox.db is damaged")
    async with served(lambda: status(environment("production"), outbox=unread)) as url:
        page, complaints = await opened(browser, url)

        news = await page.locator("#news").inner_text()
        assert "outbox.db is damaged. It could not be read yet: the figures are not known." in news
        assert {await figure.inner_text() for figure in await page.locator("#sums dd").all()} == {
            f"{NOTHING}\nnot known"
        }
        assert await page.locator(".waiting b, .dead b").all_inner_texts() == [NOTHING] * 2
        assert "not known" in await page.locator("section", has_text="Books").inner_text()
        assert complaints == []


async def test_figures_of_before_are_told_with_their_time(browser: BrowserContext) -> None:
    old = OutboxStatus("sqlite", 1 << 20, 512 << 20, problem="the outbox outbox.db is damaged", read_at=NOW - 180)
    async with served(lambda: status(environment("production"), outbox=old)) as url:
        page, _ = await opened(browser, url)

        await expect(page.locator("#news")).to_contain_text("outbox.db is damaged. The figures are of 14:02:00 UTC.")
        await expect(page.locator("#sums")).to_contain_text("balanced")


async def test_heaps_last_error_is_told_after_it_recovered(browser: BrowserContext) -> None:
    async with served(lambda: status(environment("production", RECOVERED))) as url:
        page, _ = await opened(browser, url)

        heap = page.locator("section", has_text="last error")
        facts = [await fact.inner_text() for fact in await heap.locator("dd").all()]

    error = facts.index("busy 503")
    assert facts[error + 1] == "2026-11-24 14:02 UTC, good since"
    assert "delivered 200" in facts[:error]


async def test_what_each_way_to_send_would_bring_is_told_where_somebody_looks(browser: BrowserContext) -> None:
    async with served(lambda: TROUBLED) as url:
        page, complaints = await opened(browser, url)
        row = page.locator("#environments > li", has_text="costly")

        await row.locator("summary").click()

        section = row.locator("section", has_text="Forecast, after 3 h of traffic")
        await expect(section).to_be_visible()
        assert [(await line.inner_text()).split("\t") for line in await section.locator("tr").all()] == [
            ["", "every_call, in force", "on_change"],
            ["a day", "1.2M", "≤ 60K"],
            ["a month", "36M", "≤ 1.8M"],
            ["busiest minute", "3K", "≤ 300"],
            ["of Heap's limit", "20 %", "≤ 2 %"],
            ["of its share", "25 %", "≤ 2.5 %"],
        ]
        assert "10,000 of 10,000" in await section.locator("dl").inner_text()
        assert complaints == []


async def test_many_environments_near_their_caps_do_not_push_the_rest_away(browser: BrowserContext) -> None:
    near = [environment(f"costly-{number}", daily_cap=CapStatus(100, "stop", 99)) for number in range(9)]
    async with served(lambda: status(*near)) as url:
        page, _ = await opened(browser, url)

        said = await page.locator("#news li").all_inner_texts()

    assert said[:3] == [f"costly-{number}: 99 of 100 events of its daily cap." for number in range(3)]
    assert said[3:] == [
        "Near their daily caps, or at them, are also costly-3, costly-4, costly-5, costly-6, costly-7, costly-8."
    ]


async def test_what_somebody_reads_stays_while_only_time_goes_on(browser: BrowserContext) -> None:
    told = status(environment("production", forecast=FORECAST))
    async with served(lambda: told) as url:
        page, complaints = await opened(browser, url)
        section = page.locator("section", has_text="Forecast")
        await section.evaluate("part => part.dataset.read = 'here'")

        later = environment("production", forecast=replace(FORECAST, observed=FORECAST.observed + 2))
        told = status(later, now=NOW + 2)

        await expect(page.locator("#asof")).to_have_text("as of 14:05:02 UTC")
        await expect(section).to_have_attribute("data-read", "here")
        assert complaints == []


async def test_many_environments_can_be_searched(browser: BrowserContext) -> None:
    async with served(lambda: status(*MANY)) as url:
        page, _ = await opened(browser, url)

        await page.locator("#find").fill("-13")
        await expect(page.locator("#environments > li:visible")).to_have_count(1)
        await page.locator("#find").fill("")
        await page.locator("#only").check()
        await expect(page.locator("#environments > li:visible")).to_have_count(20)


async def test_a_lane_that_goes_down_and_up_is_seen_without_a_reload(browser: BrowserContext, tmp_path: Path) -> None:
    async with (
        StandInHeap() as heap,
        StandInFlagsmith(client_key=CLIENT_KEY) as flagsmith,
        running(config.load(write(tmp_path, settings(flagsmith, heap)), {}).config) as relay,
        aiohttp.ClientSession() as http,
    ):
        heap.fail_always(503)
        page, complaints = await opened(browser, relay.admin_url)
        says = page.locator(".says")
        await expect(says).to_have_text("nothing waits")

        await identify(http, relay, "ada")
        await expect(says).to_contain_text("Heap answers 503 since", timeout=20_000)
        await expect(says).to_contain_text("1 event waiting")

        heap.recover()
        await expect(says).to_have_text("nothing waits", timeout=20_000)
        assert complaints == []


async def test_a_relay_that_does_not_answer_any_more_is_said(browser: BrowserContext) -> None:
    async with served(lambda: status(environment("production"))) as url:
        page, _ = await opened(browser, url)

    await expect(page.locator("#news")).to_contain_text("The relay does not answer since")
    await expect(page.locator("#ready")).to_have_text("no answer")
    await expect(page.locator(".name")).to_have_text("production")


async def test_an_open_row_and_a_focus_stay_while_the_figures_change(browser: BrowserContext) -> None:
    told = status(*MANY)
    async with served(lambda: told) as url:
        page, _ = await opened(browser, url)
        row = page.locator("#environments > li", has_text="environment-48")
        await row.locator("summary").focus()
        await page.keyboard.press("Enter")

        told = status(*MANY[:48], environment("environment-48", HELD, 5), MANY[49])

        await expect(row.locator(".says")).to_contain_text("held")
        await expect(row.locator("details")).to_have_attribute("open", "")
        assert await page.evaluate("document.activeElement.innerText.includes('environment-48')")


async def test_markup_in_a_name_is_text(browser: BrowserContext) -> None:
    name = "<img src=x onerror=alert(1)>"
    async with served(lambda: status(environment(name))) as url:
        page, complaints = await opened(browser, url)

        assert await page.locator(".name").text_content() == name
        assert await page.locator("img").count() == 0
        assert complaints == []


async def test_nothing_but_the_pages_own_script_runs(browser: BrowserContext) -> None:
    async with served(lambda: status()) as url:
        page, complaints = await opened(browser, url)

        await page.evaluate("""
            const script = document.createElement("script");
            script.textContent = "window.intruder = true";
            document.body.append(script);
        """)

        assert not await page.evaluate("window.intruder")
        assert "Content Security Policy" in complaints[0]


async def test_the_report_is_copied(browser: BrowserContext) -> None:
    await browser.grant_permissions(["clipboard-read", "clipboard-write"])
    async with served(lambda: TROUBLED) as url:
        page, _ = await opened(browser, url)

        await page.locator("#copy").click()

        await expect(page.locator("#copied")).to_have_text("copied")
        assert await page.evaluate("navigator.clipboard.readText()") == report(TROUBLED)


async def test_without_a_clipboard_the_report_is_there_to_be_selected(browser: BrowserContext) -> None:
    """Browsers have none on plain http to anything but localhost."""
    await browser.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    async with served(lambda: TROUBLED) as url:
        page, _ = await opened(browser, url)

        await page.locator("#copy").click()

        await expect(page.locator("#text")).to_have_value(report(TROUBLED))


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious_and_a_phone_does_not_scroll_sideways(
    program: Browser, scheme: Literal["light", "dark"]
) -> None:
    if not AXE.exists():
        lacking("axe-core is not installed: run `make test`")
    async with (
        served(lambda: replace(TROUBLED, environments=[*TROUBLED.environments, *MANY])) as url,
        await program.new_context(
            color_scheme=scheme, viewport={"width": 360, "height": 800}, bypass_csp=True
        ) as browser,
    ):
        page, _ = await opened(browser, url)
        await page.locator("summary").first.click()
        await page.add_script_tag(path=AXE)

        found = json.loads(await page.evaluate("axe.run().then(JSON.stringify)"))

        serious = [each for each in found["violations"] if each["impact"] in {"serious", "critical"}]
        assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == []
        assert len(found["passes"]) > 10
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
