"""What rules add to an event's properties: variants, and static ones. Neither changes what Flagsmith said."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relay.core.translate import translate
from relay.model import Environment, Evaluation, Flag
from tests.core.exchanges import ENVIRONMENT, KEY, RECEIVED_AT

ADDING = replace(ENVIRONMENT, variants=True, extra_properties={"team": "growth", "build": 12, "beta": True})
ANYTHING = st.text(st.characters(), max_size=8)
ANY_FLAGS = st.lists(st.builds(Flag, ANYTHING, st.booleans(), ANYTHING | st.none(), ANYTHING | st.none()), max_size=6)


def added(*flags: Flag, environment: Environment = ADDING) -> tuple[dict[str, Any], dict[str, int]]:
    """The properties, and what was altered."""
    found = translate(Evaluation("ada", flags, transient=False), environment, key=KEY, captured_at=RECEIVED_AT)
    return json.loads(found.properties.text), dict(found.properties.altered)


def test_a_variant_comes_after_its_feature_and_static_properties_come_last() -> None:
    found, _ = added(Flag("copy", True, "Buy now", "buy"), Flag("dark_mode", True, None, None))

    assert list(found.items()) == [
        ("copy", "Buy now"),
        ("copy.variant", "buy"),
        ("dark_mode", True),
        ("team", "growth"),
        ("build", 12),
        ("beta", True),
    ]


def test_a_feature_that_is_off_shows_nobody_a_variant() -> None:
    found, _ = added(Flag("copy", False, "Buy now", "buy"))

    assert found["copy"] is False
    assert "copy.variant" not in found


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        ([Flag("team", True, "flag", None)], "team", "flag"),
        ([Flag("a", True, "on", "b"), Flag("a.variant", True, "flag", None)], "a.variant", "flag"),
        ([Flag("a.variant", True, "flag", None), Flag("a", True, "on", "b")], "a.variant", "flag"),
    ],
)
def test_a_feature_stands_over_what_is_added_under_its_name_and_that_is_counted(
    flags: list[Flag], key: str, value: str
) -> None:
    found, counts = added(*flags)

    assert found[key] == value
    assert counts == {"added_left_out": 1}


def test_of_a_feature_named_twice_the_last_one_s_variant_counts() -> None:
    found, _ = added(Flag("a", True, "1", "one"), Flag("a", True, "2", None))

    assert (found["a"], "a.variant" in found) == ("2", False)


def test_a_variant_is_made_acceptable_as_values_and_names_are() -> None:
    found, counts = added(Flag("n" * 512, True, None, "v" * 2000))

    (key,) = [name for name in found if name not in {"n" * 512, "team", "build", "beta"}]
    assert (len(key), found[key]) == (512, "v" * 1023)
    assert counts == {"key_cut": 1, "key_renamed": 1, "value_cut": 1}


@given(flags=ANY_FLAGS)
def test_whatever_is_added_the_features_are_what_they_are_without(flags: list[Flag]) -> None:
    plain, _ = added(*flags, environment=ENVIRONMENT)
    found, _ = added(*flags)

    assert {name: found.get(name) for name in plain} == plain


@given(flags=ANY_FLAGS)
def test_what_is_added_is_what_heap_takes(flags: list[Flag]) -> None:
    found, _ = added(*flags)

    assert all(name.strip() and len(name.encode("utf-16-le")) <= 1024 for name in found)
    assert {"team", "build", "beta"} <= set(found)
