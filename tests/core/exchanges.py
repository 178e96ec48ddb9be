"""Exchanges as the proxy hands them over, with only what a test cares about spelled out."""

import json
from typing import Any

from msgspec.structs import replace

from relay.core.evaluate import KnownFlags, evaluate
from relay.errors import CaptureRefused
from relay.model import Environment, Evaluation, Exchange, Lane, Verdict

ENVIRONMENT = Environment("production", Lane("https://heapanalytics.com", "1234567890"), "Flagsmith Feature Flags")
KEY = "018bcfe568f4d3b07384d113edec49ea"
# 2023-11-14T22:13:20.123Z
RECEIVED_AT = 1_700_000_000.123


def member(name: str, value: object = None, *, enabled: bool = True) -> dict[str, Any]:
    """One of an answer's flags, as the Edge Proxy writes it."""
    return {"feature": {"id": 1, "name": name, "type": "STANDARD"}, "enabled": enabled, "feature_state_value": value}


def answer(*flags: object, **others: object) -> bytes:
    """An identities answer; *others* are its keys beside the flags."""
    return json.dumps({**others, "flags": flags}).encode()


def exchange(answer_body: bytes, *, query: str = "", **others: Any) -> Exchange:
    """A GET whose answer is JSON; *others* replace an exchange's fields."""
    fields: dict[str, Any] = {
        "environment": ENVIRONMENT,
        "method": "GET",
        "target": "/api/v1/identities/" + query,
        "request_type": "",
        "request_encoding": "",
        "request_body": b"",
        "answer_type": "application/json",
        "answer_encoding": "",
        "answer_body": answer_body,
        "received_at": RECEIVED_AT,
    }
    return Exchange(**{**fields, **others})


def post(request_body: bytes, request_type: str = "application/json", **others: Any) -> Exchange:
    """A POST to a core that does not tell the identifier; *others* replace an exchange's fields."""
    fields = {"method": "POST", "request_body": request_body, "request_type": request_type}
    return exchange(**{"answer_body": answer(member("dark_mode")), **fields, **others})


def read(call: Exchange, *, max_decoded: int = 1024 * 1024, max_flags: int = 100) -> Evaluation | Verdict:
    """What *call* comes to, which is the same where its flags are known and where they are not."""

    def outcome(known: KnownFlags | None) -> Evaluation | Verdict | CaptureRefused:
        try:
            return evaluate(call, max_decoded=max_decoded, max_flags=max_flags, known=known)
        except CaptureRefused as refusal:
            return refusal

    found, known = outcome(None), KnownFlags(10)
    for again in (outcome(known), outcome(known)):
        assert repr(replace(again, mark=0) if isinstance(again, Evaluation) else again) == repr(found)
    if isinstance(found, CaptureRefused):
        raise found
    return found


def evaluation(call: Exchange) -> Evaluation:
    """What *call* evaluates to; a skip fails the test."""
    found = read(call)
    assert isinstance(found, Evaluation), found
    return found


def identity(call: Exchange) -> str:
    return evaluation(call).identity
