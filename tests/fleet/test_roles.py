"""Proxies capture, senders deliver, and an outbox in Redis is between them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from relay.app import Relay
from relay.cli import main
from relay.fleet import Member
from tests.conftest import APP_ID
from tests.fleet.conftest import Fleet
from tests.outbox.servers import free_port, redis_server
from tests.processes import relay_process
from tests.test_app import identify


async def status(http: aiohttp.ClientSession, admin_url: str) -> dict[str, Any]:
    async with http.get(f"{admin_url}/status.json") as answer:
        assert answer.status == 200
        return dict(json.loads(await answer.read()))


async def test_what_a_proxy_captures_a_sender_delivers(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    async with fleet.member("proxy", "proxy") as proxy:
        await identify(http, proxy, "ada")
        assert (await proxy.outbox.books())["tests"].waiting == 1

        async with fleet.member("sender", "sender"):
            await fleet.heap.wait_for_events(1)

    assert [event.identity for event in fleet.heap.stored(APP_ID)] == ["ada"]


async def test_a_proxy_sends_nothing_itself(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    async with fleet.member("proxy", "proxy") as proxy:
        await identify(http, proxy, "ada")

        assert proxy.parts.sender.lanes() == []
        assert (await status(http, proxy.admin_url))["role"] == "proxy"
    assert fleet.heap.requests == []


async def test_a_sender_serves_no_flags_and_is_ready(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    async with fleet.member("sender", "sender") as sender:
        assert sender.url == ""
        async with http.get(f"{sender.admin_url}/readyz") as answer:
            assert answer.status == 200


async def test_a_sender_tells_nothing_of_caps_that_it_does_not_keep(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    async with fleet.member("sender", "sender", defaults={"daily_cap": {"events": 100}}) as sender:
        await sender.parts.figures.refresh()
        [environment] = (await status(http, sender.admin_url))["environments"]

    assert (environment["daily_cap"], environment["forecast"]) == (None, None)


async def test_a_daily_cap_is_that_of_all_members(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    rules = {"daily_cap": {"events": 3, "then": "stop"}}
    async with (
        fleet.member("one", "proxy", defaults=rules) as one,
        fleet.member("two", "proxy", defaults=rules) as two,
    ):
        await identify(http, two, "ada")
        for name in ("bob", "cyd"):
            await identify(http, one, name)
        await two.parts.capture.commits.daily_cap.learn()

        await identify(http, two, "dan")

        await two.parts.capture.drained()
        book = (await two.outbox.books())["tests"]
        assert (book.waiting, book.skipped) == (3, {"over_cap": 1})


async def test_each_member_tells_of_all(fleet: Fleet, http: aiohttp.ClientSession) -> None:
    """And so does the command where no relay answers."""
    paths = {role: fleet.write(role, log={"format": "json"}) for role in ("proxy", "sender")}
    async with (
        relay_process(paths["proxy"], None, "--role", "proxy") as proxy,
        relay_process(paths["sender"], None, "--role", "sender") as sender,
    ):
        for relay in (proxy, sender):
            await relay.wait_for("relay.started")
        async with asyncio.timeout(10):
            while len((told := await status(http, sender.admin_url))["members"]) < 2:
                await asyncio.sleep(0.1)
        asked = await asyncio.to_thread(CliRunner().invoke, main, ["status", "-c", str(paths["proxy"]), "--json"])

    for members in (told["members"], json.loads(asked.stdout)["members"]):
        assert sorted(member["role"] for member in members) == ["proxy", "sender"]


async def test_a_member_that_is_killed_and_comes_back_is_listed_once(fleet: Fleet) -> None:
    """Under the name that it had, as its machine and its admin port are the same."""
    path = fleet.write("proxy", log={"format": "json"}, admin={"port": free_port()})
    async with fleet.member("sender", "sender") as watcher:
        known: list[Member] = []
        for _ in range(2):
            async with relay_process(path, None, "--role", "proxy"), asyncio.timeout(15):
                while not (found := await proxies(watcher)) or found == known:
                    await asyncio.sleep(0.05)
            known = found

            assert len(known) == 1


async def proxies(relay: Relay) -> list[Member]:
    """Those that its outbox knows of."""
    return [member for member in await relay.outbox.members(now=0.0) if member.role == "proxy"]


async def test_members_name_the_outbox_that_they_share(fleet: Fleet) -> None:
    """So that a dashboard counts what is in it once."""
    async with fleet.member("one") as one, fleet.member("two") as two:
        for relay in (one, two):
            await relay.parts.figures.refresh()

        name = (await one.outbox.installation())[:12]
        for relay in (one, two):
            assert relay.registry.get_sample_value("relay_outbox_info", {"outbox": name}) == 1


@pytest.mark.parametrize("role", ["proxy", "sender"])
def test_half_a_relay_needs_an_outbox_that_others_share(tmp_path: Path, role: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("log: {level: info}\n")

    done = CliRunner().invoke(main, ["run", "-c", str(path), "--role", role])

    assert done.exit_code == 2
    said = f"--role {role} shares an outbox with others; write redis://host:6379/0 for outbox.url"
    assert said in done.output


def test_a_command_prints_its_answer_and_nothing_of_redis_settings(tmp_path: Path) -> None:
    """They are the relays' to remark on; what is printed is for machines."""
    with redis_server(tmp_path, appendonly="no") as server:
        config = tmp_path / "config.yaml"
        config.write_text(f"admin: {{port: 0}}\noutbox: {{url: 'redis://127.0.0.1:{server.port}'}}\n")

        asked = CliRunner().invoke(main, ["status", "-c", str(config), "--json"])

    assert json.loads(asked.stdout)["outbox"]["kind"] == "redis"
