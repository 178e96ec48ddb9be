"""What a stand-in Heap keeps: each event once per app and idempotency key, the first one wins."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.sandbox import checks
from relay.sandbox.knobs import Knobs

# Heap joins a list into one text and cuts that (developers.heap.io/reference/track-1).
LIST_SEPARATOR = "||"
MAX_JOINED = 1_024
DAY = 86_400.0

# App, idempotency key, and the timestamp where that counts.
Key = tuple[str, str, object]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as Heap has it; properties as Heap changed them."""

    app_id: str
    event: str
    # One of the two is None.
    identity: str | None
    user_id: str | None
    properties: Mapping[str, Any]
    # As sent; None where Heap would take the time of arrival.
    timestamp: str | int | None
    idempotency_key: str | None
    # Monotonic seconds.
    received_at: float


class Store:
    """The events by app, in the order in which they came."""

    def __init__(self) -> None:
        self._seen: dict[Key, float] = {}
        self._events: dict[str, list[StoredEvent]] = {}
        self.duplicates = 0

    def put(self, app_id: str, given: dict[str, Any], now: float, knobs: Knobs) -> StoredEvent | None:
        """Store one checked event and return it; None for a repeat, which changes nothing."""
        key = _key(app_id, given, knobs)
        if key is not None and self._is_known(key, now, knobs):
            self.duplicates += 1
            return None
        if key is not None:
            self._seen[key] = now
        stored = _stored(app_id, given, now, knobs)
        self._events.setdefault(app_id, []).append(stored)
        return stored

    def events(self, app_id: str) -> list[StoredEvent]:
        return list(self._events.get(app_id, ()))

    def apps(self) -> list[str]:
        return list(self._events)

    def size(self, app_id: str | None = None) -> int:
        """Events stored, of one app or of all."""
        if app_id is not None:
            return len(self._events.get(app_id, ()))
        return sum(map(len, self._events.values()))

    def _is_known(self, key: Key, now: float, knobs: Knobs) -> bool:
        return key in self._seen and (knobs.dedupe != "day" or now - self._seen[key] < DAY)


def _key(app_id: str, given: dict[str, Any], knobs: Knobs) -> Key | None:
    """What makes an event the same one; None for an event that is always new."""
    key = given.get("idempotency_key")
    if key is None or len(key) < checks.MIN_IDEMPOTENCY_KEY:
        return None
    return app_id, key, given.get("timestamp") if knobs.dedupe == "key_and_timestamp" else None


def _stored(app_id: str, given: dict[str, Any], now: float, knobs: Knobs) -> StoredEvent:
    return StoredEvent(
        app_id=app_id,
        event=given["event"],
        identity=given.get("identity"),
        user_id=given.get("user_id"),
        properties=_kept(given.get("properties", {}), knobs),
        timestamp=given.get("timestamp"),
        idempotency_key=given.get("idempotency_key"),
        received_at=now,
    )


def _kept(properties: dict[str, Any], knobs: Knobs) -> dict[str, Any]:
    """The properties as Heap shows them: objects gone, lists joined, long texts cut."""
    return {key: _shown(value, knobs) for key, value in properties.items() if not isinstance(value, dict)}


def _shown(value: object, knobs: Knobs) -> object:
    match value:
        case list():
            return LIST_SEPARATOR.join(map(_word, value))[:MAX_JOINED]
        case str() if checks.length(value, knobs) > checks.MAX_VALUE:
            return value[: checks.MAX_VALUE]
    return value


def _word(item: object) -> str:
    """One item of a list as text, spelt as JSON spells it."""
    return item if isinstance(item, str) else json.dumps(item)
