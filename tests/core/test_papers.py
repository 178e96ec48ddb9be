"""docs/heap.md shows what the code does."""

import json
import re
from pathlib import Path

from relay.core.translate import translate
from relay.model import Event
from tests.core.exchanges import ENVIRONMENT, evaluation, exchange

ANSWER, EVENT = map(json.loads, re.findall(r"```json\n(.*?)```", Path("docs/heap.md").read_text(), re.DOTALL))


def test_the_answer_that_the_analysts_page_shows_becomes_the_event_that_it_shows() -> None:
    found = evaluation(exchange(json.dumps(ANSWER).encode()))

    made = translate(found, ENVIRONMENT, key=EVENT["idempotency_key"], captured_at=1_772_443_800.0).entry

    assert isinstance(made, Event)
    assert json.dumps(json.loads(made.body)) == json.dumps(EVENT)
