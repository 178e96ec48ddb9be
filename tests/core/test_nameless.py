import json
from html import escape
from urllib.parse import quote

import pytest

from relay.core.nameless import MASK, WITHHELD, nameless


@pytest.mark.parametrize("identity", ["ada", "ada@example.com", "Jürgen/Ω"])
def test_an_identity_is_masked_wherever_it_stands(identity: str) -> None:
    said = f"postBody.events[0].identity: {identity} is not {identity}"

    assert nameless(said, identity) == f"postBody.events[0].identity: {MASK} is not {MASK}"


@pytest.mark.parametrize(
    "writing",
    [
        json.dumps('Jürgen "J/Ω" 👋  <x>'),
        json.dumps('Jürgen "J/Ω" 👋  <x>').replace("/", r"\/"),
        quote('Jürgen "J/Ω" 👋  <x>', safe=""),
        escape('Jürgen "J/Ω" 👋  <x>'),
        'Jürgen "J/Ω" 👋 <x>',
        'JÜRGEN "j/ω" 👋  <X>',
    ],
)
def test_words_that_have_it_in_another_writing_are_withheld(writing: str) -> None:
    assert nameless(f"should not be {writing}", 'Jürgen "J/Ω" 👋  <x>') == WITHHELD


def test_what_does_not_name_it_stays_as_it_is() -> None:
    assert nameless(r"C:\u00 100% &c; should be string", "ada") == r"C:\u00 100% &c; should be string"


@pytest.mark.parametrize("identity", ["", " ", "\0"])
def test_an_identity_of_nothing_visible_hides_nothing(identity: str) -> None:
    assert nameless("should be string", identity) == "should be string"
