"""Decode a copied body, with a bound on what comes out however little went in."""

import re
import sys
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO

import brotli

from relay.errors import CaptureRefused

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# What a decoder may produce at once, and so how far memory may pass the bound.
PIECE_BYTES = 256 * 1024
# Nobody nests or concatenates more; each further one costs a copy of what follows it.
MAX_CODINGS = 3
MAX_MEMBERS = 100
# The largest window a zstd content coding may ask for is 8 MiB (RFC 9659).
ZSTD_WINDOW_LOG = 23

GZIP = 16 + zlib.MAX_WBITS
ZLIB = zlib.MAX_WBITS
RAW_DEFLATE = -zlib.MAX_WBITS

_SEPARATORS = re.compile(r"[\s,]+")


def decode(body: bytes, coding: str, max_decoded: int) -> bytes:
    """*body* without the codings that Content-Encoding names, in the order in which they were applied.

    Neither the result nor anything on the way is much larger than *max_decoded* bytes, beside a decoder's window (at
    most 16 MiB for brotli, which fills it before anything comes out, and 8 MiB for zstd). Raises CaptureRefused:
    "too_large" past that, "undecodable" where the body is cut short, followed by something, or not so coded.
    """
    codings = [name for name in _SEPARATORS.split(coding.lower()) if name not in {"", "identity"}]
    if len(codings) > MAX_CODINGS or not DECODERS.keys() >= set(codings):
        raise CaptureRefused("undecodable")
    for name in reversed(codings):
        body = DECODERS[name](body, max_decoded)
    if len(body) > max_decoded:
        raise CaptureRefused("too_large")
    return body


def _gunzip(body: bytes, limit: int) -> bytes:
    return _gather(_inflate(body, GZIP, _piece(limit), members=MAX_MEMBERS), limit)


def _undeflate(body: bytes, limit: int) -> bytes:
    """The coding "deflate" means the zlib format, but some servers send the bare stream."""
    try:
        return _gather(_inflate(body, ZLIB, _piece(limit), members=1), limit)
    except CaptureRefused as refusal:
        if refusal.reason == "too_large":
            raise
    return _gather(_inflate(body, RAW_DEFLATE, _piece(limit), members=1), limit)


def _unbrotli(body: bytes, limit: int) -> bytes:
    return _gather(_brotli_pieces(body, _piece(limit)), limit)


def _unzstd(body: bytes, limit: int) -> bytes:
    return _gather(_zstd_pieces(body, _piece(limit)), limit)


DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _undeflate,
    "br": _unbrotli,
    "zstd": _unzstd,
}


def _piece(limit: int) -> int:
    """What a decoder is asked for at once: a byte more than the limit tells that it is passed."""
    return min(PIECE_BYTES, limit + 1)


def _gather(pieces: Iterator[bytes], limit: int) -> bytes:
    """Join *pieces* while they fit into *limit*; a stream that breaks first, or ends without its end, is refused."""
    whole = BytesIO()
    try:
        for piece in pieces:
            if whole.tell() + len(piece) > limit:
                raise CaptureRefused("too_large")
            whole.write(piece)
    except (zlib.error, brotli.error, zstd.ZstdError) as exc:
        raise CaptureRefused("undecodable") from exc
    return whole.getvalue()


def _inflate(body: bytes, window_bits: int, size: int, *, members: int) -> Iterator[bytes]:
    for _ in range(members):
        stream = zlib.decompressobj(window_bits)
        while not stream.eof:
            piece = stream.decompress(body, size)
            body = stream.unconsumed_tail
            yield _progress(piece, ended=stream.eof)
        body = stream.unused_data
        if not body:
            return
    raise CaptureRefused("undecodable")


def _zstd_pieces(body: bytes, size: int) -> Iterator[bytes]:
    for _ in range(MAX_MEMBERS):
        stream = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})
        while not stream.eof:
            piece = stream.decompress(body, size)
            body = b""
            yield _progress(piece, ended=stream.eof)
        body = stream.unused_data
        if not body:
            return
    raise CaptureRefused("undecodable")


def _brotli_pieces(body: bytes, size: int) -> Iterator[bytes]:
    stream = brotli.Decompressor()
    while not stream.is_finished():
        piece = stream.process(body, output_buffer_limit=size)
        body = b""
        yield _progress(piece, ended=stream.is_finished())


def _progress(piece: bytes, *, ended: bool) -> bytes:
    """A decoder that has all of the body, gives nothing, and is not at its end was given a truncated one."""
    if not piece and not ended:
        raise CaptureRefused("undecodable")
    return piece
