"""What a proxy does to headers, and nothing more: hop-by-hop fields, framing, X-Forwarded-*, Via, Host, Location.

Everything is bytes in the order and spelling it came in; what is not named here passes unchanged.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import compress

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


class Onward(msgspec.Struct, frozen=True):
    """What a request's headers come to."""

    # The lines of those that go on to Flagsmith.
    fields: bytes
    # Every value of X-Environment-Key, and of Via.
    keys: tuple[str, ...]
    via: tuple[str, ...]
    # Whether one of those that go on says how long the body is.
    measured: bool


class Framing(msgspec.Struct, frozen=True):
    """An answer's head, and how its body is told from the next answer."""

    head: bytes
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
    dropped = _dropped(_connection(headers, names))
    return [field for name, field in zip(names, headers, strict=True) if name not in dropped]


def onward(headers: RawHeaders, hop: Hop) -> Onward:
    """What a request with *headers* takes to Flagsmith. Raises ValueError where one would break out of its line."""
    keys, via = (_texts(headers, name) for name in (b"x-environment-key", b"via"))
    sent = request_headers(headers, hop)
    return Onward(lines(sent), keys, via, measured=bool(values(sent, b"content-length")))


def request_headers(headers: RawHeaders, hop: Hop) -> list[tuple[bytes, bytes]]:
    """What to send to Flagsmith for a request that came with *headers*."""
    names = _lowered(headers)
    dropped = _dropped(_connection(headers, names))
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


def framing(
    first_line: bytes, headers: RawHeaders, *, method: str, status: int, http11: bool, keep_alive: bool
) -> Framing:
    """Frame an answer with *headers* for a caller that speaks HTTP/1.1, or else 1.0; nothing else is added.

    Raises ValueError where a header breaks out of its line.
    """
    names = _lowered(headers)
    passing = _passing(tuple(names), _connection(headers, names))
    kept = [*compress(headers, passing.each)]
    if status == 204:  # must have no length (RFC 9110, 8.6); a needless zero is left alone
        kept = [field for field in kept if field[0].lower() != b"content-length" or field[1] == b"0"]
    bodiless = method == "HEAD" or status == 204 or status == 304
    chunked, until_close = False, False
    if not bodiless and not passing.measured:
        chunked, until_close = http11, not http11
    if chunked:
        kept.append((b"Transfer-Encoding", b"chunked"))
    if until_close or not keep_alive:
        kept.append((b"Connection", b"close"))
    elif not http11:
        kept.append((b"Connection", b"keep-alive"))
    return Framing(serialise(first_line, kept), bodiless, chunked, until_close, keep_alive and not until_close)


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
    return _unbroken(b"\r\n".join([first_line, *map(b": ".join, headers), b"", b""]), len(headers) + 2)


def lines(headers: RawHeaders) -> bytes:
    """*headers*, each with the end of its line. Raises ValueError where one would break out of its line."""
    return _unbroken(b"\r\n".join([*map(b": ".join, headers), b""]), len(headers))


def _unbroken(text: bytes, count: int) -> bytes:
    """*text*, if it is of *count* lines; each of these searches takes a tenth of what looking at every byte does."""
    if text.count(b"\n") != count or text.count(b"\r") != count or b"\0" in text:
        raise ValueError("a header field holds a line break or NUL")
    return text


def _texts(headers: RawHeaders, name: bytes) -> tuple[str, ...]:
    return tuple(value.decode("utf-8", "surrogateescape") for value in values(headers, name))


def _lowered(headers: RawHeaders) -> list[bytes]:
    return [name.lower() for name, _ in headers]


def _connection(headers: RawHeaders, names: Sequence[bytes]) -> bytes:
    """What Connection says in *headers*, whose *names* in lower case are at hand."""
    match names.count(b"connection"):
        case 0:
            return b""
        case 1:
            return headers[names.index(b"connection")][1]
    return b",".join(values(headers, b"connection"))


def _dropped(connection: bytes) -> frozenset[bytes]:
    """What stays on a connection by the value of Connection."""
    return HOP_BY_HOP | {token.strip().lower() for token in connection.split(b",")}


class _Passing(msgspec.Struct, frozen=True):
    """Which of an answer's headers go on, and whether its length is one of them."""

    each: tuple[bool, ...]
    measured: bool


# Most answers of an API have the same ones; at most 64 heads' names are remembered. That spares half of the work.
@lru_cache(maxsize=64)
def _passing(names: tuple[bytes, ...], connection: bytes) -> _Passing:
    dropped = _dropped(connection)
    if b"transfer-encoding" in names:  # it overrides a length (RFC 9112, 6.3)
        dropped |= {b"content-length"}
    return _Passing(tuple(name not in dropped for name in names), b"content-length" in {*names} - dropped)


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
