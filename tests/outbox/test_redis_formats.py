"""What earlier versions stored is read: while a fleet is upgraded, and after that.

`recorded` holds what the code of each format wrote, byte by byte. A file there is never changed: another format gets
another file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relay.fleet import Member
from relay.model import Book, Cause, Event, Sent, Settlement, Which
from relay.outbox.envelope import FORMAT as ENVELOPES_FORMAT
from relay.outbox.envelope import unseal
from relay.outbox.redis import RedisOutbox, wire
from tests.outbox.boxes import LANE, NOON, book, claim, ids, make_outbox, opened, shared_redis, taken

RECORDED = Path(__file__).parent / "recorded"


def stored(number: int, *, identity: str = "ada", environment: str = "production") -> Event:
    """An event as it was then."""
    return Event(f"key-{number}", environment, LANE, identity, NOON + number, b"x" * 100)


def restore(file: Path, prefix: str) -> None:
    """Store in Redis what was found there."""
    recorded: Mapping[str, Mapping[str, Any]] = json.loads(file.read_text())
    with shared_redis().client() as client:
        for name, facts in recorded.items():
            ((kind, content),) = facts.items()
            key = f"{prefix}{name}"
            match kind:
                case "hash":
                    client.hset(key, mapping={field: raw(value) for field, value in content.items()})
                case "zset":
                    client.zadd(key, content)
                case "list":
                    client.rpush(key, *content)
                case "string":
                    client.set(key, raw(content))


def raw(text: str) -> bytes:
    """JSON has no bytes."""
    return text.encode("latin-1")


def test_every_format_is_recorded() -> None:
    names = {f"redis-{number + 1}.json" for number in range(wire.FORMAT)}
    names |= {f"spool-{number + 1}.msgpack" for number in range(ENVELOPES_FORMAT)}

    assert {path.name for path in RECORDED.iterdir()} == names


@pytest.mark.parametrize("recorded", sorted(RECORDED.glob("redis-*.json")), ids=lambda path: path.stem)
async def test_an_outbox_of_an_earlier_format_is_gone_on_with(recorded: Path, tmp_path: Path) -> None:
    """One event was delivered, one set aside, one is leased by a sender that died, and one waits."""
    restore(recorded, f"{tmp_path}:")
    box = make_outbox("redis", tmp_path)
    assert isinstance(box, RedisOutbox)
    async with opened(box):
        assert await book(box) == Book(
            captured=6, delivered=1, waiting=2, dead_letters={"refused_by_heap": 1}, skipped={"empty": 2}
        )
        assert await box.recall([("production", "ada")]) == {("production", "ada"): Sent(7, NOON + 3)}
        assert [trace.place for trace in await box.trace("ada", limit=9, now=NOON + 4)] == [
            *("waiting", "claimed", "dead_letter", "delivered")
        ]
        assert await box.members(now=NOON) == [
            Member("pod/1", "0.1.0", "all", NOON, (await box.members(now=NOON))[0].seen_at, {"production": 1})
        ]
        (letter,) = await box.dead_letters(Which(), limit=9)
        assert (letter.letter.event, letter.letter.cause) == (stored(1), Cause("refused_by_heap", "bad"))

        assert await box.replay([letter.number], now=NOON + 5) == 1
        lease = await claim(box, NOON + 64)
        assert sorted(taken(lease), key=lambda one: one.key) == [stored(1), stored(2), stored(3)]
        await box.settle(lease.token, Settlement(ack=frozenset(ids(lease))), now=NOON + 64)
        assert await book(box) == Book(captured=6, delivered=4, skipped={"empty": 2})


@pytest.mark.parametrize("recorded", sorted(RECORDED.glob("spool-*.msgpack")), ids=lambda path: path.stem)
def test_a_put_in_a_spool_of_an_earlier_format_is_read(recorded: Path) -> None:
    put = unseal(recorded.read_bytes())

    assert put.events == [stored(8), stored(9, identity="bob", environment="staging")]
    assert [(letter.event, letter.cause.reason) for letter in put.dead_letters] == [
        (stored(10, identity="x"), "identity_too_long")
    ]
    assert put.tally == {("production", "skipped", "unchanged"): 3}
    assert [entry.key for entry in put.journal] == ["key-8"]
    assert put.coalescing.fingerprints == {"key-8": -5}
