"""relay trace: from a call through a real relay to where its event is."""

import asyncio
import json
import re
import sys
from pathlib import Path

import aiohttp

from relay.model import Verdict
from relay.sandbox.flagsmith import StandInFlagsmith
from relay.sandbox.heap import StandInHeap
from tests.cli.backlog import dead, event, fill, lane, noted, relay_command
from tests.conftest import settings, write
from tests.processes import RelayProcess
from tests.test_process import identify


async def test_a_delivered_call_is_told_with_its_answer_and_properties(
    config: Path, relay: RelayProcess, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    await identify(http, relay.url, "ada")
    [stored] = await heap.wait_for_events(1)
    await relay.wait_for("batch.delivered")

    done = await relay_command("trace", "-c", str(config), "ada")
    told = json.loads((await relay_command("trace", "-c", str(config), "ada", "--json")).stdout)

    assert done.returncode == 0, done.stderr
    assert "tests  GET  to be sent (every_call)" in done.stdout
    assert "delivered: Heap has it; 1 attempt, the last answered delivered 200 at" in done.stdout
    assert [(each["place"], each["key"], each["properties"]) for each in told] == [
        ("delivered", stored.idempotency_key, stored.properties)
    ]


async def test_what_heap_said_before_is_told_as_well(
    config: Path, relay: RelayProcess, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    heap.replies.extend([503, 429])
    await identify(http, relay.url, "ada")
    await heap.wait_for_events(1)
    await relay.wait_for("batch.delivered")

    done = await relay_command("trace", "-c", str(config), "ada")
    [told] = json.loads((await relay_command("trace", "-c", str(config), "ada", "--json")).stdout)

    assert "delivered: Heap has it; 3 attempts, the last answered delivered 200 at" in done.stdout
    assert re.search(r"    before that busy 503 at [-\d]+ [:\d]+, busy 429 at [-\d]+ [:\d]+ UTC\n", done.stdout)
    assert told["attempts"] == 3
    assert [each["answer"] for each in told["answers"]] == ["busy 503", "busy 429", "delivered 200"]


async def test_a_waiting_call_is_told_with_its_tries(
    config: Path, relay: RelayProcess, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    heap.fail_always(503)
    await identify(http, relay.url, "ada")
    await heap.wait_for_requests(1)

    done = await relay_command("trace", "-c", str(config), "ada")

    assert "to be sent (every_call)" in done.stdout
    assert "waiting in the outbox" in done.stdout or "being sent just now" in done.stdout


async def test_the_newest_comes_first_and_a_limit_holds(config: Path, heap: StandInHeap) -> None:
    events = [event(number, lane(heap), identity="ada") for number in (3, 2, 1)]
    await fill(config, events, journal=[noted(each) for each in events])

    done = await relay_command("trace", "-c", str(config), "ada", "--limit", "2", "--json")

    assert [each["key"] for each in json.loads(done.stdout)] == [events[2].key, events[1].key]


async def test_a_dead_letter_is_told_with_its_cause(config: Path, heap: StandInHeap) -> None:
    letter = dead(1, lane(heap), "identity_too_long")
    await fill(config, letters=[letter], journal=[noted(letter.event, Verdict(send=False, reason="identity_too_long"))])

    done = await relay_command("trace", "-c", str(config), "user-1")

    assert "not sent (identity_too_long)" in done.stdout
    assert "set aside as a dead letter, identity_too_long" in done.stdout


async def test_heaps_words_do_not_repeat_the_identity(config: Path, heap: StandInHeap) -> None:
    """What is shown may end in a ticket."""
    letter = dead(1, lane(heap))
    await fill(config, letters=[letter], journal=[noted(letter.event)])

    done = await relay_command("trace", "-c", str(config), "user-1")
    as_json = await relay_command("trace", "-c", str(config), "user-1", "--json")

    assert "refused_by_heap: postBody.events[0].identity should not be ***" in done.stdout
    assert "user-1" not in done.stdout + as_json.stdout


async def test_an_empty_identity_is_wrong_usage(config: Path, heap: StandInHeap) -> None:
    await fill(config, [event(1, lane(heap))])

    done = await relay_command("trace", "-c", str(config), "")

    assert done.returncode == 2
    assert "the identity is empty" in done.stderr


async def test_a_dash_reads_the_identity_from_standard_input(config: Path, heap: StandInHeap) -> None:
    one = event(1, lane(heap), identity="ada lovelace")
    await fill(config, [one], journal=[noted(one)])

    done = await relay_command_with_input("ada lovelace\n", "trace", "-c", str(config), "-", "--json")

    assert [each["key"] for each in json.loads(done)] == [one.key]


async def test_not_seen_tells_the_usual_causes_and_not_the_identity(config: Path, heap: StandInHeap) -> None:
    await fill(config, [event(1, lane(heap))])

    done = await relay_command("trace", "-c", str(config), "grace@example.com")

    assert done.returncode == 1
    assert done.stdout == ""
    for cause in ("letter for letter", "evaluates flags locally", "key is not in this YAML", "Another relay"):
        assert cause in done.stderr
    assert "grace" not in done.stderr


async def test_an_outbox_in_memory_cannot_be_asked(
    flagsmith: StandInFlagsmith, heap: StandInHeap, tmp_path: Path
) -> None:
    config = write(tmp_path, settings(flagsmith, heap, outbox={"url": "memory://"}))

    done = await relay_command("trace", "-c", str(config), "ada")

    assert done.returncode == 1
    assert "lives in the relay's process" in done.stderr


async def test_an_outbox_that_is_not_there_is_one_line(config: Path) -> None:
    done = await relay_command("trace", "-c", str(config), "ada")

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not there; `relay run` makes it when it starts" in done.stderr


async def relay_command_with_input(text: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", *arguments), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate(text.encode())
    return out.decode()
