"""Requests and answers that HTTP allows, made by hypothesis."""

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import strategies as st

VISIBLE = bytes(range(0x21, 0x7F))
# What a server may read as the end of a path, or as no part of it, stays out of it: a fragment is never sent.
TARGETS = st.text([chr(each) for each in VISIBLE if each != ord("#")], max_size=40).map(
    lambda text: f"/{text}".encode()
)
NAMES = st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_", min_size=1, max_size=12).map(lambda text: f"X-F-{text}")
VALUES = st.binary(max_size=30).map(lambda raw: bytes(each for each in raw if each >= 0x20 and each != 0x7F).strip())
HEADERS = st.lists(st.tuples(NAMES.map(str.encode), VALUES), max_size=6)
BODIES = st.binary(max_size=400)


@dataclass(frozen=True, slots=True)
class Sent:
    """One message and its framing: None is none, numbers are where its chunks end."""

    first_line: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    cuts: tuple[int, ...] | None

    @property
    def raw(self) -> bytes:
        """As it goes over the wire."""
        lines = [self.first_line, *(b"%b: %b" % header for header in self.headers), self._framing]
        return b"\r\n".join([*(line for line in lines if line), b"", self._framed])

    @property
    def _framing(self) -> bytes:
        if self.cuts is not None:
            return b"Transfer-Encoding: chunked"
        return b"Content-Length: %d" % len(self.body) if self.body else b""

    @property
    def _framed(self) -> bytes:
        if self.cuts is None:
            return self.body
        ends = sorted({0, *(cut % (len(self.body) + 1) for cut in self.cuts), len(self.body)})
        chunks = [self.body[start:end] for start, end in pairwise(ends)]
        return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


CUTS = st.one_of(st.none(), st.lists(st.integers(0, 400), max_size=4).map(tuple))


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """A request with whatever a caller may say."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"]))
    headers = ((b"Host", b"relay.local"), *draw(HEADERS))
    return Sent(method + b" " + draw(TARGETS) + b" HTTP/1.1", headers, draw(BODIES), draw(CUTS))


@st.composite
def answers(draw: st.DrawFn) -> Sent:
    """An answer with whatever Flagsmith may say."""
    status = draw(st.sampled_from([b"200 OK", b"201 Made", b"301 Gone", b"404 No", b"418 ", b"500 Oh", b"503 \xff"]))
    answer = Sent(b"HTTP/1.1 " + status, tuple(draw(HEADERS)), draw(BODIES), draw(CUTS))
    return answer if answer.body or answer.cuts is not None else Sent(answer.first_line, answer.headers, b"", ())


@st.composite
def in_pieces(draw: st.DrawFn, raw: bytes) -> list[bytes]:
    """*raw* as it may arrive: whole, or in a few pieces."""
    ends = sorted({0, *draw(st.lists(st.integers(0, len(raw)), max_size=5)), len(raw)})
    return [raw[start:end] for start, end in pairwise(ends)]


@st.composite
def broken(draw: st.DrawFn, raw: bytes) -> bytes:
    """*raw* with a few bytes changed, left out, doubled, or replaced by what HTTP finds special."""
    special = st.sampled_from(
        [b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\xff", b"\r\n\r\n", b"0", b"HTTP/1.0", b"\t"]
    )
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 20)))
        piece = draw(st.one_of(special, st.just(raw[start:end] * 2), st.binary(max_size=5), st.just(b"")))
        raw = raw[:start] + piece + raw[end:]
    return raw
