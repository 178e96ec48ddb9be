"""What a proxy has to change: hop-by-hop headers, Host, X-Forwarded-*, Via, Expect, Upgrade, Location."""

import asyncio

import pytest

from relay.core.recognise import VIA
from tests.proxy.conftest import Bench, StartProxy
from tests.proxy.raw import RawFlagsmith, ask, read_body, say

HOP_BY_HOP = [
    *(b"Connection: keep-alive, X-Private", b"Keep-Alive: timeout=5", b"Proxy-Connection: x", b"TE: trailers"),
    *(b"Trailer: X-T", b"Proxy-Authorization: x", b"Proxy-Authenticate: x", b"X-Private: secret"),
]


async def test_hop_by_hop_headers_and_those_that_connection_names_stop_here(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """Pitfall 5, both ways."""
    flagsmith_raw.script.append(say(b"ok", *HOP_BY_HOP))

    answer = await bench.ask(ask(b"/", *HOP_BY_HOP))

    [request] = flagsmith_raw.requests
    for line in HOP_BY_HOP:
        name = line.partition(b":")[0].decode()
        assert (name, request[name]) == (name, [])
        assert (name, answer[name]) == (name, [])


async def test_a_callers_close_does_not_close_the_connection_to_flagsmith(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """Pitfall 14: a copied Connection: close would end pooling."""
    for _ in range(3):
        async with await bench.caller() as caller:
            answer = await caller.ask(ask(b"/", b"Connection: close"))
            assert await caller.rest() == b""
            assert answer["Connection"] == [b"close"]

    assert len(flagsmith_raw.connections) == 1


async def test_flagsmith_gets_its_own_host(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 15: a CDN knows no localhost. What the caller asked for is told apart from it."""
    await bench.ask(ask())

    assert flagsmith_raw.requests[0]["Host"] == [b"127.0.0.1:%d" % flagsmith_raw.port]
    assert flagsmith_raw.requests[0]["X-Forwarded-Host"] == [b"relay.local:18080"]


async def test_flagsmith_gets_the_callers_host_where_it_is_set_so(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    async with start_proxy(flagsmith_raw.url, upstream={"host_header": "client"}) as bench:
        await bench.ask(ask())

    assert flagsmith_raw.requests[0]["Host"] == [b"relay.local:18080"]


async def test_forwarded_headers_of_strangers_are_replaced(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 16: anybody can write them."""
    told = [b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: evil.com"]

    await bench.ask(ask(b"/", *told))

    [request] = flagsmith_raw.requests
    assert request["X-Forwarded-For"] == [b"127.0.0.1"]
    assert request["X-Forwarded-Proto"] == [b"http"]
    assert request["X-Forwarded-Host"] == [b"relay.local:18080"]


async def test_forwarded_headers_of_trusted_proxies_are_continued(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    """Pitfall 16."""
    told = [b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-For: 5.6.7.8", b"X-Forwarded-Proto: https"]

    async with start_proxy(flagsmith_raw.url, listen={"trusted_proxies": ["127.0.0.0/8"]}) as bench:
        await bench.ask(ask(b"/", *told))

    [request] = flagsmith_raw.requests
    assert request["X-Forwarded-For"] == [b"1.2.3.4, 5.6.7.8, 127.0.0.1"]
    assert request["X-Forwarded-Proto"] == [b"https"]
    assert request["X-Forwarded-Host"] == [b"relay.local:18080"]


async def test_via_is_added_once_and_after_the_others(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    await bench.ask(ask(b"/", b"Via: 1.1 vegur"))

    first, second = flagsmith_raw.requests[0]["Via"]
    assert first == b"1.1 vegur"
    assert second.startswith(b"1.1 " + VIA.encode() + b"-")
    assert len(second) == len("1.1 ") + len(VIA) + len("-1f2e3d4c")


async def test_a_request_that_passed_here_before_is_a_loop(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 16: a relay that is its own upstream would ask itself for ever."""
    await bench.ask(ask())
    [own] = flagsmith_raw.requests[0]["Via"]

    answer = await bench.ask(ask(b"/", b"Via: 1.1 other, " + own))

    assert (answer.status, b"upstream_loop" in answer.body) == (502, True)
    assert bench.count("upstream_errors_total", reason="loop") == 1
    assert len(flagsmith_raw.requests) == 1


async def test_another_relays_via_is_no_loop(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    answer = await bench.ask(ask(b"/", b"Via: 1.1 " + VIA.encode() + b"-00000000"))

    assert answer.status == 200


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"anything"])
async def test_an_upgrade_goes_on_as_a_plain_request(
    bench: Bench, flagsmith_raw: RawFlagsmith, protocol: bytes
) -> None:
    """Pitfall 22."""
    upgrade = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol, b"HTTP2-Settings: AAMAAABk"]

    async with await bench.caller() as caller:
        first = await caller.ask(ask(b"/", *upgrade))
        second = await caller.ask(ask(b"/second"))

    assert (first.status, second.status) == (200, 200)
    assert flagsmith_raw.requests[0]["Upgrade"] == flagsmith_raw.requests[0]["HTTP2-Settings"] == []


async def test_an_upgrade_that_nobody_asked_for_is_no_answer(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    flagsmith_raw.script.append(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")

    answer = await bench.ask(ask())

    assert answer.status == 502


async def test_who_expects_100_gets_it_here_and_flagsmith_never_hears_of_it(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """Pitfall 17: an upstream that never says 100 would hang the request."""
    async with await bench.caller() as caller:
        caller.writer.write(ask(b"/", b"Expect: 100-continue", b"Content-Length: 3", method=b"POST"))
        go_on = await caller.answer()
        caller.writer.write(b"abc")
        answer = await caller.answer()
        second = await caller.ask(ask())

    assert (go_on.first_line, go_on.headers) == (b"HTTP/1.1 100 Continue", [])
    assert (answer.status, second.status) == (200, 200)
    assert (flagsmith_raw.requests[0]["Expect"], flagsmith_raw.requests[0].body) == ([], b"abc")


async def test_nobody_is_told_to_go_on_where_flagsmith_cannot_be_reached(start_proxy: StartProxy) -> None:
    """The body was not asked for, so that the connection is out of step if it goes on."""
    async with start_proxy("http://127.0.0.1:1") as bench, await bench.caller() as caller:
        caller.writer.write(ask(b"/", b"Expect: 100-continue", b"Content-Length: 3", method=b"POST"))
        answer = await caller.answer()

    assert (answer.status, answer["Connection"]) == (502, [b"close"])


@pytest.mark.parametrize("body", [b"x" * 3, b"x" * 3_000_000])
async def test_an_early_answer_is_passed_on_while_the_upload_goes_on(
    bench: Bench, flagsmith_raw: RawFlagsmith, body: bytes
) -> None:
    """Who is refused at its first byte need not send the rest in vain."""
    done = asyncio.Event()

    async def refuse_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(say(b"too much", status=b"413 Too Large"))
        await writer.drain()
        await done.wait()
        await read_body(reader, flagsmith_raw.requests[0].headers)

    flagsmith_raw.script.append(refuse_early)

    async with await bench.caller() as caller:
        caller.writer.write(ask(b"/", b"Content-Length: %d" % (len(body) + 1), method=b"POST") + body)
        answer = await caller.answer()
    done.set()

    assert (answer.status, answer.body) == (413, b"too much")


async def test_a_location_that_names_flagsmith_leads_back_through_the_relay(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """The Edge Proxy makes absolute ones from the Host header, with http as their scheme."""
    there = f"Location: {flagsmith_raw.url}/api/v1/x/?a=%2F#f".encode()
    flagsmith_raw.script.append(say(b"", there, status=b"307 Temporary Redirect"))

    answer = await bench.ask(ask())

    assert answer["Location"] == [b"http://relay.local:18080/api/v1/x/?a=%2F#f"]


async def test_a_location_leads_to_the_address_that_a_trusted_proxy_says_it_has(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    there = f"Location: {flagsmith_raw.url}/flags/api/".encode()
    flagsmith_raw.script.append(say(b"", there, status=b"301 Moved"))
    told = [b"X-Forwarded-Proto: https", b"X-Forwarded-Host: flags.example.com"]

    async with start_proxy(flagsmith_raw.url + "/flags", listen={"trusted_proxies": ["127.0.0.1"]}) as bench:
        answer = await bench.ask(ask(b"/", *told))

    assert answer["Location"] == [b"https://flags.example.com/api/"]


async def test_cors_preflights_are_flagsmiths_to_answer(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """A second Access-Control-Allow-Origin would break every browser."""
    flagsmith_raw.script.append(say(b"", b"Access-Control-Allow-Origin: *", b"Access-Control-Max-Age: 86400"))
    asked = [b"Origin: https://app.example", b"Access-Control-Request-Headers: x-environment-key"]

    answer = await bench.ask(ask(b"/api/v1/identities/", *asked, method=b"OPTIONS"))

    assert answer["Access-Control-Allow-Origin"] == [b"*"]
    assert flagsmith_raw.requests[0]["Origin"] == [b"https://app.example"]
