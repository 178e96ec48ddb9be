"""Heap: the way there; and, only where somebody asks for it, one event."""

import asyncio
import time
from datetime import UTC, datetime

from relay.capture.keys import time_ordered_key
from relay.cli.live.clocks import compare
from relay.cli.live.finding import Finding, Result
from relay.cli.live.reach import Destination, reach
from relay.config import Config, EnvironmentConfig
from relay.core.settle import Answer, Kind
from relay.core.target import Origin
from relay.core.translate import translate
from relay.errors import HeapUnreachable
from relay.heap import Heap, open_session
from relay.model import Environment, Evaluation, Event, Flag, Lane

TEST_EVENT = "Flagsmith Feature Flags relay test"
TEST_IDENTITY = "flagsmith-heap-relay-test"
# Characters shown of what Heap, or a gateway's page in its place, has to say.
WORDS = 200
# Custom events are seen first in Live data (help.heap.io). Nothing but seeing it there says that it arrived.
LOOK = (
    f'look for "{TEST_EVENT}" of the user {TEST_IDENTITY}, whom Heap makes for it, in Heap under Live data: '
    "an app id that Heap does not know is answered 200 as well, so only seeing it there verifies app id and region"
)


async def probe_heap(settings: Config, test: EnvironmentConfig | None) -> list[Finding]:
    """The way to each address of Heap; with *test*, what is answered to one event to that environment's app."""
    urls = list(dict.fromkeys(lane.url for lane in settings.lanes()))
    ways = dict(zip(urls, await asyncio.gather(*(reach(_destination(url)) for url in urls)), strict=True))
    found = [finding for way in ways.values() for finding in way]
    if test is not None:
        lane = test.heap.lane()
        found += (
            await _send(test.environment()) if ways[lane.url][-1].result is not Result.FAILED else [_not_sent(lane)]
        )
    elif urls:
        detail = "not compared: only an answer tells Heap's time, and nothing is sent without --send-test"
        found.append(Finding("heap.clock", Result.OK, detail))
    return found


def make_test_event(environment: Environment, now: float) -> Event:
    """An event like those that are captured, with a name and an identity that nobody takes for a user's."""
    named = Environment(environment.name, environment.lane, TEST_EVENT)
    moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    evaluation = Evaluation(TEST_IDENTITY, (Flag("relay_test", True, moment, None),), transient=False)
    entry = translate(evaluation, named, key=time_ordered_key(now), captured_at=now).entry
    assert isinstance(entry, Event)  # noqa: S101 - Heap takes such an identity and property
    return entry


async def _send(environment: Environment) -> list[Finding]:
    lane = environment.lane
    event = make_test_event(environment, time.time())
    began = time.monotonic()
    try:
        async with open_session() as session:
            answer = await Heap(session, lane).track([event.body])
    except HeapUnreachable as unreachable:
        detail = f"app {lane.app_id} at {lane.url} gave no answer: {unreachable}"
        return [Finding("heap.test_event", Result.FAILED, detail, "try again; Heap may have it all the same")]
    seconds, at = time.monotonic() - began, time.time()
    return [_answered(lane, answer, seconds), compare("heap.clock", answer.sent_at, at - seconds / 2)]


def _answered(lane: Lane, answer: Answer, seconds: float) -> Finding:
    detail = f"Heap answered {answer.status} for app {lane.app_id} at {lane.url}"
    if answer.kind is Kind.DELIVERED:
        return Finding("heap.test_event", Result.OK, f"{detail}, which proves nothing yet", LOOK, seconds)
    words = f": {answer.text[:WORDS]}" if answer.text else ""
    advice = "try again later" if answer.kind is Kind.BUSY else "see that heap.app_id and heap.region are right"
    return Finding("heap.test_event", Result.FAILED, detail + words, advice, seconds)


def _not_sent(lane: Lane) -> Finding:
    detail = f"not sent, as {lane.url} cannot be reached"
    return Finding("heap.test_event", Result.FAILED, detail, "mend what failed on the way")


def _destination(url: str) -> Destination:
    origin = Origin.of(url)
    return Destination("heap", origin.host, origin.port, True if origin.scheme == "https" else None)
