"""Bodies of any length pass in both directions as they come, and neither side makes the relay hoard."""

import asyncio
import resource

import pytest
from structlog.testing import capture_logs

from tests.proxy.conftest import Bench, StartProxy
from tests.proxy.raw import Play, RawFlagsmith, ask, read_body, say

PIECE = b"x" * 65536
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


def endless(kind: bytes) -> Play:
    """An answer that goes on for as long as somebody takes it."""

    async def play(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n")
        while True:
            writer.write(PIECE)
            await writer.drain()

    return play


def peak_memory() -> int:
    """Bytes of this process at its largest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_events_are_passed_on_one_by_one_and_know_no_time_out(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    """Pitfall 9: an event stream may be silent for longer than any answer."""
    go_on = asyncio.Event()

    async def events(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"7\r\ndata: 1\r\n")
        await go_on.wait()
        writer.write(b"7\r\ndata: 2\r\n0\r\n\r\n")

    flagsmith_raw.script.append(events)
    start = start_proxy(flagsmith_raw.url, listen={"idle_timeout": "50ms"}, upstream={"read_timeout": "50ms"})
    async with start as bench, await bench.caller() as caller:
        caller.writer.write(ask(b"/sse/environments/x/stream"))
        await caller.reader.readuntil(b"7\r\ndata: 1\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.reader.read(1), 0.2)
        go_on.set()

        assert await caller.reader.readuntil(b"0\r\n\r\n") == b"7\r\ndata: 2\r\n0\r\n\r\n"


async def test_any_other_silence_ends_the_answer(flagsmith_raw: RawFlagsmith, start_proxy: StartProxy) -> None:
    """Pitfall 9, the other side of it; and it is cut, not ended (pitfall 20)."""
    done = asyncio.Event()

    async def half(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await done.wait()

    flagsmith_raw.script.append(half)
    async with start_proxy(flagsmith_raw.url, upstream={"read_timeout": "50ms"}) as bench:
        async with await bench.caller() as caller:
            caller.writer.write(ask())
            assert (await caller.rest()).endswith(b"\r\n\r\nhalf")

        assert bench.count("upstream_errors_total", reason="read_timeout") == 1
    done.set()


async def test_an_event_stream_ends_when_its_reader_leaves(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 9."""

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"7\r\ndata: 1\r\n")
        await reader.read()

    flagsmith_raw.script.append(events)
    async with await bench.caller() as caller:
        caller.writer.write(ask())
        await caller.reader.readuntil(b"data: 1\r\n")

    await flagsmith_raw.until(lambda: flagsmith_raw.open == 0)


async def test_a_slow_reader_slows_flagsmith_and_fills_no_memory(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 24."""
    pieces = 4000
    written = 0

    async def download(__: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (pieces * len(PIECE)))
        for _ in range(pieces):
            writer.write(PIECE)
            await writer.drain()
            written += 1

    flagsmith_raw.script.append(download)
    before = peak_memory()
    async with await bench.caller() as caller:
        caller.writer.write(ask())
        await caller.reader.readuntil(b"\r\n\r\n")
        stuck = -1
        while written != stuck:
            stuck = written
            await asyncio.sleep(0.05)
        assert written < pieces
        read = 0
        while read < pieces * len(PIECE):
            read += len(await caller.reader.read(2**20))

    assert peak_memory() - before < 64 * 2**20


@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/json"])
async def test_a_caller_that_stops_to_read_holds_nothing_of_flagsmiths(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy, kind: bytes
) -> None:
    flagsmith_raw.script.append(endless(kind))

    start = start_proxy(flagsmith_raw.url, listen={"idle_timeout": "100ms"})
    async with start as bench, await bench.caller() as caller:
        caller.stop_reading()
        caller.writer.write(ask())
        with capture_logs() as lines:
            await flagsmith_raw.until(lambda: len(flagsmith_raw.requests) == 1 and flagsmith_raw.open == 0)

        assert [line["event"] for line in lines] == ["caller.stalled"]
        assert bench.count("callers_stalled_total") == 1
        assert bench.count("in_flight") == 0
        caller.read_on()
        with pytest.raises(ConnectionResetError):
            await caller.rest()


async def test_a_caller_that_reads_slowly_has_all_its_time(
    flagsmith_raw: RawFlagsmith, start_proxy: StartProxy
) -> None:
    """Silence counts, not how long the whole takes."""
    size = 400 * len(PIECE)
    flagsmith_raw.script.append(say(b"x" * size))

    start = start_proxy(flagsmith_raw.url, listen={"idle_timeout": "300ms"})
    async with start as bench, await bench.caller() as caller:
        caller.writer.write(ask())
        await caller.reader.readuntil(b"\r\n\r\n")
        read = 0
        while read < size:
            await asyncio.sleep(0.05)
            read += len(await caller.reader.read(2**20))

        assert bench.count("callers_stalled_total") == 0


async def test_an_upload_larger_than_memory_bounds_is_streamed(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 19: aiohttp's limit of 1 MiB is for requests that are read whole."""
    pieces = 1000
    size = 0

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal size
        while size < pieces * len(PIECE):
            size += len(await reader.read(2**20))
        writer.write(say(b"%d" % size))

    flagsmith_raw.script.append(swallow)
    before = peak_memory()
    async with await bench.caller() as caller:
        caller.writer.write(ask(b"/", b"Content-Length: %d" % (pieces * len(PIECE)), method=b"PUT"))
        for _ in range(pieces):
            caller.writer.write(PIECE)
            await caller.writer.drain()
        answer = await caller.answer()

    assert answer.body == b"%d" % (pieces * len(PIECE))
    assert peak_memory() - before < 64 * 2**20


async def test_a_body_flows_before_it_is_complete(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    half_there = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        half_there.set()
        await reader.readexactly(3)
        writer.write(say(b"ok"))

    flagsmith_raw.script.append(watch)
    async with await bench.caller() as caller:
        caller.writer.write(ask(b"/", b"Content-Length: 6", method=b"POST") + b"abc")
        await half_there.wait()
        caller.writer.write(b"def")

        assert (await caller.answer()).status == 200


async def test_a_caller_that_leaves_before_the_answer_ends_the_request_to_flagsmith(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """Pitfall 11."""

    async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    flagsmith_raw.script.append(never)
    async with await bench.caller() as caller:
        caller.writer.write(ask(b"/api/v1/identities/?identifier=ada", b"X-Environment-Key: client-key"))
        await flagsmith_raw.until(lambda: len(flagsmith_raw.requests) == 1)

    await flagsmith_raw.until(lambda: flagsmith_raw.open == 0)
    assert await bench.captured() == []
    assert bench.capture.memory.held == 0


async def test_a_caller_that_leaves_in_the_middle_of_its_upload_never_looks_like_one_that_finished(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """Pitfall 11: Flagsmith must not act on half a body."""
    seen: list[bytes] = []

    async def watch(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        try:
            await read_body(reader, flagsmith_raw.requests[0].headers)
        except asyncio.IncompleteReadError as cut:
            seen.append(cut.partial)
            raise

    flagsmith_raw.script.append(watch)
    async with await bench.caller() as caller:
        caller.writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await flagsmith_raw.until(lambda: len(flagsmith_raw.requests) == 1)

    await flagsmith_raw.until(lambda: flagsmith_raw.open == 0)
    assert len(seen) == 1


async def test_at_the_end_requests_in_flight_finish_and_their_connections_close(
    bench: Bench, flagsmith_raw: RawFlagsmith
) -> None:
    """Pitfall 23: also the one whose body is still on its way."""

    async def read_and_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(6)
        writer.write(say(b"done"))

    async with await bench.caller() as caller, await bench.caller() as idle:
        await idle.ask(ask(method=b"HEAD"))
        flagsmith_raw.script.append(read_and_answer)
        caller.writer.write(ask(b"/", b"Content-Length: 6", method=b"POST") + b"abc")
        await flagsmith_raw.until(lambda: len(flagsmith_raw.requests) == 2)

        stop = asyncio.create_task(bench.stop(finish=10))
        assert await idle.rest() == b""
        caller.writer.write(b"def")
        answer = await caller.answer()

        assert (answer.body, answer["Connection"]) == (b"done", [b"close"])
        assert await caller.rest() == b""
        await stop


async def test_at_the_end_streams_are_cut_when_the_time_is_up(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 23: aiohttp alone would take twice that time."""

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS + b"7\r\ndata: 1\r\n")
        await reader.read()

    flagsmith_raw.script.append(events)
    async with await bench.caller() as caller:
        caller.writer.write(ask())
        await caller.reader.readuntil(b"data: 1\r\n")

        async with asyncio.timeout(1.0):
            await bench.stop(finish=0.2)
        assert await caller.rest() == b""


async def test_at_the_end_an_answer_until_close_that_is_cut_is_reset(bench: Bench, flagsmith_raw: RawFlagsmith) -> None:
    """Pitfall 20: only the manner of its end tells a whole answer from half of one."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nhalf of\r\n")
        await reader.read()

    flagsmith_raw.script.append(half)
    async with await bench.caller() as caller:
        caller.writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await caller.reader.readuntil(b"half of")
        await bench.stop(finish=0.05)

        with pytest.raises(ConnectionResetError):
            await caller.rest()
