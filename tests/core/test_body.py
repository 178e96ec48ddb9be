import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.body import MAX_MEMBERS, PIECE_BYTES, decode
from relay.errors import CaptureRefused

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b'{"identifier":"ada","flags":[]}' * 20
LIMIT = 1024 * 1024


def raw_deflate(body: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(body) + coder.flush()


def brotli_encode(body: bytes) -> bytes:
    return brotli.compress(body, quality=1)  # type: ignore[no-any-return]  # brotli has no types


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli_encode,
    "zstd": zstd.compress,
}
CODINGS = sorted(ENCODERS)


def refusal(body: bytes, coding: str, limit: int = LIMIT) -> str:
    with pytest.raises(CaptureRefused) as refused:
        decode(body, coding, limit)
    return refused.value.reason


@pytest.mark.parametrize("coding", ["", "identity", " Identity "])
def test_a_body_that_is_not_coded_stays_as_it_is(coding: str) -> None:
    assert decode(TEXT, coding, LIMIT) == TEXT


@pytest.mark.parametrize("coding", [*CODINGS, "GZip", " br "])
def test_every_coding_that_flagsmith_or_a_cdn_uses_is_decoded(coding: str) -> None:
    assert decode(ENCODERS[coding.strip().lower()](TEXT), coding, LIMIT) == TEXT


def test_deflate_without_its_zlib_header_is_decoded_too() -> None:
    assert decode(raw_deflate(TEXT), "deflate", LIMIT) == TEXT


def test_codings_are_undone_in_the_reverse_of_the_order_they_were_applied_in() -> None:
    assert decode(brotli.compress(gzip.compress(TEXT)), "gzip, br", LIMIT) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_the_parts_of_a_concatenated_stream_are_joined(coding: str) -> None:
    encode = ENCODERS[coding]

    assert decode(encode(b"one ") + encode(b"") + encode(b"two"), coding, LIMIT) == b"one two"


@pytest.mark.parametrize("coding", ["compress", "gzip, aws-chunked", "*", "gzip, gzip, gzip, gzip"])
def test_a_coding_that_is_not_known_or_too_often_applied_is_undecodable(coding: str) -> None:
    assert refusal(TEXT, coding) == "undecodable"


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("kept", [0, 1, 5, -5, -1])
def test_a_truncated_body_is_undecodable(coding: str, kept: int) -> None:
    assert refusal(ENCODERS[coding](TEXT)[:kept], coding) == "undecodable"


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("garbage", [b"\0", b"garbage after the end", b"{}"])
def test_anything_after_the_end_makes_a_body_undecodable(coding: str, garbage: bytes) -> None:
    assert refusal(ENCODERS[coding](TEXT) + garbage, coding) == "undecodable"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_may_be_as_large_as_the_limit_and_no_byte_larger(coding: str) -> None:
    body = bytes(range(256)) * 8192

    assert decode(ENCODERS[coding](body), coding, len(body)) == body
    assert refusal(ENCODERS[coding](body), coding, len(body) - 1) == "too_large"


def test_a_plain_body_past_the_limit_is_too_large() -> None:
    assert refusal(TEXT, "", len(TEXT) - 1) == "too_large"


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_costs_little_more_memory_than_the_limit(coding: str) -> None:
    bomb = ENCODERS[coding](bytes(64 * LIMIT))

    tracemalloc.start()
    try:
        assert refusal(bomb, coding) == "too_large"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # The result grows by an eighth at a time, and the decoder makes one piece out of smaller ones.
    assert peak < LIMIT * 9 / 8 + 4 * PIECE_BYTES


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "zstd"])
def test_a_small_limit_is_found_passed_without_decoding_much_more(coding: str) -> None:
    """The event loop decodes so; brotli is not among them, as it fills its window before it gives anything."""
    bomb, small = ENCODERS[coding](bytes(64 * LIMIT)), 16 * 1024

    tracemalloc.start()
    try:
        assert refusal(bomb, coding, small) == "too_large"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 8 * small


def test_a_bomb_within_a_bomb_is_stopped_at_the_first_one() -> None:
    assert refusal(gzip.compress(gzip.compress(bytes(64 * LIMIT)) * 100), "gzip, gzip") == "too_large"


def test_a_zstd_body_may_not_ask_for_a_window_beyond_the_one_for_http() -> None:
    """A window is allocated before the first byte comes out."""
    coded = zstd.compress(
        bytes(9 * LIMIT),
        options={zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0},
    )

    assert refusal(coded, "zstd") == "undecodable"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_stream_of_very_many_parts_is_undecodable(coding: str) -> None:
    """Each part costs a copy of what follows it."""
    assert refusal(ENCODERS[coding](b"") * (MAX_MEMBERS + 1), coding) == "undecodable"


@given(body=st.binary(), coding=st.lists(st.sampled_from(CODINGS), max_size=3))
def test_whatever_was_coded_is_decoded(body: bytes, coding: list[str]) -> None:
    coded = body
    for name in coding:
        coded = ENCODERS[name](coded)

    assert decode(coded, ", ".join(coding), LIMIT) == body


@given(body=st.binary(), coding=st.sampled_from(CODINGS))
def test_no_bytes_make_a_decoder_fail_in_another_way(body: bytes, coding: str) -> None:
    try:
        decode(body, coding, LIMIT)
    except CaptureRefused as refused:
        assert refused.reason in {"undecodable", "too_large"}  # noqa: PT017 - either outcome is right
