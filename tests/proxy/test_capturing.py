"""Which calls capture gets to see, and that nothing it does is felt by a caller."""

import asyncio
import hashlib
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.capture import Capture
from relay.capture.recording import Recording
from relay.model import Book, Environment, Event, Exchange
from tests.proxy.conftest import Bench, StartProxy
from tests.proxy.raw import RawFlagsmith, ask, say

JSON = b"Content-Type: application/json"
PATH = b"/api/v1/identities/?identifier=ada"
FLAG = {"feature": {"name": "banner", "id": 1, "type": "STANDARD"}, "enabled": True, "feature_state_value": "blue"}
FLAGS = json.dumps({"identifier": "ada", "flags": [FLAG], "traits": []}).encode()


def identify(target: bytes = PATH, *headers: bytes, key: bytes = b"client-key", **more: Any) -> bytes:
    return ask(target, b"X-ENVIRONMENT-key: " + key, *headers, **more)


def facts(event: Event) -> tuple[str, str, dict[str, Any]]:
    content = json.loads(event.body)
    return event.environment, event.identity, content["properties"]


async def test_an_identity_call_is_captured_with_its_answers_bytes_untouched(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    flagsmith_raw.script.append(say(FLAGS, JSON))

    answer = await bench.ask(identify())

    [event] = await bench.captured()
    assert answer.body == FLAGS
    assert facts(event) == ("tests", "ada", {"banner": "blue"})
    assert bench.count("requests_total", environment="tests", endpoint="identities", status_class="2xx") == 1
    assert bench.count("captured_total", environment="tests") == 1


async def test_a_post_is_captured_with_the_identity_its_body_names(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Older cores do not repeat the identity."""
    flagsmith_raw.script.append(say(json.dumps({"flags": [FLAG]}).encode(), JSON))
    body = b'{"identifier": "grace", "traits": []}'

    await bench.ask(identify(b"/api/v1/identities/", JSON, method=b"POST", body=body))

    assert [facts(event)[1] for event in await bench.captured()] == ["grace"]


async def test_a_chunked_answer_in_many_pieces_is_captured_whole(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    pieces = [FLAGS[at : at + 7] for at in range(0, len(FLAGS), 7)]

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    flagsmith_raw.script.append(drip)

    answer = await bench.ask(identify())

    assert answer.body == FLAGS
    assert len(await bench.captured()) == 1


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (identify(), say(FLAGS, JSON, status=b"500 Oops")),
        (identify(), say(b"", JSON, status=b"204 None").replace(b"Content-Length: 0\r\n", b"")),
        (identify(method=b"HEAD"), say(FLAGS, JSON)),
        (identify(method=b"OPTIONS"), say(b"", JSON)),
        (identify(b"/api/v1/flags/"), say(b"[]", JSON)),
        (identify(b"/api/v1/environments/x/identities/"), say(FLAGS, JSON)),
        (ask(PATH), say(FLAGS, JSON)),
        (identify(PATH, b"X-Environment-Key: other"), say(FLAGS, JSON)),
    ],
    ids=["500", "204", "head", "preflight", "flags", "admin", "no-key", "two-keys"],
)
async def test_whatever_is_no_answered_identity_call_is_not_captured(
    bench: Bench, flagsmith_raw: RawFlagsmith, request_bytes: bytes, answer: bytes
) -> None:
    flagsmith_raw.script.append(answer)

    await bench.ask(request_bytes)

    assert await bench.captured() == []
    assert bench.count("captured_total", environment="tests") == 0
    assert bench.capture.memory.held == 0


async def test_an_answer_that_is_not_json_is_skipped(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Core renders HTML for who prefers it."""
    flagsmith_raw.script.append(say(b"<html>", b"Content-Type: text/html"))

    await bench.ask(identify())

    assert bench.count("skipped_total", environment="tests", reason="not_flags") == 1
    assert bench.capture.memory.held == 0


async def test_what_another_relay_captured_is_forwarded_and_skipped(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    flagsmith_raw.script.extend([say(FLAGS, JSON), say(b"", status=b"401 No")])
    via = b"Via: 1.1 flagsmith-heap-relay-00000000"

    answer = await bench.ask(identify(PATH, via))
    await bench.ask(identify(PATH, via))

    assert answer.body == FLAGS
    assert await bench.captured() == []
    assert bench.count("skipped_total", environment="tests", reason="already_captured") == 1
    assert bench.count("captured_total", environment="tests") == 1


async def test_an_unknown_key_is_forwarded_counted_and_named_once_by_its_hash(bench: Bench) -> None:
    with capture_logs() as lines:
        for _ in range(3):
            assert (await bench.ask(identify(key=b"ser.secret"))).status == 200

    named = [line["sha256"] for line in lines if line["event"] == "environment.unknown"]
    assert named == [hashlib.sha256(b"ser.secret").hexdigest()[:8]]
    assert "ser.secret" not in str(lines)
    assert bench.count("unknown_keys_total") == 3
    assert bench.count("requests_total", environment="unknown", endpoint="identities", status_class="2xx") == 3


async def test_a_call_without_a_key_names_no_unknown_one(bench: Bench) -> None:
    await bench.ask(ask(PATH))

    assert bench.count("unknown_keys_total") == 0


async def test_at_most_a_thousand_unknown_keys_are_named(bench: Bench) -> None:
    with capture_logs() as lines:
        async with await bench.caller() as caller:
            for number in range(1010):
                await caller.ask(identify(key=b"%d" % number))

    assert len([line for line in lines if line["event"] == "environment.unknown"]) == 1000


async def test_environments_can_be_exchanged_while_running(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    flagsmith_raw.script.extend([say(FLAGS, JSON)] * 2)
    [environment] = bench.proxy.environments.values()

    bench.proxy.serve({"new-key": environment})
    await bench.ask(identify())
    await bench.ask(identify(key=b"new-key"))

    assert len(await bench.captured()) == 1


@pytest.mark.parametrize("flood", [1, 300_000])
async def test_after_a_200_the_rest_is_captured_though_the_caller_left(
    bench: Bench, flagsmith_raw: RawFlagsmith, flood: int
) -> None:
    """Pitfall 11: Flagsmith's own integration would have sent it, too. Also where writing to the caller is stuck."""
    gone = asyncio.Event()
    body = FLAGS + b" " * flood

    async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:10])
        await gone.wait()
        writer.write(body[10:])
        await writer.drain()

    flagsmith_raw.script.append(slow)
    async with await bench.caller() as caller:
        caller.writer.write(identify())
        await caller.reader.readuntil(body[:10])
    while bench.count("in_flight"):
        await asyncio.sleep(0.001)
    gone.set()

    assert [facts(event)[1] for event in await bench.captured()] == ["ada"]


async def test_after_a_200_the_rest_is_captured_though_the_caller_stopped_to_read(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    flagsmith_raw.script.append(say(FLAGS + b" " * 2**24, JSON))

    start = start_proxy(
        flagsmith_raw.url,
        listen={"idle_timeout": "100ms"},
        capture={"max_answer": "32MiB", "max_decoded": "32MiB", "memory": "64MiB"},
    )
    async with start as bench, await bench.caller() as caller:
        caller.stop_reading()
        caller.writer.write(identify())
        async with asyncio.timeout(10):
            while not bench.count("callers_stalled_total"):
                await asyncio.sleep(0.01)

        assert [facts(event)[1] for event in await bench.captured()] == ["ada"]


async def test_the_rest_for_nobody_is_read_only_to_the_bound(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    gone = asyncio.Event()

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n\r\n{")
        await gone.wait()
        while True:
            writer.write(b" " * 65536)
            await writer.drain()

    flagsmith_raw.script.append(endless)
    async with start_proxy(flagsmith_raw.url, capture={"max_answer": "256KiB"}) as bench:
        async with await bench.caller() as caller:
            caller.writer.write(identify())
            await caller.reader.readuntil(b"{")
        gone.set()
        await flagsmith_raw.until(lambda: flagsmith_raw.open == 0)

        assert await bench.captured() == []
        assert bench.count("refused_total", environment="tests", reason="too_large") == 1


async def test_a_full_copy_memory_is_refused_and_flags_pass(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    flagsmith_raw.script.append(say(FLAGS + b" " * 100_000, JSON))

    async with start_proxy(flagsmith_raw.url, capture={"memory": "64KiB"}) as bench:
        answer = await bench.ask(identify())

        assert answer.body == FLAGS + b" " * 100_000
        assert bench.count("refused_total", environment="tests", reason="memory") == 1


class BrokenCapture(Capture):
    """Has the bug that nobody found."""

    def begin(self, environment: Environment, *_: str) -> Recording:
        raise RuntimeError(environment.name)

    def skip(self, environment: Environment, reason: str) -> None:
        raise RuntimeError(environment.name, reason)


@pytest.mark.parametrize("headers", [[], [b"Via: 1.1 flagsmith-heap-relay-00000000"]])
async def test_a_bug_in_capture_is_counted_and_flags_go_on(
    bench: Bench, flagsmith_raw: RawFlagsmith, headers: list[bytes]
) -> None:
    """Design: nothing in the capture half fails a flag request."""
    flagsmith_raw.script.append(say(FLAGS, JSON))
    bench.capture.__class__ = BrokenCapture

    with capture_logs() as lines:
        answer = await bench.ask(identify(PATH, *headers))

    assert (answer.status, answer.body) == (200, FLAGS)
    assert bench.count("capture_failures_total") == 1
    assert [line["event"] for line in lines] == ["capture.failed"]
    assert await bench.book() == Book(captured=1, refused={"undecodable": 1})


class NoMemory(Capture):
    """Gets none from the system at the moment that a test chooses."""

    def begin(self, environment: Environment, *request: str) -> Recording:
        recording = super().begin(environment, *request)
        recording.__class__ = NoMemoryToCopy
        return recording


class NoMemoryToCopy(Recording):
    __slots__ = ()

    def answer_chunk(self, chunk: bytes) -> None:
        raise MemoryError(len(chunk))


async def test_an_answer_that_there_was_no_memory_to_copy_is_refused_in_the_books(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    flagsmith_raw.script.append(say(FLAGS, JSON))
    bench.capture.__class__ = NoMemory

    answer = await bench.ask(identify())

    assert answer.body == FLAGS
    assert await bench.book() == Book(captured=1, refused={"memory": 1})
    assert bench.capture.memory.held == 0


async def test_an_answer_that_never_became_whole_is_in_no_book_though_it_could_not_be_copied(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    async def truncate(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(say(FLAGS, JSON)[:-1])
        await writer.drain()
        raise ConnectionResetError

    flagsmith_raw.script.append(truncate)
    bench.capture.__class__ = NoMemory

    async with await bench.caller() as caller:
        caller.writer.write(identify())
        await caller.rest()

    assert await bench.book() == Book()


async def test_an_answer_that_is_no_evaluation_is_in_no_book_though_it_could_not_be_copied(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    flagsmith_raw.script.append(say(FLAGS, JSON, status=b"500 Oops"))
    bench.capture.__class__ = BrokenCapture

    await bench.ask(identify())

    assert await bench.book() == Book()


class BrokenOffer(Capture):
    """Has a bug where an exchange is handed over."""

    def offer(self, exchange: Exchange, size: int) -> None:
        raise RuntimeError(exchange.target, size)


async def test_a_bug_where_a_copy_is_handed_over_keeps_none_of_its_memory(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    flagsmith_raw.script.append(say(FLAGS, JSON))
    bench.capture.__class__ = BrokenOffer

    answer = await bench.ask(identify())

    assert answer.body == FLAGS
    assert bench.count("capture_failures_total") == 1
    assert bench.capture.memory.held == 0
    assert await bench.book() == Book(captured=1, refused={"undecodable": 1})


BEFORE = {"commit": "before_answer", "commit_timeout": "200ms"}


@pytest.mark.parametrize("chunked", [True, False])
async def test_before_answer_holds_the_last_bytes_until_the_commit(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy, chunked: bool
) -> None:
    """A caller that has the whole answer knows that its event is in the outbox."""
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(FLAGS)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(FLAGS), FLAGS) if chunked else FLAGS
    flagsmith_raw.script.append(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n" + framing + b"\r\n\r\n" + body)

    async with start_proxy(flagsmith_raw.url, outbox=BEFORE) as bench:
        answer = await bench.ask(identify())
        book = (await bench.outbox.books())["tests"]

        assert answer.body == FLAGS
        assert book.waiting == 1
        assert bench.count("commit_timeouts_total") == 0


@pytest.mark.parametrize("chunked", [True, False])
async def test_before_answer_waits_no_longer_than_its_time_out(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy, chunked: bool
) -> None:
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(FLAGS)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(FLAGS), FLAGS) if chunked else FLAGS
    flagsmith_raw.script.append(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n" + framing + b"\r\n\r\n" + body)

    async with start_proxy(flagsmith_raw.url, capturing=False, outbox=BEFORE) as bench:
        began = asyncio.get_running_loop().time()
        answer = await bench.ask(identify())

        assert 0.15 < asyncio.get_running_loop().time() - began < 2
        assert answer.body == FLAGS
        assert bench.count("commit_timeouts_total") == 1


async def test_before_answer_delays_no_other_calls(flagsmith_raw: RawFlagsmith, start_proxy: StartProxy) -> None:
    flagsmith_raw.script.extend(
        [say(b"[]", JSON), say(b"no", status=b"401 No"), say(b"<p>", b"Content-Type: text/html")]
    )

    async with start_proxy(flagsmith_raw.url, capturing=False, outbox={**BEFORE, "commit_timeout": "20s"}) as bench:
        answers = [await bench.ask(request) for request in (identify(b"/api/v1/flags/"), identify(), identify())]

    assert [answer.body for answer in answers] == [b"[]", b"no", b"<p>"]


async def test_an_answer_is_whole_before_anybody_reads_it(flagsmith_raw: RawFlagsmith, start_proxy: StartProxy) -> None:
    """Pitfall 26: JSON is decoded by capture's own task, later, and in slices."""
    flagsmith_raw.script.append(say(FLAGS, JSON))

    async with start_proxy(flagsmith_raw.url, capturing=False) as bench:
        assert (await bench.ask(identify())).body == FLAGS
        assert bench.capture.memory.held > 0


async def test_what_the_relay_adds_is_measured_apart_from_flagsmith(bench: Bench) -> None:
    await bench.ask(ask())

    assert bench.count("upstream_seconds_count") == bench.count("added_seconds_count") == 1
    assert 0 < bench.count("added_seconds_sum") < 1
