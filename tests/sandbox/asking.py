"""Asking the stand-ins: one call, and what they answer."""

import json
from typing import Any

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from relay.sandbox.flagsmith import CLIENT_KEY, StandInFlag, StandInFlagsmith
from relay.sandbox.heap import StandInHeap

APP_ID = "1234567890"
# 2026-02-03T04:05:06Z, which the events below carry.
WALL = 1_770_091_506.0

IDENTITIES = "/api/v1/identities/"
FEW = (StandInFlag("dark_mode"), StandInFlag("größe", "ü"), StandInFlag("secret", 1, server_key_only=True))


def event(number: int = 0, **changes: Any) -> dict[str, Any]:
    """An event that no setting of any knob refuses; a field changed to `...` is left out."""
    whole = {
        "event": "Flagsmith Feature Flags",
        "identity": "ada",
        "properties": {"dark_mode": "true", "max_upload_mb": 25},
        "timestamp": "2026-02-03T04:05:06.000Z",
        "idempotency_key": f"key-{number:028}",
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def body(*events: Any, app_id: str = APP_ID, **fields: Any) -> bytes:
    """A bulk call's body; *fields* come on top."""
    return json.dumps({"app_id": app_id, "events": events, **fields}).encode()


async def post(
    http: aiohttp.ClientSession,
    heap: StandInHeap,
    data: bytes,
    *,
    method: str = "POST",
    path: str = "/api/track",
    **headers: str,
) -> tuple[int, str]:
    """Send *data* as JSON, unless *headers* say otherwise."""
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.request(method, heap.url + path, data=data, headers=named) as answer:
        return answer.status, await answer.text()


async def ask(
    http: aiohttp.ClientSession,
    flagsmith: StandInFlagsmith,
    target: str,
    *,
    method: str = "GET",
    key: str | None = CLIENT_KEY,
    headers: dict[str, str] | None = None,
    data: bytes | None = None,
) -> tuple[int, CIMultiDictProxy[str], Any]:
    """One call: its status, its headers, its body (read where it is JSON)."""
    named = ({"X-Environment-Key": key} if key else {}) | (headers or {})
    async with http.request(
        method, URL(flagsmith.url + target, encoded=True), headers=named, data=data, allow_redirects=False
    ) as answer:
        text = await answer.text()
        return answer.status, answer.headers, json.loads(text) if "json" in answer.content_type and text else text


async def identify(
    http: aiohttp.ClientSession, flagsmith: StandInFlagsmith, given: Any, media_type: str = "application/json"
) -> tuple[int, Any]:
    """POST identities: the status and the answer."""
    data = given if isinstance(given, bytes) else json.dumps(given).encode()
    status, _, answer = await ask(
        http, flagsmith, IDENTITIES, method="POST", data=data, headers={"Content-Type": media_type}
    )
    return status, answer
