"""The things that were used last."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.recent import Recent


def test_an_entry_is_found_until_it_is_replaced_or_all_are_forgotten() -> None:
    recent = Recent[str, int](10)
    recent.put("a", 1)
    recent.put("a", 2)
    assert (recent.get("a"), recent.get("b"), len(recent)) == (2, None, 1)

    recent.clear()

    assert (recent.get("a"), len(recent)) == (None, 0)


@given(st.integers(2, 12), st.lists(st.integers(0, 20)))
def test_where_nothing_overflowed_all_is_there(most: int, keys: list[int]) -> None:
    recent = Recent[int, int](most)
    for key in keys:
        recent.put(key, key)

    found = {key for key in keys if recent.get(key) is not None}

    assert recent.overflowed or found == set(keys)
    assert not recent.overflowed or len(set(keys)) > most // 2


@given(st.integers(2, 12), st.lists(st.tuples(st.booleans(), st.integers(0, 20))))
def test_the_half_that_was_used_last_is_there_and_never_more_than_all(most: int, calls: list[tuple[bool, int]]) -> None:
    recent = Recent[int, int](most)
    used: dict[int, int] = {}
    for number, (puts, key) in enumerate(calls):
        if puts:
            recent.put(key, number)
        found = recent.get(key)
        if found is not None:
            used.pop(key, None)
            used[key] = number if puts else found
        assert len(recent) <= most

    for key in list(used)[-(most // 2) :]:
        assert recent.get(key) == used[key]
