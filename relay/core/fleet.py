"""What the members of a fleet come to together."""

from collections import Counter
from collections.abc import Iterable

from relay.fleet import Member

# A member tells of itself every ten seconds. One that was silent for so long may be gone, with what it had in memory.
SILENT_SECONDS = 60.0


def is_silent(member: Member, now: float) -> bool:
    """Whether it may be gone."""
    return now - member.seen_at > SILENT_SECONDS


def in_hand(members: Iterable[Member], now: float) -> Counter[str]:
    """Answers that are captured and in no book of the outbox yet, by environment, as far as their members live."""
    total: Counter[str] = Counter()
    for member in members:
        if not is_silent(member, now):
            total.update(member.in_hand)
    return total
