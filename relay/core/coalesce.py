"""Whether an event says anything new: what was sent last for the same identity decides."""

from hashlib import blake2b

import msgspec

from relay.core.budget import APP_EVENTS, rate_of
from relay.model import Lane, Latest, Sent, Verdict

# A moment further ahead than this, in seconds, counts as long past: the clock jumped back, and nothing waits for years.
AHEAD_SECONDS = 600.0

FIRST_SEEN = Verdict(True, "first_seen")
FLAGS_CHANGED = Verdict(True, "flags_changed")
HEARTBEAT = Verdict(True, "heartbeat")
UNCHANGED = Verdict(False, "unchanged")

_DECODE = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ENCODE_SORTED = msgspec.json.Encoder(order="sorted").encode


def decide(fingerprint: int, now: float, last: Sent | None, heartbeat: float) -> Verdict:
    """Whether an event is sent whose like, as far as *fingerprint* tells, was sent *last* or not.

    An unchanged one is sent once *heartbeat* seconds have passed since; 0 is never. *now* is when the answer was
    received, in seconds since 1970.
    """
    if last is None:
        return FIRST_SEEN
    if last.fingerprint != fingerprint:
        return FLAGS_CHANGED
    if heartbeat and (now - last.at >= heartbeat or _is_ahead(last.at, now)):
        return HEARTBEAT
    return UNCHANGED


def newest(sent: Sent, last: Sent | None) -> Sent:
    """Which of the two is to be remembered: what Heap, which goes by time stamps, takes for the present state."""
    return sent if last is None or last.at <= sent.at or _is_ahead(last.at, sent.at) else last


def fingerprint(lane: Lane, event: str, properties: bytes) -> int:
    """64 bits that tell what *lane* gets: an event of that name with *properties*, one JSON object.

    The order of the properties does not count: Flagsmith's changes when flags are edited. Numbers are told apart as
    they are written. Measured with Python 3.11: 30 properties take 6 µs.
    """
    place = msgspec.json.encode((lane.url, lane.app_id, event))
    digest = blake2b(place + _ENCODE_SORTED(_DECODE(properties)), digest_size=8)
    return int.from_bytes(digest.digest(), signed=True)


def tolerated(latest: Latest) -> int:
    """How many events may wait in a lane before it is behind."""
    return int(rate_of(APP_EVENTS, latest.share).per_second * latest.after)


def _is_ahead(moment: float, now: float) -> bool:
    return moment > now + AHEAD_SECONDS
