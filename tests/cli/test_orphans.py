"""relay orphans: what waits for apps that no environment names."""

import json
from pathlib import Path

from relay.model import Lane
from relay.sandbox.heap import StandInHeap
from tests.cli.backlog import event, fill, lane, outbox_of, relay_command
from tests.conftest import APP_ID
from tests.processes import relay_process


async def test_list_tells_which_apps_and_how_much(config: Path, heap: StandInHeap) -> None:
    old = lane(heap, "77")
    await fill(config, [event(1, lane(heap)), event(2, old, environment="old"), event(3, old, environment="older")])

    done = await relay_command("orphans", "list", "-c", str(config))
    as_json = await relay_command("orphans", "list", "-c", str(config), "--json")

    assert done.stdout.startswith(f"app 77 at {heap.url}: 2 events, the oldest for ")
    assert [(each["app_id"], each["events"], each["environments"]) for each in json.loads(as_json.stdout)] == [
        ("77", 2, ["old", "older"])
    ]


async def test_without_orphans_it_says_so(config: Path, heap: StandInHeap) -> None:
    await fill(config, [event(1, lane(heap))])

    done = await relay_command("orphans", "list", "-c", str(config))

    assert (done.returncode, done.stdout) == (0, "")
    assert "no orphans" in done.stderr


async def test_moved_orphans_go_to_the_other_app_while_the_relay_runs(config: Path, heap: StandInHeap) -> None:
    await fill(config, [event(1, lane(heap, "77"), environment="old")])
    async with relay_process(config) as relay:
        await relay.wait_for("lane.orphaned")

        done = await relay_command("orphans", "move", "-c", str(config), "--app-id", "77", "--to", "tests", "--yes")

        assert done.returncode == 0, done.stderr
        await heap.wait_for_events(1, APP_ID)
    assert [one.identity for one in heap.stored(APP_ID)] == ["user-1"]


async def test_nothing_is_moved_or_dropped_without_yes(config: Path, heap: StandInHeap) -> None:
    await fill(config, [event(1, lane(heap, "77"), environment="old")])

    moved = await relay_command("orphans", "move", "-c", str(config), "--app-id", "77", "--to", "tests")
    dropped = await relay_command("orphans", "drop", "-c", str(config), "--app-id", "77")

    assert (moved.returncode, dropped.returncode) == (2, 2)
    assert f"would go to app {APP_ID}" in moved.stdout
    assert "would be dropped" in dropped.stdout
    async with outbox_of(config) as outbox:
        assert [level.lane.app_id for level in await outbox.levels()] == ["77"]


async def test_dropped_orphans_are_counted(config: Path, heap: StandInHeap) -> None:
    await fill(config, [event(number, lane(heap, "77"), environment="old") for number in range(3)])

    done = await relay_command("orphans", "drop", "-c", str(config), "--app-id", "77", "--yes")

    assert "3 events dropped" in done.stdout
    async with outbox_of(config) as outbox:
        assert (await outbox.books())["old"].dropped == {"orphaned": 3}


async def test_an_app_that_is_named_is_left_alone(config: Path, heap: StandInHeap) -> None:
    await fill(config, [event(1, lane(heap))])

    done = await relay_command("orphans", "drop", "-c", str(config), "--app-id", APP_ID, "--yes")

    assert done.returncode == 1
    assert "is no orphan" in done.stderr


async def test_of_two_heaps_with_an_app_of_that_id_one_is_to_be_named(config: Path, heap: StandInHeap) -> None:
    other = Lane("https://heapanalytics.com", "77")
    await fill(config, [event(1, lane(heap, "77")), event(2, other)])

    asked = await relay_command("orphans", "drop", "-c", str(config), "--app-id", "77", "--yes")
    done = await relay_command(
        "orphans", "drop", "-c", str(config), "--app-id", "77", "--url", "https://heapanalytics.com", "--yes"
    )

    assert asked.returncode == 1
    assert "add --url" in asked.stderr
    assert "1 event dropped" in done.stdout
