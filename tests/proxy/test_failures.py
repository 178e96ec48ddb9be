"""What callers see when Flagsmith, or their own request, is broken: 502, 504 or 400, never an invented answer."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from tests.proxy.conftest import Bench, StartProxy
from tests.proxy.raw import Message, RawFlagsmith, ask, read_body, say

IDENTITY = ask(b"/api/v1/identities/?identifier=lovelace", b"X-Environment-Key: client-key")


def error(answer: Message) -> tuple[int, str]:
    """Status and word of an answer of the relay's own, once it is seen that it is one."""
    content = json.loads(answer.body)
    assert content["relay"] == "flagsmith-heap-relay"
    assert answer["Content-Type"] == [b"application/json"]
    assert answer["Cache-Control"] == [b"no-store"]
    for secret in (b"lovelace", b"client-key", b"127.0.0.1", b"identities"):
        assert secret not in answer.body
    return answer.status, content["error"]


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that neither accepts nor refuses: its queue of connections is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_a_refused_connection_is_502(start_proxy: StartProxy) -> None:
    async with start_proxy("http://127.0.0.1:1") as bench:
        assert error(await bench.ask(IDENTITY)) == (502, "upstream_connect_failed")
        assert bench.count("upstream_errors_total", reason="connect_failed") == 1
        assert bench.count("requests_total", environment="tests", endpoint="identities", status_class="5xx") == 1


async def test_a_name_that_does_not_resolve_is_502(start_proxy: StartProxy) -> None:
    """Pitfall 10."""
    async with start_proxy("http://no-such-host.invalid", upstream={"connect_timeout": "20s"}) as bench:
        assert error(await bench.ask(IDENTITY)) == (502, "upstream_dns_failed")


async def test_a_connection_that_never_comes_about_is_504(start_proxy: StartProxy) -> None:
    """Pitfall 8."""
    with silent_port() as port:
        async with start_proxy(f"http://127.0.0.1:{port}", upstream={"connect_timeout": "100ms"}) as bench:
            assert error(await bench.ask(IDENTITY)) == (504, "upstream_connect_timeout")


async def test_an_answer_that_never_comes_is_504(flagsmith_raw: RawFlagsmith, start_proxy: StartProxy) -> None:
    """Pitfall 8. The request may have had its effect, so it is not sent again."""
    flagsmith_raw.script.append(b"")

    async with start_proxy(flagsmith_raw.url, upstream={"read_timeout": "100ms"}) as bench:
        assert error(await bench.ask(IDENTITY)) == (504, "upstream_read_timeout")
    assert len(flagsmith_raw.requests) == 1


async def test_an_upload_that_flagsmith_does_not_take_is_504(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    """Pitfall 24: a wait for a full buffer has an end, too."""
    done = asyncio.Event()

    async def read_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await done.wait()

    flagsmith_raw.script.append(read_nothing)
    async with start_proxy(flagsmith_raw.url, upstream={"read_timeout": "100ms"}) as bench:
        async with await bench.caller() as caller:
            caller.writer.write(ask(b"/", method=b"POST", body=b"x" * 20_000_000))
            assert error(await caller.answer()) == (504, "upstream_read_timeout")
        done.set()


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ],
    ids=["no-http", "two-framings", "transfer-coding", "long-header", "nul", "length", "chunk"],
)
async def test_an_unreadable_answer_is_502(bench: Bench, flagsmith_raw: RawFlagsmith, answer: bytes) -> None:
    """Pitfall 19: not 500, and nothing of the answer is repeated."""
    flagsmith_raw.script.append(answer)

    assert error(await bench.ask(IDENTITY)) == (502, "upstream_unreadable")


async def test_long_answer_headers_within_reason_pass(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 19: aiohttp's own limits are 8,190 bytes and 128 fields."""
    flagsmith_raw.script.append(say(b"", b"X-Long: " + b"x" * 60_000, *[b"X-%d: y" % n for n in range(300)]))

    answer = await bench.ask(ask())

    assert (answer.status, len(answer.headers)) == (200, 302)


async def drop(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Close without an answer."""
    raise ConnectionResetError


async def test_a_connection_that_dies_without_an_answer_is_502(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 6: it was no reused one, so the request may have had its effect, and is not sent again."""
    flagsmith_raw.script.append(drop)

    assert error(await bench.ask(IDENTITY)) == (502, "upstream_reset")
    assert len(flagsmith_raw.requests) == 1
    assert bench.count("upstream_repeats_total") == 0


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
async def test_a_get_whose_reused_connection_died_is_sent_once_more(
    bench: Bench, flagsmith_raw: RawFlagsmith, method: bytes
) -> None:
    """Pitfall 6: both sides keep connections, and one of them closes first."""
    flagsmith_raw.script.extend([say(b""), drop])
    await bench.ask(ask())

    async with await bench.caller() as caller:
        answer = await caller.ask(ask(b"/second", method=method))

    assert answer.status == 200
    assert [request.target for request in flagsmith_raw.requests] == [b"/", b"/second", b"/second"]
    assert bench.count("upstream_repeats_total") == 1


async def test_a_get_is_sent_no_third_time(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    flagsmith_raw.script.extend([say(b""), drop, drop])
    await bench.ask(ask())

    assert error(await bench.ask(ask(b"/second"))) == (502, "upstream_reset")
    assert len(flagsmith_raw.requests) == 3


@pytest.mark.parametrize(
    ("method", "body"),
    [(b"POST", b"{}"), (b"PUT", b"{}"), (b"GET", b"{}"), (b"POST", None), (b"DELETE", None), (b"PATCH", None)],
)
async def test_what_has_effects_or_a_body_is_never_sent_twice(
    bench: Bench, flagsmith_raw: RawFlagsmith, method: bytes, body: bytes | None
) -> None:
    """Pitfall 6: aiohttp itself would repeat PUT and DELETE. POST identities writes traits."""
    flagsmith_raw.script.extend([say(b""), drop])
    await bench.ask(ask())

    assert error(await bench.ask(ask(b"/second", method=method, body=body))) == (502, "upstream_reset")
    assert len(flagsmith_raw.requests) == 2


async def test_half_an_answers_head_is_not_repeated(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        writer.close()
        await writer.wait_closed()
        raise ConnectionResetError

    flagsmith_raw.script.extend([say(b""), half])
    await bench.ask(ask())

    assert error(await bench.ask(ask(b"/second"))) == (502, "upstream_reset")
    assert len(flagsmith_raw.requests) == 2


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n",
    ],
)
@pytest.mark.parametrize("key", [b"client-key", b"unknown"])
async def test_a_truncated_answer_is_truncated_for_the_caller_too(
    bench: Bench, flagsmith_raw: RawFlagsmith, head: bytes, key: bytes
) -> None:
    """Pitfall 20: never padded, and not captured."""
    seen = asyncio.Event()

    async def truncate(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head.replace(b"200 OK", b"200 OK\r\nContent-Type: application/json") + b'{"fl')
        await seen.wait()
        raise ConnectionResetError

    flagsmith_raw.script.append(truncate)
    async with await bench.caller() as caller:
        caller.writer.write(ask(b"/api/v1/identities/?identifier=ada", b"X-Environment-Key: " + key))
        await caller.reader.readuntil(b'{"fl')
        seen.set()

        assert not (await caller.rest()).endswith(b"0\r\n\r\n")

    assert bench.count("upstream_errors_total", reason="truncated") == 1
    assert await bench.captured() == []


async def test_an_answer_that_breaks_in_the_middle_ends_at_once(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """aiohttp closes such a connection and forgets who reads from it."""
    seen = asyncio.Event()

    async def break_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await seen.wait()
        writer.write(b"ZZ\r\n")
        await reader.read()

    flagsmith_raw.script.append(break_chunks)
    async with await bench.caller() as caller:
        caller.writer.write(ask())
        await caller.reader.readuntil(b"abc\r\n")
        seen.set()

        assert await caller.rest() == b""


async def test_an_answer_until_close_that_ends_in_a_reset_is_cut_for_the_caller(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """Pitfall 20: only the manner of its end tells a whole answer from half of one."""
    seen = asyncio.Event()

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf of")
        await seen.wait()
        linger = b"\1\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raise ConnectionResetError

    flagsmith_raw.script.append(reset)
    async with await bench.caller() as caller:
        caller.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await caller.reader.readuntil(b"half of")
        seen.set()

        with pytest.raises(ConnectionResetError):
            await caller.rest()


async def test_above_max_in_flight_is_502_at_once(flagsmith_raw: RawFlagsmith, start_proxy: StartProxy) -> None:
    """Pitfall 8: never a wait, and never 503, which one SDK repeats without limit."""
    answer_now = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer_now.wait()
        writer.write(say(b"late"))

    flagsmith_raw.script.append(wait)
    async with start_proxy(flagsmith_raw.url, upstream={"max_in_flight": 1}) as bench:
        async with await bench.caller() as slow:
            slow.writer.write(IDENTITY)
            await flagsmith_raw.until(lambda: len(flagsmith_raw.requests) == 1)
            assert bench.count("in_flight") == 1

            assert error(await bench.ask(IDENTITY)) == (502, "upstream_busy")
            answer_now.set()
            assert (await slow.answer()).body == b"late"

        assert (await bench.ask(IDENTITY)).status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: lovelace\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: lovelace\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /?identifier=lovelace HTTP/9\r\nHost: h\r\n\r\n",
        b"GET /?lovelace=\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /?lovelace=\xc3\xbc HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /lovelace\xff HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Lovelace: a\x00b\r\nHost: h\r\n\r\n",
        b"LOVELACE / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00lovelace",
    ],
)
async def test_an_unreadable_request_gets_400_in_our_own_words(
    bench: Bench, flagsmith_raw: RawFlagsmith, request_bytes: bytes
) -> None:
    """Pitfall 25: aiohttp would repeat the request's bytes to its sender and in the log."""
    with capture_logs() as lines:
        async with await bench.caller() as caller:
            answer = await caller.ask(request_bytes)
            assert await caller.rest() == b""

    assert error(answer) == (400, "request_unreadable")
    assert "lovelace" not in str(lines).lower()
    assert flagsmith_raw.connections == []


async def test_a_body_in_another_transfer_coding_than_chunked_gets_400(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """It would go on without saying how it is coded."""
    head = ask(b"/", b"Transfer-Encoding: gzip, chunked", method=b"POST")

    assert error(await bench.ask(head + b"3\r\nabc\r\n0\r\n\r\n")) == (400, "request_transfer_coding")

    assert flagsmith_raw.connections == []


async def test_a_long_header_gets_400_and_the_limit_is_ours_to_set(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    """Pitfall 19."""
    long = ask(b"/", b"X: " + b"x" * 30_000)
    async with start_proxy(flagsmith_raw.url, listen={"max_header_bytes": "32KiB"}) as bench:
        assert (await bench.ask(long)).status == 200
    async with start_proxy(flagsmith_raw.url, listen={"max_header_bytes": "16KiB"}) as bench:
        assert error(await bench.ask(long)) == (400, "request_head_too_large")


async def test_a_body_that_stops_to_arrive_is_let_go(flagsmith_raw: RawFlagsmith, start_proxy: StartProxy) -> None:
    """Neither a caller that went silent nor chunks that cannot be parsed hold a request to Flagsmith for ever."""

    async def wait_for_all(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_body(reader, flagsmith_raw.requests[0].headers)

    flagsmith_raw.script.append(wait_for_all)
    async with start_proxy(flagsmith_raw.url, listen={"idle_timeout": "200ms"}) as bench:
        async with await bench.caller() as caller:
            caller.writer.write(ask(b"/", b"Content-Length: 9", method=b"POST") + b"abc")

            answer = await caller.answer()
            assert (error(answer), answer["Connection"]) == ((408, "request_body_timeout"), [b"close"])
        await flagsmith_raw.until(lambda: flagsmith_raw.open == 0)


@pytest.mark.parametrize("good", [b"", b"2\r\nhi\r\n"])
async def test_a_body_that_turns_out_to_be_broken_is_refused_at_once(
    bench: Bench, flagsmith_raw: RawFlagsmith, good: bytes
) -> None:
    """Its head is on its way by then; to wait for the rest would keep a place at Flagsmith taken."""
    async with await bench.caller() as caller:
        caller.writer.write(ask(b"/", b"Transfer-Encoding: chunked", method=b"POST"))
        await flagsmith_raw.until(lambda: flagsmith_raw.open == 1)

        caller.writer.write(good + b"-2\r\nhi\r\n")

        answer = await caller.answer()
        assert (error(answer), answer["Connection"]) == ((400, "request_body_unreadable"), [b"close"])
        assert await caller.rest() == b""
    await flagsmith_raw.until(lambda: flagsmith_raw.open == 0)
    assert flagsmith_raw.requests == []


async def test_where_requests_are_many_a_body_that_stops_to_arrive_is_let_go_soon(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else callers that went away in the middle of a body keep those out that ask for flags."""
    monkeypatch.setattr("relay.proxy.HURRIED_SECONDS", 0.1)
    half = ask(b"/", b"Content-Length: 6", method=b"POST") + b"abc"
    start = start_proxy(flagsmith_raw.url, upstream={"max_in_flight": 2})
    async with start as bench, await bench.caller() as slow, await bench.caller() as second:
        slow.writer.write(half)
        await flagsmith_raw.until(lambda: flagsmith_raw.open == 1)
        second.writer.write(half)

        assert error(await second.answer()) == (408, "request_body_timeout")
        assert (await bench.ask(IDENTITY)).status == 200
        slow.writer.write(b"def")
        assert (await slow.answer()).status == 200


async def test_an_idle_connection_is_closed_when_it_is_set_so(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    """Pitfall 7: aiohttp's own is an hour."""
    start = start_proxy(flagsmith_raw.url, listen={"idle_timeout": "100ms"})
    async with start as bench, await bench.caller() as caller:
        await caller.ask(ask())

        assert await caller.rest() == b""


async def test_one_log_line_per_failed_request_names_nobody(start_proxy: StartProxy) -> None:
    """Pitfall 25: the identifier stands in the query, and the key is a secret."""
    async with start_proxy("http://127.0.0.1:1") as bench:
        with capture_logs() as lines:
            await bench.ask(IDENTITY)

    [line] = lines
    assert {name: line[name] for name in ("event", "reason", "endpoint", "environment", "method")} == {
        "event": "upstream.failed",
        "reason": "connect_failed",
        "endpoint": "identities",
        "environment": "tests",
        "method": "GET",
    }
    assert "lovelace" not in str(line)
    assert "client-key" not in str(line)
