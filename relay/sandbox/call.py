"""One request to a stand-in Flagsmith, and the small answers that its dialects share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from relay.sandbox.faults import Reply

JSON = ("Content-Type", "application/json")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read as Flagsmith reads it."""

    method: str
    # Where Flagsmith is mounted, "" or "/flagsmith".
    base: str
    # The path below *base* and the query, as they came.
    raw_path: str
    raw_query: str
    # Any spelling of a name finds it.
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def query(self) -> dict[str, str]:
        """Decoded; of a name that comes twice the last one wins, `+` is a space."""
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @property
    def key(self) -> str:
        """The environment key; empty where there is none."""
        return self.headers.get("X-Environment-Key", "")

    @property
    def media_type(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def location(self, path: str) -> str:
        """*path* as a redirect names it: below the base, with the query as it came."""
        return f"{self.base}{path}" + (f"?{self.raw_query}" if self.raw_query else "")


def page(status: int, title: str) -> Reply:
    """An HTML error page."""
    body = f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status, body.encode(), (("Content-Type", "text/html; charset=utf-8"),))


def encoded(status: int, content: object, *, ascii_only: bool) -> Reply:
    """A JSON answer, compact as both servers write it."""
    text = json.dumps(content, ensure_ascii=ascii_only, separators=(",", ":"))
    return Reply(status, text.encode(), (JSON,))
