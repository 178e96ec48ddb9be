"""No byte of a path, query, body or header changes on its way, in either direction."""

import asyncio
import gzip
import socket

import pytest

from tests.proxy.conftest import Bench, StartProxy
from tests.proxy.raw import Caller, RawFlagsmith, ask, say

EXACT_TARGETS = [
    b"/api/v1/identities/?identifier=a%2Fb%40c&x=1+2&x=&&=&y",
    b"/a%7Eb/%2e%2e/../c/./d//e",
    b"/api/v1/flags/?",
    b"/%FF%fe?q=%FF%zz%",
    b"//evil.com/x",
    b"//user:password@evil.com:99999/x",
    b"///",
    b"/a#fragment?x",
    b"/a\\b\"<>^`{|}'",
    b"/?next=http://evil.com/",
    b"/@evil.com",
    b"/" + b"a" * 30_000,
]


@pytest.mark.parametrize("target", EXACT_TARGETS, ids=lambda target: target[:30].decode())
async def test_a_target_is_forwarded_byte_for_byte(bench: Bench, flagsmith_raw: RawFlagsmith, target: bytes) -> None:
    """Pitfalls 1 and 2: parsing and writing URLs changes them, joining them leads elsewhere."""
    answer = await bench.ask(ask(target))

    assert answer.status == 200
    assert flagsmith_raw.requests[0].target == target


async def test_a_base_path_comes_before_every_target(flagsmith_raw: RawFlagsmith, start_proxy: StartProxy) -> None:
    async with start_proxy(flagsmith_raw.url + "/flag%20smith/") as bench:
        await bench.ask(ask(b"/api/v1/flags/?x=1"))
        await bench.ask(ask(b"//evil.com/x"))
        await bench.ask(ask(b"/../../x"))

    assert [request.target for request in flagsmith_raw.requests] == [
        b"/flag%20smith/api/v1/flags/?x=1",
        b"/flag%20smith//evil.com/x",
        b"/flag%20smith/../../x",
    ]


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET http://evil.com/x HTTP/1.1",
        b"GET https://evil.com/x HTTP/1.1",
        b"CONNECT evil.com:443 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET evil HTTP/1.1",
    ],
)
async def test_a_target_that_is_no_path_gets_400_and_reaches_nobody(
    bench: Bench, flagsmith_raw: RawFlagsmith, request_line: bytes
) -> None:
    """Pitfall 2."""
    answer = await bench.ask(request_line + b"\r\nHost: evil.com\r\n\r\n")

    assert answer.status == 400
    assert b"evil" not in answer.body
    assert flagsmith_raw.connections == []


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND", b"TRACE"])
async def test_every_method_is_forwarded(bench: Bench, flagsmith_raw: RawFlagsmith, method: bytes) -> None:
    await bench.ask(ask(b"/x", method=method))

    assert flagsmith_raw.requests[0].first_line == method + b" /x HTTP/1.1"


async def test_request_headers_keep_their_bytes_spelling_order_and_repetition(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """Pitfall 14: nothing is added beside what a proxy has to add."""
    sent = [b"x-ODD: caf\xe9 \xff\xfe", b"X-Twice: 1", b"Accept: */*", b"x-twice: 2", b"Cookie: a=1", b"cookie: b=2"]

    await bench.ask(ask(b"/", *sent))

    lines = [name + b": " + value for name, value in flagsmith_raw.requests[0].headers]
    added = {b"Host", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Via"}
    assert [line for line in lines if line.partition(b":")[0] not in added] == sent


async def test_answer_headers_keep_their_bytes_spelling_order_and_repetition(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """Pitfalls 12 and 14: each Set-Cookie stays its own, and no Server, Date or Content-Type appears."""
    sent = [b"x-ODD: caf\xe9 \xff", b"Set-Cookie: a=1; Path=/", b"Vary: X_ENVIRONMENT_KEY", b"Set-Cookie: b=2"]
    flagsmith_raw.script.append(say(b"ok", *sent, status=b"299 Caf\xe9 Day"))

    answer = await bench.ask(ask())

    assert answer.first_line == b"HTTP/1.1 299 Caf\xe9 Day"
    assert [name + b": " + value for name, value in answer.headers] == [*sent, b"Content-Length: 2"]


async def test_no_cookie_is_kept_between_callers(flagsmith_raw: RawFlagsmith, start_proxy: StartProxy) -> None:
    """Pitfall 12. A cookie jar would ignore a host that is an address."""
    flagsmith_raw.script.append(say(b"", b"Set-Cookie: session=ada"))

    async with start_proxy(f"http://localhost:{flagsmith_raw.port}") as bench:
        await bench.ask(ask())
        await bench.ask(ask())

    assert flagsmith_raw.requests[1]["Cookie"] == []


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd", b"deflate", b"gzip, br", b"unheard-of"])
async def test_coded_bodies_are_never_decoded(bench: Bench, flagsmith_raw: RawFlagsmith, coding: bytes) -> None:
    """Pitfalls 3 and 4: neither the request's nor the answer's, whether they decode or not."""
    body = gzip.compress(b'{"flags": []}' * 100)
    flagsmith_raw.script.append(say(body, b"Content-Encoding: " + coding))

    answer = await bench.ask(ask(b"/", b"Content-Encoding: " + coding, method=b"POST", body=body))

    assert flagsmith_raw.requests[0].body == answer.body == body
    assert flagsmith_raw.requests[0]["Content-Encoding"] == answer["Content-Encoding"] == [coding]
    assert flagsmith_raw.requests[0]["Content-Length"] == answer["Content-Length"] == [b"%d" % len(body)]


async def test_the_callers_own_accept_encoding_is_forwarded(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 3: the relay asks for no coding that the caller cannot read."""
    await bench.ask(ask())
    await bench.ask(ask(b"/", b"Accept-Encoding: gzip;q=0.3, br"))

    assert [request["Accept-Encoding"] for request in flagsmith_raw.requests] == [[], [b"gzip;q=0.3, br"]]


async def test_a_chunked_request_stays_chunked_and_whole(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 5: one framing, and trailers (pitfall 21) go nowhere."""
    head = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\nTE: trailers\r\n\r\n"

    await bench.ask(head + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-T: late\r\n\r\n")

    [request] = flagsmith_raw.requests
    assert request.body == b"abcde"
    assert request["Transfer-Encoding"] == [b"chunked"]
    assert (request["Content-Length"], request["Trailer"], request["TE"], request["X-T"]) == ([], [], [], [])


async def test_a_chunked_answer_stays_chunked_and_whole(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfalls 5 and 21: an early hint and a trailer are left out, the connection stays in step."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    flagsmith_raw.script.append(hint + head + b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: late\r\n\r\n")

    async with await bench.caller() as caller:
        answer = await caller.ask(ask())
        second = await caller.ask(ask())

    assert answer.body == b"abcde"
    assert answer.headers == [(b"Transfer-Encoding", b"chunked")]
    assert second.body == b"ok"


async def test_an_answer_that_lasts_until_close_is_framed_anew(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    async def until_close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it")
        await writer.drain()
        raise ConnectionResetError

    flagsmith_raw.script.append(until_close)

    async with await bench.caller() as caller:
        answer = await caller.ask(ask())
        second = await caller.ask(ask())

    assert (answer.body, answer["Transfer-Encoding"]) == (b"all of it", [b"chunked"])
    assert second.status == 200


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (b"204 No Content", [b"X-A: 1"]),
        (b"304 Not Modified", [b"Etag: x", b"Content-Length: 99"]),
    ],
)
async def test_an_answer_without_a_body_has_none(
    bench: Bench, flagsmith_raw: RawFlagsmith, status: bytes, headers: list[bytes]
) -> None:
    """Pitfall 18."""
    flagsmith_raw.script.append(b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"", b""]))

    async with await bench.caller() as caller:
        answer = await caller.ask(ask())
        second = await caller.ask(ask())

    assert [name + b": " + value for name, value in answer.headers] == headers
    assert second.body == b"ok"


async def test_a_head_answer_keeps_its_length_and_has_no_body(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 18."""
    flagsmith_raw.script.append(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
    flagsmith_raw.script.append(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    async with await bench.caller() as caller:
        first = await caller.ask(ask(method=b"HEAD"))
        second = await caller.ask(ask(method=b"HEAD"))
        third = await caller.ask(ask())

    assert (first["Content-Length"], second.headers, third.body) == ([b"1234"], [], b"ok")


@pytest.mark.parametrize("body", [b"", None])
async def test_an_empty_body_stays_as_it_was_declared(
    bench: Bench, flagsmith_raw: RawFlagsmith, body: bytes | None
) -> None:
    await bench.ask(ask(method=b"POST", body=body))

    [request] = flagsmith_raw.requests
    assert request["Content-Length"] == ([] if body is None else [b"0"])
    assert request["Transfer-Encoding"] == []


async def test_redirects_are_passed_on_and_never_followed(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 13."""
    flagsmith_raw.script.append(say(b"gone", b"Location: https://evil.com/", status=b"302 Found"))

    answer = await bench.ask(ask(b"/", b"Authorization: Bearer x"))

    assert (answer.status, answer["Location"], answer.body) == (302, [b"https://evil.com/"], b"gone")
    assert len(flagsmith_raw.requests) == 1


async def test_http_1_0_callers_are_answered_as_they_understand(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """They know no chunks and no Host; Flagsmith still gets one."""
    flagsmith_raw.script.append(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")

    async with await bench.caller() as caller:
        first = await caller.ask(b"GET / HTTP/1.0\r\n\r\n")
    async with await bench.caller() as caller:
        kept = await caller.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        again = await caller.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert await caller.rest() == b""

    assert (first.body, first.headers) == (b"hi", [(b"Connection", b"close")])
    assert (kept["Connection"], again["Connection"]) == ([b"keep-alive"], [b"close"])
    assert flagsmith_raw.requests[0]["Host"] == [b"127.0.0.1:%d" % flagsmith_raw.port]


async def test_pipelined_requests_are_answered_in_their_order(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    flagsmith_raw.script.extend(say(b"%d" % number) for number in range(5))

    async with await bench.caller() as caller:
        caller.writer.write(b"".join(ask(b"/%d" % number) for number in range(5)))
        bodies = [(await caller.answer()).body for _ in range(5)]

    assert bodies == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_both_sides_speak_ipv6(start_proxy: StartProxy) -> None:
    async with (
        RawFlagsmith(host="::1") as raw,
        start_proxy(raw.url, listen={"host": "::1"}) as bench,
        await Caller.at(bench.port, "::1") as caller,
    ):
        answer = await caller.ask(ask())

    assert answer.status == 200
    assert raw.requests[0]["Host"] == [b"[::1]:%d" % raw.port]
    assert raw.requests[0]["X-Forwarded-For"] == [b"::1"]
