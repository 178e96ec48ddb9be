"""Requests that two servers could read in two ways: none makes Flagsmith see one that the relay did not mean.

The forms are those of the literature on request smuggling (portswigger.net/web-security/request-smuggling) and of
aiohttp's own advisories.
"""

import asyncio
import time

import pytest

from tests.fuzz.ground import Ground
from tests.proxy.conftest import started
from tests.proxy.raw import PATIENCE, RawFlagsmith

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /seen HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /seen HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(SMUGGLED)
NO_CHUNKS = b"\r\n0\r\n\r\n"

REFUSED = {
    "length, then chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" + NO_CHUNKS,
    "chunks, then length": CHUNKED + b"Content-Length: 4\r\n\r\n5c\r\nGPOST\r\n0\r\n\r\n",
    "two codings": CHUNKED + b"Transfer-Encoding: identity\r\n" + NO_CHUNKS,
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n" + NO_CHUNKS,
    "a coding that is quoted": POST + b'Transfer-Encoding: "chunked"\r\n' + NO_CHUNKS,
    "a coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n" + NO_CHUNKS,
    "a coding after chunked": POST + b"Transfer-Encoding: chunked, identity\r\n" + NO_CHUNKS,
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n" + NO_CHUNKS,
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n" + NO_CHUNKS,
    "a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n" + NO_CHUNKS,
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n" + NO_CHUNKS,
    "a coding behind a bare line feed": POST + b"X: y\nTransfer-Encoding: chunked\r\n" + NO_CHUNKS,
    "two lengths": POST + b"Content-Length: 0\r\n" + LENGTH + b"\r\n",
    "one length twice": POST + LENGTH + LENGTH + b"\r\n",
    "a list of lengths": POST + LENGTH[:-2] + b", 35\r\n\r\n",
    "a length with a sign": POST + LENGTH.replace(b": ", b": +") + b"\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a hexadecimal length": POST + b"Content-Length: 0x23\r\n\r\n",
    "a length with an underscore": POST + b"Content-Length: 3_5\r\n\r\n",
    "a length without an end": POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "no length in it": POST + b"Content-Length: \r\n\r\n",
    "a space before the length's colon": POST + LENGTH.replace(b":", b" :") + b"\r\n",
    "a folded length": POST + LENGTH.replace(b": ", b":\r\n ") + b"\r\n",
    "a length behind a bare line feed": POST + b"X: y\n" + LENGTH + b"\r\n",
    "a length behind a bare carriage return": POST + b"X: y\r" + LENGTH + b"\r\n",
    "a folded header": POST + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare line feeds": POST.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n",
    "a bare line feed at the end": POST + b"Content-Length: 0\r\n\n",
    "a NUL": POST + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "a chunk's extension with a line feed": CHUNKED + b"\r\n2;a\nhi\r\n0\r\n\r\n",
    "a chunk's extension with a carriage return": CHUNKED + b"\r\n2;a\rb\r\nhi\r\n0\r\n\r\n",
    "chunks with bare line feeds": CHUNKED + b"\r\n2\nhi\n0\n\n",
    "a chunk's size with 0x": CHUNKED + b"\r\n0x2\r\nhi\r\n0\r\n\r\n",
    "a chunk's size with a sign": CHUNKED + b"\r\n-2\r\nhi\r\n0\r\n\r\n",
    "a chunk's size behind a space": CHUNKED + b"\r\n 2\r\nhi\r\n0\r\n\r\n",
    "a chunk's size without an end": CHUNKED + b"\r\nfffffffffffffffff\r\nhi\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"\r\n2\r\nhiXX0\r\n\r\n",
    "two hosts": GET + b"Host: y\r\n\r\n",
    "no host": b"GET /seen HTTP/1.1\r\n\r\n",
    "an absolute target": b"GET http://evil.com/seen HTTP/1.1\r\nHost: x\r\n\r\n",
    "an absolute target without slashes": b"GET https:evil.com/seen HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT evil.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": GET.replace(b"1.1", b"9.9") + b"\r\n",
    "a space in the target": GET.replace(b"/seen", b"/seen x") + b"\r\n",
    "tabs in the first line": GET.replace(b" ", b"\t", 2) + b"\r\n",
    "a target in UTF-8": GET.replace(b"seen", b"se\xc3\xbcn") + b"\r\n",
    "a target in no encoding": GET.replace(b"seen", b"se\xffn") + b"\r\n",
    "a name in no encoding": GET + b"X\xff: y\r\n\r\n",
    "a space in a name": GET + b"X Y: z\r\n\r\n",
    "a header without a colon": GET + b"XY\r\n\r\n",
    "a header without a name": GET + b": y\r\n\r\n",
    "a method that is none": GET.replace(b"GET", b"FROB") + b"\r\n",
    "too many headers": GET + b"".join(b"X%d: y\r\n" % number for number in range(200)) + b"\r\n",
    "a header too long": GET + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
    "a first line too long": GET.replace(b"seen", b"y" * 70_000) + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}
# What they come to at Flagsmith.
PASSED = {
    "an extension of a chunk": (CHUNKED + b'\r\n2;a=b;c="d"\r\nhi\r\n0;x\r\n\r\n', b"hi"),
    "a tab before the coding": (POST + b"Transfer-Encoding:\tchunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", b"hi"),
    "a body of a GET": (GET + LENGTH + b"\r\n" + SMUGGLED, SMUGGLED),
    "a length that Connection names": (
        POST + b"Connection: Content-Length\r\n" + LENGTH + b"\r\n" + SMUGGLED,
        SMUGGLED,
    ),
    "a coding that Connection names": (
        POST + b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"hi",
    ),
    "a value in no encoding": (GET + b"X: \xff\xfe\r\n\r\n", b""),
    "empty lines before it": (b"\r\n\r\n" + GET + b"\r\n", b""),
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_what_can_be_read_in_two_ways_is_answered_400_and_goes_nowhere(ground: Ground, request_: bytes) -> None:
    statuses, got = ground.send(request_ + SMUGGLED)

    assert statuses == [400]
    assert [message.body for message in got] == []


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_it_is_not_taken_for_a_request_either_where_it_comes_in_pieces(ground: Ground, request_: bytes) -> None:
    """The head of a broken body is on its way before the rest is seen; the rest never is."""
    pieces = [request_[at : at + 1] for at in range(len(request_))] if len(request_) < 1_000 else [request_]

    statuses, got = ground.send(*pieces, SMUGGLED)

    assert statuses in ([], [400], [408])  # none: it was gone before its sender had come to the end
    assert not any(b"smuggled" in message.first_line for message in got)
    assert ground.is_well()


@pytest.mark.parametrize(("request_", "body"), PASSED.values(), ids=PASSED)
@pytest.mark.parametrize("one_by_one", [False, True])
def test_what_can_be_read_in_one_way_arrives_as_that(
    ground: Ground, request_: bytes, body: bytes, one_by_one: bool
) -> None:
    pieces = [request_[at : at + 1] for at in range(len(request_))] if one_by_one else [request_]

    got, _ = ground.exchange(pieces)

    assert (got.first_line.split(b" ")[1], got.body) == (b"/seen", body)


@pytest.mark.parametrize("begun", [b"", b"GET /se", GET, GET + b"X: y", CHUNKED + b"\r\n2\r\nh"])
def test_who_stops_in_the_middle_is_let_go(ground: Ground, begun: bytes) -> None:
    """Slowloris: a connection that brings nothing ends after `listen.idle_timeout`, and makes no request."""
    statuses, got = ground.send(*([begun] if begun else []))

    assert statuses in ([], [408])
    assert [message.body for message in got if message.body] == []


async def test_a_head_that_drips_does_not_win_time() -> None:
    """Every header line is new, and its end never comes."""
    ends = time.monotonic() + PATIENCE
    async with (
        RawFlagsmith() as flagsmith,
        started(flagsmith.url, listen={"idle_timeout": "2s"}) as bench,
        await bench.caller() as caller,
    ):
        caller.writer.write(GET)
        while not caller.reader.at_eof() and time.monotonic() < ends:
            caller.writer.write(b"X: y\r\n")
            await asyncio.sleep(0.05)

        assert caller.reader.at_eof()
