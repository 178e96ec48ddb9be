"""Where a request may lead: below the upstream's address, and nowhere else."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.target import Origin, origin_form
from relay.errors import RequestRefused


@pytest.mark.parametrize(
    ("url", "authority", "base"),
    [
        ("https://edge.api.flagsmith.com", b"edge.api.flagsmith.com", b""),
        ("https://edge.api.flagsmith.com:443/", b"edge.api.flagsmith.com", b""),
        ("http://Flags.Example:8000/flagsmith/", b"flags.example:8000", b"/flagsmith"),
        ("http://[2001:DB8::1]:80/a/b", b"[2001:db8::1]", b"/a/b"),
        ("https://[::1]:80", b"[::1]:80", b""),
    ],
)
def test_an_upstream_is_taken_apart(url: str, authority: bytes, base: bytes) -> None:
    origin = Origin.of(url)

    assert (origin.authority, origin.base) == (authority, base)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_no_target_leads_to_another_host(rest: str) -> None:
    """Scheme, host and port stay the upstream's, whatever the caller writes."""
    origin = Origin.of("https://flags.example:8443/base")
    target = origin_form("GET", "/" + rest)

    whole = origin.address + origin.onward(target)

    parts = urlsplit(whole.decode())
    assert (parts.scheme, parts.hostname, parts.port) == ("https", "flags.example", 8443)
    assert whole == b"https://flags.example:8443/base/" + rest.encode()


@pytest.mark.parametrize("target", ["http://evil.com/", "*", "evil.com:443", "", "x", "?x", "#/"])
def test_a_target_that_is_no_path_is_refused(target: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        origin_form("GET", target)

    assert (refusal.value.status, refusal.value.reason) == (400, "target_refused")


def test_connect_is_refused_whatever_its_target() -> None:
    with pytest.raises(RequestRefused):
        origin_form("CONNECT", "/x")
