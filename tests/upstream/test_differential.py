"""Whatever is asked and answered, however it is framed and cut into pieces, arrives byte for byte; beside nginx too."""

import asyncio
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import nginx
from tests.proxy.conftest import started
from tests.proxy.raw import Caller, RawFlagsmith, read_body

BODILESS = {204, 304}

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and how it is framed."""

    method: bytes
    target: bytes
    headers: Fields
    # None: no body; chunks of one that has no length; or all of it.
    body: bytes | list[bytes] | None

    @property
    def whole(self) -> bytes:
        return b"".join(self.body) if isinstance(self.body, list) else self.body or b""

    def __bytes__(self) -> bytes:
        lines = [self.method + b" " + self.target + b" HTTP/1.1", b"Host: relay", *map(b": ".join, self.headers)]
        return head(lines, self.body) + (framed(self.body) if self.body is not None else b"")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, how it is framed, and where its sender pauses."""

    status: int
    reason: bytes
    headers: Fields
    # None: it lasts until the connection ends; chunks of one that has no length; or all of it.
    body: bytes | list[bytes]
    until_close: bool
    hint: bool
    cuts: list[int]

    @property
    def whole(self) -> bytes:
        return b"".join(self.body) if isinstance(self.body, list) else self.body

    async def play(self, writer: asyncio.StreamWriter, *, bodiless: bool) -> None:
        """Say it; to HEAD, and with some statuses, without a body."""
        lines = [b"HTTP/1.1 %d %b" % (self.status, self.reason), *map(b": ".join, self.headers)]
        text = head(lines, None if self.until_close else self.body)
        if not bodiless:
            text += self.whole if self.until_close else framed(self.body)
        if self.hint:
            text = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + text

        places = sorted({0, *(cut % (len(text) + 1) for cut in self.cuts), len(text)})
        for begin, end in pairwise(places):
            writer.write(text[begin:end])
            await writer.drain()
            await asyncio.sleep(0)
        if self.until_close and not bodiless:
            writer.close()
            await writer.wait_closed()
            raise ConnectionResetError


def head(lines: Sequence[bytes], body: bytes | list[bytes] | None) -> bytes:
    framing = [b"Transfer-Encoding: chunked"] if isinstance(body, list) else []
    framing += [b"Content-Length: %d" % len(body)] if isinstance(body, bytes) else []
    return b"\r\n".join([*lines, *framing, b"", b""])


def framed(body: bytes | list[bytes]) -> bytes:
    if isinstance(body, bytes):
        return body
    return b"".join(b"%X;x=y\r\n%b\r\n" % (len(piece), piece) for piece in body) + b"0\r\n\r\n"


def texts(alphabet: Sequence[int], max_size: int) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), max_size=max_size).map(bytes)


VISIBLE = range(0x21, 0x7F)
NAMES = texts(string.ascii_letters.encode() + b"-_0123456789", max_size=8).map(lambda rest: b"X-G" + rest)
VALUES = texts([0x20, *VISIBLE, *range(0x80, 0x100)], max_size=40).map(bytes.strip)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=5)
BODIES = st.binary(max_size=300) | st.integers(0, 100_000).map(lambda size: b"x" * size)
CHUNKS = st.lists(BODIES.filter(bool), max_size=4)

asked = st.builds(
    Asked,
    method=st.sampled_from([b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"PATCH", b"DELETE"]),
    target=texts(VISIBLE, max_size=60).map(lambda rest: b"/" + rest),
    headers=FIELDS,
    body=st.none() | BODIES | CHUNKS,
)
PLAIN = texts(string.ascii_letters.encode() + b"-_~/", max_size=30).map(lambda rest: b"/a" + rest + b"?a=%2F&%40=+&")
plainly_asked = asked.flatmap(lambda each: PLAIN.map(lambda target: replace(each, target=target)))
said = st.builds(
    Said,
    status=st.sampled_from([200, 201, 204, 304, 307, 400, 404, 429, 500, 503, 599]),
    reason=texts([0x20, *VISIBLE, *range(0x80, 0x100)], max_size=12).map(bytes.strip),
    headers=FIELDS,
    body=BODIES | CHUNKS,
    until_close=st.booleans(),
    hint=st.booleans(),
    cuts=st.lists(st.integers(0, 2000), max_size=5),
)
exchanges = st.lists(st.tuples(asked, said), min_size=1, max_size=12)
many = settings(max_examples=100, deadline=None)


async def carry(
    caller: Caller, flagsmith: RawFlagsmith, asked: Asked, said: Said
) -> tuple[tuple[bytes, Fields, bytes], tuple[bytes, Fields, bytes]]:
    """What comes of *asked* at Flagsmith, and of *said* at its *caller*: first line, headers, body."""
    bodiless = asked.method == b"HEAD" or said.status in BODILESS
    body = b""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal body
        body = await read_body(reader, flagsmith.requests[-1].headers)
        await said.play(writer, bodiless=bodiless)

    flagsmith.script.append(play)
    answer = await caller.ask(bytes(asked))
    request = flagsmith.requests[-1]
    return (request.first_line, ours(request.headers), body), (answer.first_line, ours(answer.headers), answer.body)


def ours(headers: Fields) -> Fields:
    return [(name, value) for name, value in headers if name.startswith(b"X-G")]


@many
@given(exchanges)
async def test_whatever_is_asked_and_answered_arrives_byte_for_byte(exchanges: list[tuple[Asked, Said]]) -> None:
    async with RawFlagsmith() as flagsmith, started(flagsmith.url) as bench, await bench.caller() as caller:
        for asked, said in exchanges:
            there, back = await carry(caller, flagsmith, asked, said)

            assert there == (asked.method + b" " + asked.target + b" HTTP/1.1", asked.headers, asked.whole)
            bodiless = asked.method == b"HEAD" or said.status in BODILESS
            first_line = b"HTTP/1.1 %d %b" % (said.status, said.reason)
            assert back == (first_line, said.headers, b"" if bodiless else said.whole)


@pytest.mark.skipif(not nginx.installed(), reason="this machine has no nginx")
@many
@given(st.lists(st.tuples(plainly_asked, said), min_size=1, max_size=12))
async def test_the_relay_and_nginx_pass_on_the_same(exchanges: list[tuple[Asked, Said]]) -> None:
    """nginx refuses some targets, so they are plain here; it takes a hint for the answer."""
    async with RawFlagsmith() as flagsmith, started(flagsmith.url) as bench, await bench.caller() as relays:
        with TemporaryDirectory() as folder, nginx.proxy(_opened(Path(folder)), flagsmith.url) as other:
            async with await Caller.at(int(other.url.rpartition(":")[2])) as nginxs:
                for asked, answer in exchanges:
                    said = replace(answer, hint=False)
                    (target, _, sent), (first_line, _, got) = await carry(relays, flagsmith, asked, said)
                    (same_target, _, same_sent), (line, _, same_got) = await carry(nginxs, flagsmith, asked, said)

                    assert (same_target, same_sent, same_got) == (target, sent, got)
                    assert line.split()[1] == first_line.split()[1]


def _opened(folder: Path) -> Path:
    """nginx's worker is another user."""
    folder.chmod(0o755)
    return folder
