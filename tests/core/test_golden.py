"""Answers as each Flagsmith writes them, from the wire to the event that its own Heap integration sends."""

import json
from pathlib import Path

import pytest

from relay.core.translate import translate
from relay.model import Event
from tests.core.exchanges import ENVIRONMENT, KEY, RECEIVED_AT, evaluation, exchange

GOLDEN = Path(__file__).parent / "golden"
ANSWERS = sorted(path.name for path in GOLDEN.glob("*.json"))

EXPECTED = {
    "event": "Flagsmith Feature Flags",
    "identity": "ada@example.com",
    "properties": {
        "dark_mode": True,
        "new_onboarding": False,
        "checkout_copy": "Buy now, pay later",
        "max_upload_mb": 250,
        "free_trial_days": 0,
        "show_banner": False,
        "banner_text": "",
        "tax_rate": "1.5",
        "old_search": False,
        "Größe der Kacheln": "groß: 🎉",
        "theme.json": '{"accent": "#0A2540"}',
    },
    "timestamp": "2023-11-14T22:13:20.123Z",
    "idempotency_key": KEY,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_flagsmith_yields_the_same_event(name: str) -> None:
    """Compared as text, so that order and types (0, false and "" are three things) count."""
    call = exchange((GOLDEN / name).read_bytes(), query="?identifier=ada%40example.com")

    result = translate(evaluation(call), ENVIRONMENT, key=KEY, captured_at=RECEIVED_AT)

    assert isinstance(result.entry, Event)
    assert json.dumps(json.loads(result.entry.body)) == json.dumps(EXPECTED)
    assert result.properties.altered == {}


def test_the_golden_answers_are_of_five_kinds() -> None:
    assert ANSWERS == [
        "core.json",
        "core_before_2_135.json",
        "core_hide_sensitive_data.json",
        "edge_api.json",
        "edge_proxy.json",
    ]
