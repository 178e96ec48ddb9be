"""Whatever Flagsmith answers: the caller gets it byte for byte, and capture counts it without a fault."""

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.ground import Ground
from tests.fuzz.requests import broken
from tests.proxy.conftest import KEY
from tests.proxy.raw import ask, say

GOLDEN = [json.loads(path.read_text()) for path in sorted(Path("tests/core/golden").glob("*.json"))]
CODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"": bytes,
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"br": brotli.compress,
    b"zstd": bytes,  # it is none
    b"gzip, br": gzip.compress,
}
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("x" * 2_000))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
IDENTITY = ask(b"/api/v1/identities/?identifier=ada", b"X-Environment-Key: " + KEY.encode())


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every value in *content*, by the list or mapping that it is in and its place there."""
    items = enumerate(content) if isinstance(content, list) else content.items() if isinstance(content, dict) else ()
    found = [(content, place) for place, _ in items]
    return found + [each for holder, place in found for each in places(holder[place])]


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """A real answer in which a few values are others."""
    content = json.loads(json.dumps(draw(st.sampled_from(GOLDEN))))
    for _ in range(draw(st.integers(0, 3))):
        if there := places(content):
            holder, place = draw(st.sampled_from(there))
            holder[place] = draw(VALUES)
    return json.dumps(content).encode()


@given(
    body=st.one_of(altered(), altered().flatmap(broken), st.binary(max_size=50)),
    coding=st.sampled_from([*CODINGS]),
    kind=st.sampled_from([b"application/json", b"application/json; charset=utf-16", b"text/html", b""]),
    spoil=st.booleans(),
    data=st.data(),
)
def test_any_answer_passes_and_is_captured_or_counted(
    ground: Ground, body: bytes, coding: bytes, kind: bytes, *, spoil: bool, data: st.DataObject
) -> None:
    coded = CODINGS[coding](body)
    coded = data.draw(broken(coded)) if spoil else coded
    headers = [b"Content-Type: " + kind] * bool(kind) + [b"Content-Encoding: " + coding] * bool(coding)
    captured = ground.captured()

    _, came = ground.exchange([IDENTITY], say(coded, *headers))

    assert (came.status, came.body) == (200, coded)
    assert ground.captured() == captured + 1
    assert ground.bench.count("capture_failures_total") == 0
