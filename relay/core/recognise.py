"""Which requests are worth remembering, told from their method, their path and the headers around them."""

import re
from collections.abc import Sequence
from functools import lru_cache
from posixpath import normpath
from urllib.parse import unquote

# The name a relay gives itself in Via, as a prefix: one relay behind another must be seen whatever follows.
VIA = "flagsmith-heap-relay"

# Flagsmith's SDK routes by the metrics label they are counted under. Other methods (a preflight, a HEAD) and all
# other paths are "other".
ROUTES = {
    "identities": ({"GET", "POST"}, r"v1/identities"),
    "flags": ({"GET"}, r"v1/flags"),
    "environment_document": ({"GET"}, r"v1/environment-document"),
    "analytics": ({"POST"}, r"v[12]/analytics/(?:flags|telemetry)"),
    "traits": ({"POST", "PUT"}, r"v1/traits(?:/bulk|/increment-value)?"),
}

_ROUTE = re.compile(
    "(?P<prefix>.*)/api/(?:" + "|".join(f"(?P<{name}>{path})" for name, (_, path) in ROUTES.items()) + ")/?",
    re.DOTALL,
)
# Under these, Flagsmith keeps routes whose last segments are somebody's free text: the admin API
# (/api/v1/environments/<key>/identities/…) and the deprecated /api/v1/identities/<anything>/.
_FREE_TEXT = re.compile(r"/api/v1/(?:environments|identities)/")
_JSON = re.compile(r"application/(?:[^;\s]+\+)?json\s*(?:;|$)", re.IGNORECASE)
_COMMENT_PART = re.compile(r"(\\.|[()])", re.DOTALL)


@lru_cache(maxsize=64)  # callers ask for the same few paths again and again
def endpoint_class(method: str, path: str) -> str:
    """The route of a raw *path* (no query): a name of ROUTES, or "other". Any prefix, and one slash at the end, may be.

    The path is forwarded byte for byte, and whether Flagsmith or something before it decodes "%69dentities", folds
    "//" or resolves ".." first is not known here. So it is read both ways, as it stands and normalised; where the
    two readings disagree, nothing is concluded and it is "other".
    """
    found = _route(method, path)
    return found if _is_plain(path) or found == _route(method, _normalised(path)) else "other"


def is_identity_call(method: str, path: str) -> bool:
    """Whether this is *Get Identity Flags*, the call that Flagsmith's own Heap integration sends an event for.

    Flagsmith's core also sends one for HEAD and for an answer rendered as HTML; there are no flags to read in either.
    """
    return endpoint_class(method, path) == "identities"


def is_json(content_type: str) -> bool:
    """Whether a Content-Type promises JSON: application/json or application/<anything>+json, whatever parameters."""
    return content_type == "application/json" or _JSON.match(content_type.strip()) is not None


def names_a_relay(via: Sequence[str]) -> bool:
    """Whether another relay of this kind, which captures too, stands in the values of the Via headers."""
    return any(_received_by(entry).startswith(VIA) for value in via for entry in _without_comments(value).split(","))


def _route(method: str, path: str) -> str:
    found = _ROUTE.fullmatch(path)
    if found is None or _FREE_TEXT.search(found["prefix"] + "/"):
        return "other"
    name = next(name for name in ROUTES if found[name] is not None)
    return name if method in ROUTES[name][0] else "other"


def _is_plain(path: str) -> bool:
    return "%" not in path and "//" not in path and "/." not in path


def _normalised(path: str) -> str:
    """Percent-decoded once, without dot segments and repeated slashes; a slash at the end stays."""
    decoded = unquote(path)
    ending = "/" if decoded.endswith(("/", "/.", "/..")) else ""
    return "/" + normpath(decoded).strip("/") + ending


def _received_by(entry: str) -> str:
    """The host or pseudonym of one Via entry, `[protocol/]version received-by` (RFC 9110, 7.6.3)."""
    words = entry.split()
    return words[1].lower() if len(words) > 1 else ""


def _without_comments(value: str) -> str:
    """*value* less its comments, which nest and may hold commas and names."""
    if "(" not in value:
        return value
    kept, depth = [], 0
    for part in _COMMENT_PART.split(value):
        if part == "(":
            depth += 1
        elif part == ")":
            depth = max(depth - 1, 0)
        elif not depth:
            kept.append(part)
    return " ".join(kept)
