"""The status page: one HTML file that asks for nothing outside itself but `./status.json` and `./status.txt`."""

import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Page:
    """The file, and the Content-Security-Policy under which it works and nothing else does."""

    body: bytes
    policy: str


def page() -> Page:
    """Read the page; its one style and its one script are allowed by what is in them."""
    html = files("relay.admin").joinpath("page.html").read_text()
    policy = [
        "default-src 'none'",
        "connect-src 'self'",
        f"style-src '{_hash(html, 'style')}'",
        f"script-src '{_hash(html, 'script')}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return Page(html.encode(), "; ".join(policy))


def _hash(html: str, tag: str) -> str:
    [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"
