"""What the members of a fleet come to together."""

from collections import Counter

import pytest

from relay.core.fleet import in_hand, is_silent
from relay.fleet import Member

NOW = 1_800_000_000.0


def member(name: str, ago: float, **in_hand: int) -> Member:
    return Member(name, "1.2.3", "all", NOW - 3600, NOW - ago, in_hand)


@pytest.mark.parametrize(("ago", "silent"), [(0, False), (60, False), (61, True), (-9, False)])
def test_who_tells_nothing_for_a_minute_is_silent(ago: float, *, silent: bool) -> None:
    assert is_silent(member("one", ago), NOW) is silent


def test_what_living_members_have_in_hand_is_summed() -> None:
    """What a killed one had in memory is in no book, and is not awaited."""
    fleet = [member("one", 1, a=1, b=2), member("two", 50, a=3), member("gone", 61, a=1000)]

    assert in_hand(fleet, NOW) == Counter(a=4, b=2)
