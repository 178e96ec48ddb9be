"""A put that another storage keeps comes out as it went in."""

import msgspec
import pytest
from msgspec.structs import fields

from relay.errors import OutboxError
from relay.model import Cause, Coalescing, DeadLetter, Repeats
from relay.outbox import Put
from relay.outbox.envelope import FORMAT, seal, unseal
from tests.outbox.boxes import event, noted

# Half a character, which JSON can spell and UTF-8 cannot.
HALF = "a\ud800"


def a_put() -> Put:
    one, other = event(identity=HALF), event(identity="bob", environment="staging")
    return Put(
        events=[one, other],
        dead_letters=[DeadLetter(event(identity="x" * 300), Cause("identity_too_long", "300 characters"))],
        tally={("production", "skipped", "unchanged"): 3, ("staging", "refused", "memory"): 1},
        journal=[noted(one), noted(other, sent=False)],
        coalescing=Coalescing(
            {one.key: -(2**63)},
            {"production": 1000},
            {("production", HALF): Repeats(2, 5.5)},
            {"staging": 7},
            {"production": 86400.0},
        ),
    )


def test_all_of_a_put_comes_out_as_it_went_in() -> None:
    """Nothing of one is left out here, whatever a put gets in time."""
    put = a_put()
    assert all(getattr(part, one.name) for part in (put, put.coalescing) for one in fields(part))

    assert unseal(seal(put)) == put


def test_what_a_newer_version_put_there_is_left_to_it() -> None:
    fields = msgspec.msgpack.decode(seal(a_put()))

    newer = msgspec.msgpack.encode([FORMAT + 1, *fields[1:], "more"])

    with pytest.raises(OutboxError, match="a newer version put there; run that one until it is empty"):
        unseal(newer)


@pytest.mark.parametrize("envelope", [b"", b"\xff", seal(a_put())[:-1], msgspec.msgpack.encode([1, 2])])
def test_what_is_no_envelope_is_named(envelope: bytes) -> None:
    with pytest.raises(OutboxError, match="holds what this version cannot read; move its file away"):
        unseal(envelope)
