"""What a proxy does to headers, and nothing more: hop-by-hop fields, framing, X-Forwarded-*, Via, Host, Location.

Everything is bytes in the order and spelling it came in; what is not named here passes unchanged.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

import msgspec

from relay.core.target import DEFAULT_PORTS, Origin

RawHeaders = Sequence[tuple[bytes, bytes]]

# Fields about one connection only (RFC 9110, 7.6.1, and those RFC 2616, 13.5.1 named). Trailers are dropped with
# Trailer and TE: aiohttp does not read or write them.
HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
# Written anew for every request. Expect is answered here: what follows it was sent on already.
_REWRITTEN = frozenset({b"expect", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})

_LINE_BREAKERS = b"\r\n\0"
_REFERENCE = re.compile(rb"(?:([A-Za-z][A-Za-z0-9+.-]*):)?//([^/?#]*)(.*)", re.DOTALL)
_AUTHORITY = re.compile(rb"(\[[^\]]*\]|[^:@\[\]]*)(?::(\d{0,5}))?")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who opened the connection."""

    # Its IP address as text; "unknown" where it is gone already.
    address: bytes
    # Whether it is one of `listen.trusted_proxies`: its X-Forwarded-* headers are true.
    trusted: bool


class Hop(msgspec.Struct, frozen=True):
    """What no header of a request says, and the next one must be told."""

    peer: Peer
    # This relay's Via entry, "1.1 flagsmith-heap-relay-1f2e3d4c".
    via: bytes
    # The Host to send; None: the caller's.
    host: bytes | None


class Framing(msgspec.Struct, frozen=True):
    """How an answer's head ends and how its body is told from the next answer."""

    headers: RawHeaders
    # No body follows, whatever the headers say: HEAD, 204, 304.
    bodiless: bool
    chunked: bool
    # The connection's end is the body's end.
    until_close: bool
    keep_alive: bool


@lru_cache(maxsize=4096)
def peer(address: str, networks: "tuple[IPv4Network | IPv6Network, ...]") -> Peer:
    """Who *address* is; an IPv4 address that came in over IPv6 is shown, and looked for, as IPv4."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return Peer(b"unknown", trusted=False)
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return Peer(str(found).encode("ascii"), any(found in network for network in networks))


def values(headers: RawHeaders, name: bytes) -> list[bytes]:
    """Every value of *name*, which is in lower case, in their order."""
    return [value for field, value in headers if field.lower() == name]


def end_to_end(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """*headers* less the hop-by-hop ones and those that Connection names."""
    names = _lowered(headers)
    dropped = _dropped(headers, names)
    return [field for name, field in zip(names, headers, strict=True) if name not in dropped]


def request_headers(headers: RawHeaders, hop: Hop) -> list[tuple[bytes, bytes]]:
    """What to send to Flagsmith for a request that came with *headers*."""
    names = _lowered(headers)
    dropped = _dropped(headers, names)
    asked = headers[names.index(b"host")][1] if b"host" in names else b""
    host = hop.host or asked
    kept = [
        (field[0], host) if name == b"host" else field
        for name, field in zip(names, headers, strict=True)
        if name not in dropped and name not in _REWRITTEN
    ]
    if b"host" not in names or b"host" in dropped:
        kept.insert(0, (b"Host", host))
    return [*kept, *_forwarded(headers, hop.peer, asked), (b"Via", hop.via)]


def answer_headers(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """What to send to the caller, but for framing and Location. Nothing is added."""
    names = _lowered(headers)
    dropped = _dropped(headers, names)
    if b"transfer-encoding" in names:  # it overrides a length (RFC 9112, 6.3)
        dropped |= {b"content-length"}
    return [field for name, field in zip(names, headers, strict=True) if name not in dropped]


def framing(headers: RawHeaders, *, method: str, status: int, http11: bool, keep_alive: bool) -> Framing:
    """Frame an answer for a caller that speaks HTTP/1.1, or else 1.0."""
    bodiless = method == "HEAD" or status in {204, 304}
    if status == 204:  # must have no length (RFC 9110, 8.6); a needless zero is left alone
        headers = [field for field in headers if field[0].lower() != b"content-length" or field[1] == b"0"]
    unknown = not bodiless and b"content-length" not in _lowered(headers)
    chunked, until_close = unknown and http11, unknown and not http11
    keep_alive = keep_alive and not until_close
    added = [(b"Transfer-Encoding", b"chunked")] if chunked else []
    if not keep_alive:
        added.append((b"Connection", b"close"))
    elif not http11:
        added.append((b"Connection", b"keep-alive"))
    return Framing([*headers, *added], bodiless, chunked, until_close, keep_alive)


def caller_address(headers: RawHeaders, peer: Peer) -> bytes:
    """Scheme and authority as the caller wrote them, `http://localhost:18080`; empty where no header says."""
    told = end_to_end(headers) if peer.trusted else []
    host = _first(values(told, b"x-forwarded-host")) or next(iter(values(headers, b"host")), b"")
    scheme = _first(values(told, b"x-forwarded-proto")) or b"http"
    return scheme + b"://" + host if host else b""


def location(value: bytes, origin: Origin, caller: bytes) -> bytes:
    """A Location that leads back to *origin*, as one that leads through the relay; any other as it is.

    Behind a load balancer Flagsmith may take its own scheme for http, so either scheme names it. A path outside of
    the base path cannot be reached through the relay and stays.
    """
    found = _REFERENCE.fullmatch(value)
    if found is None:
        inside = _below_base(value, origin.base) if origin.base else None
        return inside or value
    inside = _below_base(found[3], origin.base)
    return caller + inside if inside and _names(origin, found[1], found[2]) else value


def serialise(first_line: bytes, headers: RawHeaders) -> bytes:
    """The head of a message. Raises ValueError where a field would break out of its line."""
    head = b"\r\n".join([first_line, *map(b": ".join, headers), b"", b""])
    line_ends = 2 * (len(headers) + 2)
    if len(head.translate(None, _LINE_BREAKERS)) != len(head) - line_ends:
        raise ValueError("a header field holds a line break or NUL")
    return head


def _lowered(headers: RawHeaders) -> list[bytes]:
    return [name.lower() for name, _ in headers]


def _dropped(headers: RawHeaders, names: Sequence[bytes]) -> frozenset[bytes]:
    """What stays on this connection of *headers*, whose *names* in lower case are at hand."""
    match names.count(b"connection"):
        case 0:
            return HOP_BY_HOP
        case 1:
            return _dropped_by(headers[names.index(b"connection")][1])
    return _dropped_by(b",".join(values(headers, b"connection")))


@lru_cache(maxsize=64)
def _dropped_by(connection: bytes) -> frozenset[bytes]:
    """What stays on a connection by the value of Connection: mostly one of two."""
    return HOP_BY_HOP | {token.strip().lower() for token in connection.split(b",")}


def _forwarded(headers: RawHeaders, peer: Peer, host: bytes) -> list[tuple[bytes, bytes]]:
    """A trusted proxy's word is continued; anybody else's is replaced, as anybody can write such headers."""
    address, scheme = peer.address, b"http"
    if peer.trusted:
        told = end_to_end(headers)
        address = b", ".join([*values(told, b"x-forwarded-for"), address])
        scheme = b", ".join(values(told, b"x-forwarded-proto")) or scheme
        host = b", ".join(values(told, b"x-forwarded-host")) or host
    fields = [(b"X-Forwarded-For", address), (b"X-Forwarded-Proto", scheme)]
    return [*fields, (b"X-Forwarded-Host", host)] if host else fields


def _first(lists: Sequence[bytes]) -> bytes:
    """The first member of a list header: what the proxy nearest to the caller said."""
    return lists[0].split(b",")[0].strip() if lists else b""


def _below_base(path: bytes, base: bytes) -> bytes | None:
    """*path* (a query may follow) seen from *base*; None where it lies elsewhere."""
    rest = path[len(base) :]
    if not path.startswith(base) or rest[:1] not in {b"", b"/", b"?", b"#"}:
        return None
    return rest if rest.startswith(b"/") else b"/" + rest


def _names(origin: Origin, scheme: bytes | None, authority: bytes) -> bool:
    kind = scheme.decode("ascii").lower() if scheme else origin.scheme
    found = _AUTHORITY.fullmatch(authority)
    if found is None or kind not in DEFAULT_PORTS:
        return False
    port = int(found[2]) if found[2] else DEFAULT_PORTS[kind]
    expected = DEFAULT_PORTS[kind] if origin.port == DEFAULT_PORTS[origin.scheme] else origin.port
    return port == expected and found[1].strip(b"[]").lower() == origin.host.encode("ascii")
