"""Where a request goes: the caller's target behind Flagsmith's address, concatenated and never joined.

Joining by the rules of URL references would send `//evil.com/x` to evil.com.
"""

from urllib.parse import urlsplit

import msgspec

from relay.errors import RequestRefused

DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(msgspec.Struct, frozen=True):
    """Flagsmith's address, taken apart once."""

    scheme: str
    # Lower case; an IPv6 address without its brackets.
    host: str
    port: int
    # The path that comes before every target, without a slash at its end; mostly empty.
    base: bytes

    @classmethod
    def of(cls, url: str) -> "Origin":
        """Read `upstream.url`, which the configuration has checked."""
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        return cls(parts.scheme, parts.hostname or "", port, parts.path.rstrip("/").encode("ascii"))

    @property
    def authority(self) -> bytes:
        """Host and port as a Host header has them: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{host}{port}".encode("ascii")

    @property
    def address(self) -> bytes:
        """Scheme and authority, `https://edge.api.flagsmith.com`."""
        return self.scheme.encode("ascii") + b"://" + self.authority

    def onward(self, target: bytes) -> bytes:
        """The target to ask this origin for. It begins with a slash, so it cannot reach into the authority."""
        return self.base + target


def origin_form(method: str, target: str) -> bytes:
    """The bytes of an origin-form *target* (RFC 9112, 3.2.1), as they came; `//…` is a path like any other.

    They are ASCII: aiohttp's C parser answers 400 to all else.

    Raises RequestRefused for absolute-form, authority-form, CONNECT and `*`, which speak to a forward proxy or to
    the server as a whole; the relay is neither.
    """
    if method == "CONNECT" or not target.startswith("/"):
        raise RequestRefused(400, "target_refused")
    return target.encode("ascii")
