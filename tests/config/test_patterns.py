"""Globs mean what their few words say, expressions are found anywhere, and neither can be made to take for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.patterns import compile_blocks, compile_globs, covers

GLOBS = st.text("ab*?[.", max_size=6)
NAMES = st.text("ab*?[.\n", max_size=8)
# Longer than any identity that Flagsmith's core keeps (2,000 characters).
LENGTH = 100_000


def fits(glob: str, name: str) -> bool:
    """Whether *name* is of *glob*, by trying everything."""
    if not glob:
        return not name
    if glob[0] == "*":
        return any(fits(glob[1:], name[at:]) for at in range(len(name) + 1))
    return bool(name) and glob[0] in {"?", name[0]} and fits(glob[1:], name[1:])


def is_meant(name: str, include: list[str], exclude: list[str]) -> bool:
    pattern = compile_globs(include, exclude)
    return pattern is None or pattern.fullmatch(name) is not None


@given(include=st.lists(GLOBS, min_size=1, max_size=3), exclude=st.lists(GLOBS, max_size=3), name=NAMES)
def test_a_name_is_meant_where_it_fits_one_of_the_include_and_none_of_the_exclude(
    include: list[str], exclude: list[str], name: str
) -> None:
    by_trying = any(fits(glob, name) for glob in include) and not any(fits(glob, name) for glob in exclude)

    assert is_meant(name, include, exclude) == by_trying


def test_the_default_needs_no_pattern() -> None:
    assert compile_globs(("*",), ()) is None
    assert compile_globs(("a", "*"), ()) is None


@given(wide=GLOBS, narrow=GLOBS, name=NAMES)
def test_a_glob_that_covers_another_matches_whatever_that_one_does(wide: str, narrow: str, name: str) -> None:
    assert not (covers(wide, narrow) and fits(narrow, name)) or fits(wide, name)


@given(glob=GLOBS)
def test_a_glob_is_covered_by_itself_and_by_the_asterisk(glob: str) -> None:
    assert covers(glob, glob)
    assert covers("*", glob)


def test_many_asterisks_take_no_longer_than_one() -> None:
    assert not is_meant("a" * LENGTH, ["*a*a*a*a*a*a*a*a*a*a*b"], ["*a*a*a*a*a*a*a*a*a*a*c"])


def blocked(identity: str, *blocks: str) -> bool:
    blocks_it = compile_blocks(blocks)
    assert blocks_it is not None
    return blocks_it(identity)


@given(before=st.text(st.characters()), after=st.text(st.characters()))
def test_an_expression_is_found_wherever_it_is_in_an_identity(before: str, after: str) -> None:
    """Halves of surrogate pairs, and line breaks, do not hide it."""
    assert blocked(f"{before}test-7{after}", r"test-\d")
    assert blocked(f"{before}test-7", r"test-\d$")


@given(
    before=st.text(st.characters()),
    name=st.from_regex(r"[a-zäß0-9._+-]{1,20}", fullmatch=True),
    host=st.from_regex(r"[a-zé0-9-]{1,20}(\.[a-z]{2,6}){1,3}", fullmatch=True),
    after=st.text(st.characters()),
)
def test_an_email_address_is_found_whatever_stands_around_it(before: str, name: str, host: str, after: str) -> None:
    assert blocked(f"{before}{name}@{host}{after}", "email")
    assert blocked(f"{before}{name}%40{host}{after}", "^nobody$", "email")


@given(identity=st.text(st.characters(exclude_characters="@%")))
def test_without_an_at_sign_nothing_is_an_email_address(identity: str) -> None:
    assert not blocked(identity, "email")


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|a)*b", ".*a.*a.*a.*a.*b", r"(\w+\s?)+!", "email"])
def test_no_expression_makes_an_identity_take_for_ever(expression: str) -> None:
    """Each of them is one that Python's own engine does not come back from."""
    assert not blocked("a" * LENGTH + "@", expression)


def test_nothing_is_asked_where_nothing_is_blocked() -> None:
    assert compile_blocks(()) is None
