"""What Heap decides about one request: the answer, and the events that it stores or loses."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from relay.sandbox import checks
from relay.sandbox.faults import Reply
from relay.sandbox.knobs import Knobs

PATH = "/api/track"

_JSON = (("Content-Type", "application/json"),)
_TEXT = (("Content-Type", "text/plain; charset=utf-8"),)
_SUCCESS = {
    "json": Reply(200, b"{}", _JSON),
    "no_content": Reply(204),
    "ok_text": Reply(200, b"OK", _TEXT),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read as far as it can be."""

    method: str
    path: str
    # Media type and Content-Encoding, empty where missing.
    content_type: str
    content_encoding: str
    # Bytes of the body.
    size: int
    # Why the body is not JSON; empty where it is.
    unreadable: str
    document: object
    app_id: str | None
    # A single track call counts as a batch of one.
    events: list[object]


@dataclass(frozen=True, slots=True)
class Law:
    """What a ruling goes by."""

    knobs: Knobs
    # The app ids that exist; None: all.
    apps: Collection[str] | None
    # The app ids of the other data centre.
    other_region: Collection[str]
    # See `StandInHeap`.
    refuse_if: Callable[[dict[str, Any]], str | None] | None


@dataclass(frozen=True, slots=True)
class Ruling:
    """What Heap does by itself: its answer, and the events that it would store."""

    reply: Reply
    keep: Sequence[dict[str, Any]] = ()
    # Events that vanish behind a 200: their app does not exist, or a knob lets them.
    lost: int = 0
    dropped: int = 0


def rule(asked: Asked, law: Law, now: float, *, within_limits: bool) -> Ruling:
    """The order of the checks is the order of the lines; *now* is in seconds since 1970."""
    knobs = law.knobs
    if refusal := _refuse_request(asked, knobs) or _refuse_app(asked, law):
        return Ruling(refusal)
    if _is_lost(asked, law):
        return Ruling(_SUCCESS[knobs.success], lost=len(asked.events))
    if text := checks.batch(asked.document, knobs):
        return Ruling(_bad_request(text))
    good, wrong = _sort(asked.events, law, now)
    if wrong and knobs.bad_event == "refuse_all":
        return Ruling(_bad_request(wrong[0]))
    if not within_limits:
        return _refuse_rate(len(good), knobs, now)
    return _accept(good, wrong, knobs, now)


def _refuse_request(asked: Asked, knobs: Knobs) -> Reply | None:
    """What the request as a whole is refused for; the order of the checks is the order of the lines."""
    if (asked.method, asked.path) != ("POST", PATH):
        return Reply(404, b"Not Found", _TEXT)
    if knobs.other_content_type == "refuse" and asked.content_type != "application/json":
        return Reply(415, b"Unsupported Media Type", _TEXT)
    # No sender compresses, and no document says that one may.
    if asked.content_encoding:
        return Reply(415, b"Unsupported Media Type", _TEXT)
    if asked.size > knobs.max_body_bytes:
        return Reply(knobs.too_large_status, b"Payload Too Large", _TEXT)
    text = asked.unreadable or checks.envelope(asked.document)
    return _bad_request(text) if text else None


def _refuse_app(asked: Asked, law: Law) -> Reply | None:
    refused = law.knobs.other_region == "refuse" and asked.app_id in law.other_region
    return _bad_request("Bad Request") if refused else None


def _is_lost(asked: Asked, law: Law) -> bool:
    """Heap answers 200 for an app that it does not have (composable-docs.zeotap.com/destinations/analytics/heap)."""
    return asked.app_id in law.other_region or (law.apps is not None and asked.app_id not in law.apps)


def _sort(events: list[object], law: Law, now: float) -> tuple[list[dict[str, Any]], list[str]]:
    """The events that pass every check, and what is wrong with the others."""
    good: list[dict[str, Any]] = []
    wrong: list[str] = []
    keys: set[str] = set()
    for index, event in enumerate(events):
        path = f"postBody.events[{index}]"
        if not isinstance(event, dict):
            wrong.append(f"{path} should be object")
        elif text := checks.event(event, path, now, law.knobs) or _object(event, path, keys, law):
            wrong.append(text)
        else:
            good.append(event)
    return good, wrong


def _object(event: dict[str, Any], path: str, keys: set[str], law: Law) -> str | None:
    """What speaks against an event that is right in itself: its key came before, or somebody's own rule."""
    key = event.get("idempotency_key")
    if key in keys and law.knobs.repeated_keys == "refuse":
        return f"{path}.idempotency_key should NOT have duplicate items"
    if key is not None:
        keys.add(key)
    text = law.refuse_if(event) if law.refuse_if else None
    return None if text is None else text.replace("{event}", path)


def _refuse_rate(events: int, knobs: Knobs, now: float) -> Ruling:
    match knobs.over_limit:
        case "drop":
            return Ruling(_SUCCESS[knobs.success], dropped=events)
        case "400":
            return Ruling(_bad_request("Too many requests"))
        case "429_seconds":
            return Ruling(_too_many(("Retry-After", str(knobs.retry_after))))
        case "429_date":
            return Ruling(_too_many(("Retry-After", formatdate(now + knobs.retry_after, usegmt=True))))
    return Ruling(_too_many())


def _accept(good: list[dict[str, Any]], wrong: list[str], knobs: Knobs, now: float) -> Ruling:
    """Store the good ones; *wrong* is empty unless a knob lets good and bad ones be told apart."""
    young = [event for event in good if not checks.is_too_old(event, now, knobs)]
    refused = wrong and knobs.bad_event == "store_others_400"
    reply = _bad_request(wrong[0]) if refused else _SUCCESS[knobs.success]
    return Ruling(reply, young, dropped=len(good) - len(young))


def _bad_request(text: str) -> Reply:
    return Reply(400, text.encode("utf-8", "backslashreplace"), _TEXT)


def _too_many(*headers: tuple[str, str]) -> Reply:
    return Reply(429, b"Too Many Requests", _TEXT + headers)
