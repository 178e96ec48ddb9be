"""relay forget: an identity is gone, and nobody else's."""

from pathlib import Path

import aiohttp
import yaml
from msgspec.structs import replace

from relay.core.identity import hashed
from relay.sandbox.heap import StandInHeap
from tests.cli.backlog import dead, event, fill, lane, noted, outbox_of, relay_command
from tests.conftest import write
from tests.processes import RelayProcess
from tests.test_process import identify

HASH_KEY = "not-a-secret-0123456789"


async def test_it_erases_what_waits_what_is_dead_and_the_journal(config: Path, heap: StandInHeap) -> None:
    theirs = [event(number, lane(heap), identity="ada") for number in (1, 2)]
    letter = dead(3, lane(heap))
    await fill(config, [*theirs, event(9, lane(heap))], [letter], [noted(each) for each in theirs])

    done = await relay_command("forget", "-c", str(config), "ada", "--yes")
    dead_too = await relay_command("forget", "-c", str(config), "user-3", "--yes")
    nobody = await relay_command("forget", "-c", str(config), "ada", "--yes")

    assert done.stdout == "erased: 2 waiting events, 0 dead letters, 2 journal lines, 0 remembered states\n"
    assert dead_too.stdout == "erased: 0 waiting events, 1 dead letter, 0 journal lines, 0 remembered states\n"
    assert (nobody.returncode, nobody.stdout) == (
        0,
        "erased: 0 waiting events, 0 dead letters, 0 journal lines, 0 remembered states\n",
    )
    async with outbox_of(config) as outbox:
        book = (await outbox.books())["tests"]
        assert (book.waiting, book.dropped) == (1, {"forgotten": 3})


async def test_nothing_of_it_is_left_in_the_files_of_a_running_relay(
    config: Path, relay: RelayProcess, heap: StandInHeap, http: aiohttp.ClientSession
) -> None:
    heap.fail_always(503)
    await identify(http, relay.url, "ada-whom-nobody-may-know")
    await heap.wait_for_requests(1)

    done = await relay_command("forget", "-c", str(config), "ada-whom-nobody-may-know", "--yes")

    assert done.returncode == 0, done.stderr
    kept = b"".join(path.read_bytes() for path in (config.parent / "data").iterdir() if path.is_file())
    assert b"ada-whom" not in kept
    assert b"ada-whom" not in "".join(relay.text).encode()


def hash_identities(config: Path) -> None:
    """Let the environment of the file at *config* send hashes."""
    content = yaml.safe_load(config.read_text())
    content["environments"][0]["identity"] = {"mode": "hmac_sha256", "key": HASH_KEY}
    write(config.parent, content)


async def test_it_erases_what_is_stored_under_the_identity_s_hash_too(config: Path, heap: StandInHeap) -> None:
    """Heap gets the hash, and the operator is asked to forget the identity."""
    hash_identities(config)
    waits = event(1, lane(heap), identity=hashed("ada", HASH_KEY.encode()))
    await fill(config, [waits, event(9, lane(heap))], journal=[replace(noted(waits), identity="ada")])

    done = await relay_command("forget", "-c", str(config), "ada", "--yes")

    assert done.stdout == "erased: 1 waiting event, 0 dead letters, 1 journal line, 0 remembered states\n"


async def test_nothing_is_erased_without_yes(config: Path, heap: StandInHeap) -> None:
    await fill(config, [event(1, lane(heap), identity="ada")])

    done = await relay_command("forget", "-c", str(config), "ada")

    assert done.returncode == 2
    assert "add --yes" in done.stderr
    async with outbox_of(config) as outbox:
        assert (await outbox.books())["tests"].waiting == 1
