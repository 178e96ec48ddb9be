"""What the outbox on Redis stores as bytes: events, as they were put, and names of things.

An event's bytes begin with their format's version, so that relays of two versions can share one outbox: a script
leaves alone what is of a format that it does not know, for a relay that does.
"""

import base64
import json
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from relay.errors import OutboxError
from relay.model import Attempt, Event, Lane
from relay.outbox.bookkeeping import fingerprint, identity_fingerprint

FORMAT = 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str, bytes, float, bytes]).decode


def pack(event: Event) -> bytes:
    """*event* without its lane, which may change."""
    identity = event.identity.encode(errors="surrogatepass")
    return bytes([FORMAT]) + _encode((event.key, event.environment, identity, event.captured_at, event.body))


def unpack(blob: bytes, lane: Lane) -> Event:
    """The event that was packed. Raises OutboxError for a newer format's."""
    if blob[0] > FORMAT:
        raise OutboxError(
            f"an event on Redis was written by a newer relay (its format is {blob[0]}, this relay knows {FORMAT});"
            " run that relay"
        )
    key, environment, identity, captured_at, body = _decode(memoryview(blob)[1:])
    return Event(key, environment, lane, identity.decode(errors="surrogatepass"), captured_at, body)


def lane_name(lane: Lane) -> str:
    """What a lane is called in keys: whoever looks into Redis sees no app_id."""
    return blake2b(address(lane).encode(), digest_size=8).hexdigest()


def address(lane: Lane) -> str:
    return json.dumps([lane.url, lane.app_id])


def read_lane(text: bytes | str) -> Lane:
    return Lane(*json.loads(text))


def who_name(secret: bytes, identity: str) -> str:
    """What an identity is called in Redis."""
    return short(identity_fingerprint(secret, identity))


def properties_name(secret: bytes, properties: bytes) -> str:
    """What a set of properties is called there."""
    return short(fingerprint(secret, properties))


def short(mark: int) -> str:
    """64 bits as eleven characters: Lua's numbers have 53."""
    return base64.b64encode(mark.to_bytes(8, signed=True)).decode()[:11]


def long(mark: bytes) -> int:
    """What `short` was given."""
    return int.from_bytes(base64.b64decode(mark + b"="), signed=True)


def number_name(number: int) -> str:
    """A number as scripts write it, so that those of one moment are in order."""
    return f"{number:012d}"


def attempts_text(attempts: Sequence[Attempt]) -> list[str]:
    return [f"{one.at} {one.answer}" for one in attempts]


def read_attempt(text: str) -> Attempt:
    at, _, answer = text.partition(" ")
    return Attempt(int(at), answer)
