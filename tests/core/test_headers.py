"""The header rules of a proxy, one by one."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.headers import (
    Hop,
    Peer,
    caller_address,
    end_to_end,
    framing,
    lines,
    location,
    onward,
    peer,
    request_headers,
    serialise,
)
from relay.core.target import Origin

STRANGER = Peer(b"10.0.0.9", trusted=False)
PROXY = Peer(b"10.0.0.1", trusted=True)
VIA = b"1.1 flagsmith-heap-relay-1f2e3d4c"
CALLER = b"http://localhost:18080"
OK = b"HTTP/1.1 200 OK"


def sent(headers: list[tuple[bytes, bytes]], who: Peer, host: bytes | None = b"up") -> dict[bytes, bytes]:
    return dict(request_headers(headers, Hop(who, VIA, host)))


@pytest.mark.parametrize("name", [b"Connection", b"keep-alive", b"TE", b"Trailer", b"Transfer-Encoding", b"UPGRADE"])
def test_hop_by_hop_headers_are_dropped_in_any_spelling(name: bytes) -> None:
    assert end_to_end([(name, b"x"), (b"Accept", b"y")]) == [(b"Accept", b"y")]


def test_headers_that_any_connection_header_names_are_dropped() -> None:
    headers = [
        (b"Connection", b"close, X-A"),
        (b"x-a", b"1"),
        (b"connection", b" x-B "),
        (b"X-B", b"2"),
        (b"X-C", b"3"),
    ]

    assert end_to_end(headers) == [(b"X-C", b"3")]


def test_host_is_replaced_where_it_stands() -> None:
    headers = request_headers([(b"A", b"1"), (b"host", b"mine"), (b"B", b"2")], Hop(STRANGER, VIA, b"up"))

    assert headers[:3] == [(b"A", b"1"), (b"host", b"up"), (b"B", b"2")]


def test_the_callers_host_stays_where_no_other_is_given() -> None:
    assert sent([(b"Host", b"mine")], STRANGER, None)[b"Host"] == b"mine"


@pytest.mark.parametrize(("connection", "measured"), [(b"close", True), (b"content-length", False)])
def test_a_request_is_measured_by_a_length_that_goes_on(connection: bytes, measured: bool) -> None:
    headers = [(b"Content-Length", b"9"), (b"Connection", connection)]

    assert onward(headers, Hop(STRANGER, VIA, b"up")).measured == measured


def test_what_a_request_says_of_its_environment_and_its_way_is_at_hand() -> None:
    headers = [(b"X-Environment-Key", b"key"), (b"Via", b"1.1 x"), (b"VIA", b"1.1 y")]

    known = onward(headers, Hop(STRANGER, VIA, b"up"))

    assert (known.keys, known.via) == (("key",), ("1.1 x", "1.1 y"))
    assert known.fields == lines(request_headers(headers, Hop(STRANGER, VIA, b"up")))


def test_a_strangers_forwarded_headers_are_replaced() -> None:
    told = [(b"Host", b"mine"), (b"x-forwarded-for", b"6.6.6.6"), (b"X-Forwarded-Proto", b"https")]

    headers = sent([*told, (b"X-Forwarded-Host", b"evil")], STRANGER)

    assert headers == {
        b"Host": b"up",
        b"X-Forwarded-For": b"10.0.0.9",
        b"X-Forwarded-Proto": b"http",
        b"X-Forwarded-Host": b"mine",
        b"Via": VIA,
    }


def test_a_trusted_proxys_forwarded_headers_are_continued() -> None:
    told = [(b"Host", b"mine"), (b"X-Forwarded-For", b"1.1.1.1, 2.2.2.2"), (b"X-Forwarded-Host", b"shop.example")]

    headers = sent(told, PROXY)

    assert headers[b"X-Forwarded-For"] == b"1.1.1.1, 2.2.2.2, 10.0.0.1"
    assert headers[b"X-Forwarded-Proto"] == b"http"
    assert headers[b"X-Forwarded-Host"] == b"shop.example"


def test_forwarded_headers_that_connection_names_are_not_believed() -> None:
    told = [(b"Connection", b"X-Forwarded-For"), (b"X-Forwarded-For", b"6.6.6.6")]

    assert sent(told, PROXY)[b"X-Forwarded-For"] == b"10.0.0.1"


@pytest.mark.parametrize(
    ("address", "shown", "trusted"),
    [
        ("10.1.2.3", b"10.1.2.3", True),
        ("11.1.2.3", b"11.1.2.3", False),
        ("::ffff:10.1.2.3", b"10.1.2.3", True),
        ("2001:db8::7", b"2001:db8::7", True),
        ("fe80::1%eth0", b"fe80::1", False),
        ("", b"unknown", False),
    ],
)
def test_a_peer_is_known_by_its_address(address: str, shown: bytes, trusted: bool) -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))

    assert peer(address, networks) == Peer(shown, trusted)


def test_a_length_beside_chunks_is_dropped() -> None:
    headers = [(b"Content-Length", b"9"), (b"Transfer-Encoding", b"chunked"), (b"A", b"1")]

    framed = framing(OK, headers, method="GET", status=200, http11=True, keep_alive=True)
    assert framed.head == serialise(OK, [(b"A", b"1"), (b"Transfer-Encoding", b"chunked")])


def test_a_length_that_connection_names_is_no_length() -> None:
    headers = [(b"Content-Length", b"9"), (b"Connection", b"Content-Length")]

    framed = framing(OK, headers, method="GET", status=200, http11=True, keep_alive=True)

    assert framed.head == serialise(OK, [(b"Transfer-Encoding", b"chunked")])


@pytest.mark.parametrize(
    ("method", "status", "http11", "headers", "chunked", "until_close", "keep_alive", "added"),
    [
        ("GET", 200, True, [], True, False, True, [(b"Transfer-Encoding", b"chunked")]),
        ("GET", 200, False, [], False, True, False, [(b"Connection", b"close")]),
        ("GET", 200, True, [(b"content-length", b"5")], False, False, True, []),
        ("GET", 200, False, [(b"content-length", b"5")], False, False, True, [(b"Connection", b"keep-alive")]),
        ("HEAD", 200, True, [], False, False, True, []),
        ("GET", 204, True, [], False, False, True, []),
        ("GET", 304, True, [], False, False, True, []),
    ],
)
def test_an_answer_is_framed_for_its_caller(
    method: str,
    status: int,
    http11: bool,
    headers: list[tuple[bytes, bytes]],
    chunked: bool,
    until_close: bool,
    keep_alive: bool,
    added: list[tuple[bytes, bytes]],
) -> None:
    framed = framing(OK, headers, method=method, status=status, http11=http11, keep_alive=True)

    assert (framed.chunked, framed.until_close, framed.keep_alive) == (chunked, until_close, keep_alive)
    assert framed.head == serialise(OK, [*headers, *added])


def test_a_204_has_no_length_but_a_needless_zero() -> None:
    headers = [(b"Content-Length", b"0"), (b"content-length", b"7")]

    framed = framing(OK, headers, method="GET", status=204, http11=True, keep_alive=True)

    assert framed.head == serialise(OK, headers[:1])


@pytest.mark.parametrize(
    ("value", "led_back"),
    [
        (b"http://flags.example:8000/x/?a=%2F#f", CALLER + b"/x/?a=%2F#f"),
        (b"HTTPS://FLAGS.example:8000/x", CALLER + b"/x"),
        (b"//flags.example:8000/x", CALLER + b"/x"),
        (b"http://flags.example:8000", CALLER + b"/"),
        (b"http://flags.example:8000?x", CALLER + b"/?x"),
        (b"http://flags.example/x", None),
        (b"http://flags.example:8001/x", None),
        (b"http://user@flags.example:8000/x", None),
        (b"http://flags.example:8000.evil.com/x", None),
        (b"http://evil.com/flags.example:8000/", None),
        (b"ftp://flags.example:8000/x", None),
        (b"/api/v1/x/", None),
        (b"x/y?z", None),
        (b"?z", None),
        (b"", None),
        (b"http://caf\xe9:8000/", None),
    ],
)
def test_a_location_leads_back_only_if_it_names_the_upstream(value: bytes, led_back: bytes | None) -> None:
    origin = Origin.of("http://flags.example:8000")

    assert location(value, origin, CALLER) == (value if led_back is None else led_back)


@pytest.mark.parametrize(
    ("value", "led_back"),
    [
        (b"https://host/flagsmith/api/", CALLER + b"/api/"),
        (b"http://host/flagsmith?x", CALLER + b"/?x"),
        (b"http://host:80/flagsmith/", CALLER + b"/"),
        (b"https://host:443/flagsmith", CALLER + b"/"),
        (b"https://host:80/flagsmith/", None),
        (b"https://host/flagsmiths/x", None),
        (b"https://host/login", None),
        (b"/flagsmith/api/", b"/api/"),
        (b"/flagsmith", b"/"),
        (b"/login", None),
    ],
)
def test_a_location_is_seen_from_the_base_path(value: bytes, led_back: bytes | None) -> None:
    """What lies beside the base path cannot be reached through the relay."""
    origin = Origin.of("https://host/flagsmith")

    assert location(value, origin, CALLER) == (value if led_back is None else led_back)


def test_a_caller_without_a_host_is_led_back_by_path() -> None:
    assert caller_address([], STRANGER) == b""
    assert location(b"http://up/x", Origin.of("http://up"), b"") == b"/x"


def test_the_callers_address_is_what_it_used() -> None:
    told = [(b"Host", b"relay:1"), (b"X-Forwarded-Proto", b"https, http"), (b"X-Forwarded-Host", b"shop.example, x")]

    assert caller_address(told, STRANGER) == b"http://relay:1"
    assert caller_address(told, PROXY) == b"https://shop.example"


@pytest.mark.parametrize("value", [b"a\r\nX: b", b"a\nb", b"a\rb", b"a\0b"])
def test_a_header_cannot_break_out_of_its_line(value: bytes) -> None:
    with pytest.raises(ValueError, match="line break"):
        serialise(b"HTTP/1.1 200 OK", [(b"A", value)])


TOKENS = st.text("abcXYZ-", min_size=1).map(str.encode)
VALUES = st.binary().filter(lambda value: not set(value) & set(b"\r\n\0"))


@given(st.lists(st.tuples(TOKENS, VALUES)))
def test_all_other_bytes_stand_as_they_are(headers: list[tuple[bytes, bytes]]) -> None:
    head = serialise(b"GET / HTTP/1.1", headers)

    assert head == b"GET / HTTP/1.1\r\n" + b"".join(n + b": " + v + b"\r\n" for n, v in headers) + b"\r\n"
