"""Lanes that no environment names any more: nothing is sent for them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from relay.model import Lane, Level


def orphaned(levels: Iterable[Level], named: Collection[Lane]) -> Mapping[Lane, list[Level]]:
    """What waits in lanes that are not *named*, by lane."""
    found: dict[Lane, list[Level]] = defaultdict(list)
    for level in levels:
        if level.lane not in named:
            found[level.lane].append(level)
    return dict(found)
