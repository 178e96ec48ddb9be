import gzip
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.evaluate import MAX_NESTING, KnownFlags, evaluate
from relay.core.request import FIELDS
from relay.errors import CaptureRefused
from relay.model import Evaluation, Exchange, Flag, Verdict
from tests.core.exchanges import answer, evaluation, exchange, identity, member, read

NOT_FLAGS = Verdict(False, "not_flags")
NO_IDENTITY = Verdict(False, "no_identity")
REASONS = {"undecodable", "too_large"}


def refusal(call: Exchange, **limits: int) -> str:
    with pytest.raises(CaptureRefused) as refused:
        read(call, **limits)
    return refused.value.reason


def value(text: bytes) -> object:
    """What the JSON *text* is read as, as a feature's value."""
    body = answer(member("limit", "VALUE"), identifier="ada").replace(b'"VALUE"', text)
    return evaluation(exchange(body)).flags[0].value


def test_an_answer_is_read_in_its_order() -> None:
    body = answer(member("b", "on"), member("a", 1, enabled=False), identifier="ada")

    assert evaluation(exchange(body)) == Evaluation(
        "ada", (Flag("b", True, "on", None), Flag("a", False, 1, None)), transient=False
    )


def test_a_variant_is_kept_where_it_is_text() -> None:
    flags = [{**member(str(variant)), "variant": variant} for variant in ("control", None, 3)]

    found = evaluation(exchange(answer(*flags, identifier="ada"))).flags

    assert [flag.variant for flag in found] == ["control", None, None]


def test_unknown_and_missing_keys_do_not_matter() -> None:
    body = b'{"new": [1], "flags": [{"feature": {"name": "a", "tags": {}}, "enabled": true}], "identifier": "ada"}'

    assert evaluation(exchange(body)).flags == (Flag("a", True, None, None),)


def test_an_environment_without_features_evaluates_to_no_flags() -> None:
    assert evaluation(exchange(answer(identifier="ada"))).flags == ()


@pytest.mark.parametrize(
    "body",
    [
        b'{"detail":"Missing identifier"}',
        json.dumps(member("dark_mode")).encode(),
        b"[]",
        b"null",
        b"1",
        b'{"flags": null}',
        b'{"flags": {}}',
        answer("dark_mode", identifier="ada"),
        answer({"enabled": True}, identifier="ada"),
        answer({**member("a"), "feature": {}}, identifier="ada"),
        answer({**member("a"), "feature": {"name": 7}}, identifier="ada"),
        answer({**member("a"), "enabled": "yes"}, identifier="ada"),
        answer({**member("a"), "enabled": 1}, identifier="ada"),
        answer(member("a"), {"feature": {"name": "b"}}, identifier="ada"),
    ],
)
def test_json_that_is_not_a_list_of_flags_is_skipped(body: bytes) -> None:
    assert read(exchange(body)) == NOT_FLAGS


@pytest.mark.parametrize("content_type", ["", "text/html; charset=utf-8", "text/plain"])
def test_an_answer_that_is_not_typed_json_is_skipped(content_type: str) -> None:
    assert read(exchange(answer(identifier="ada"), answer_type=content_type)) == NOT_FLAGS


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"flags": [', b'{"flags": []} {}', b'\xff{"flags": []}', b'{"flags": [], "identifier": "\xff"}'],
)
def test_an_answer_typed_json_that_is_none_is_undecodable(body: bytes) -> None:
    assert refusal(exchange(body)) == "undecodable"


@pytest.mark.parametrize("opening", [b"[", b'{"x":', b'{"flags":', b'{"flags":[{"feature_state_value":'])
def test_brackets_without_end_are_undecodable(opening: bytes) -> None:
    assert refusal(exchange(opening * 100_000), max_decoded=10_000_000) == "undecodable"


def test_an_answer_that_is_compressed_is_read() -> None:
    body = gzip.compress(answer(identifier="ada"))

    assert identity(exchange(body, answer_encoding="gzip")) == "ada"


def test_an_answer_may_have_so_many_flags_and_no_more() -> None:
    body = answer(member("a"), member("b"), identifier="ada")

    assert isinstance(read(exchange(body), max_flags=2), Evaluation)
    assert refusal(exchange(body), max_flags=1) == "too_large"


def test_an_answer_past_the_decoded_limit_is_too_large() -> None:
    assert refusal(exchange(answer(identifier="ada")), max_decoded=10) == "too_large"


def test_the_answer_names_the_identity_whatever_was_asked() -> None:
    assert identity(exchange(answer(identifier="  ada "), query="?identifier=bob")) == "  ada "


@pytest.mark.parametrize("identifier", [123, 1.5, True, None, ["bob"], {"a": 1}])
def test_an_answer_whose_identifier_is_no_text_leaves_the_request_to_tell(identifier: object) -> None:
    assert identity(exchange(answer(identifier=identifier), query="?identifier=ada")) == "ada"


@pytest.mark.parametrize("identifier", ["", " ", "\t\u3000\n"])
def test_a_blank_identity_is_skipped_although_the_request_names_one(identifier: str) -> None:
    """The Edge Proxy evaluates for "", and that is whom the flags are for."""
    assert read(exchange(answer(identifier=identifier), query="?identifier=ada")) == NO_IDENTITY


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"half \\ud83d"', "half \ud83d"),
        (b'"nul \\u0000"', "nul \0"),
        (b"12345678901234567890123", 12345678901234567890123),
        (b"1e400", math.inf),
        (b"-Infinity", -math.inf),
        (b"1.50", 1.5),
        (b"9" * 5000, "9" * 5000),
        (b'{"a": [1]}', {"a": [1]}),
    ],
)
def test_what_python_servers_write_beyond_the_standard_is_read(text: bytes, found: object) -> None:
    assert value(text) == found


def test_nan_is_read() -> None:
    assert math.isnan(value(b"NaN"))  # type: ignore[arg-type]  # NaN is a float


def test_a_byte_order_mark_is_passed_over() -> None:
    assert identity(exchange(b"\xef\xbb\xbf" + answer(identifier="ada"))) == "ada"


def test_what_only_the_slow_reader_takes_may_have_2_mib_and_no_more() -> None:
    """It reads in one go, and flags wait meanwhile."""
    odd = b"\xef\xbb\xbf" + answer(identifier="ada")

    assert isinstance(read(exchange(odd.ljust(2 * 2**20)), max_decoded=10_000_000), Evaluation)
    assert refusal(exchange(odd.ljust(2 * 2**20 + 1)), max_decoded=10_000_000) == "undecodable"


def test_a_value_may_nest_so_deep_and_no_deeper() -> None:
    assert value(b"[" * MAX_NESTING + b"]" * MAX_NESTING)
    deeper = answer(member("a", "VALUE"), identifier="ada").replace(b'"VALUE"', b"[" * 33 + b"]" * 33)
    assert refusal(exchange(deeper)) == "undecodable"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
MEMBERS = st.fixed_dictionaries(
    {"feature": st.fixed_dictionaries({"name": st.text()}) | JSON, "enabled": st.booleans() | JSON},
    optional={"feature_state_value": JSON, "variant": JSON},
)
ANSWERS = st.fixed_dictionaries({"flags": st.lists(MEMBERS | JSON, max_size=5) | JSON}, optional={"identifier": JSON})


def ends_well(call: Exchange) -> bool:
    try:
        return isinstance(read(call), Evaluation | Verdict)
    except CaptureRefused as refused:
        return refused.reason in REASONS


@given(body=st.binary())
def test_any_bytes_are_read_skipped_or_refused(body: bytes) -> None:
    assert ends_well(exchange(body))


@given(found=ANSWERS)
def test_any_json_is_read_skipped_or_refused(found: dict[str, Any]) -> None:
    assert ends_well(exchange(json.dumps(found).encode(), query="?identifier=ada"))


@given(cut=st.integers(0, 200), bit=st.integers(0, 7), coding=st.sampled_from(["", "gzip"]))
def test_any_flipped_bit_is_read_skipped_or_refused(cut: int, bit: int, coding: str) -> None:
    body = bytearray(answer(member("Größe", "a\ud800"), member("b", 1.5), identifier="ada"))
    if coding:
        body = bytearray(gzip.compress(body))
    body[cut % len(body)] ^= 1 << bit

    assert ends_well(exchange(bytes(body), answer_encoding=coding, query="?identifier=ada"))


@given(
    body=st.binary(),
    content_type=st.sampled_from([*FIELDS, "application/json", "multipart/form-data; boundary=a"]) | st.text(),
    coding=st.sampled_from(["", "gzip", "br"]),
)
def test_any_request_is_read_skipped_or_refused(body: bytes, content_type: str, coding: str) -> None:
    call = exchange(answer(), method="POST", request_body=body, request_type=content_type, request_encoding=coding)

    assert ends_well(call)


@given(query=st.text())
def test_any_query_is_read_skipped_or_refused(query: str) -> None:
    assert ends_well(exchange(answer(), query="?identifier=" + query))


def test_flags_that_were_read_before_are_not_read_again() -> None:
    known = KnownFlags(10)
    ada, bob = (
        evaluate(exchange(answer(member("dark_mode"), identifier=name)), max_decoded=10_000, max_flags=10, known=known)
        for name in ("ada", "bob")
    )

    assert isinstance(ada, Evaluation)
    assert isinstance(bob, Evaluation)
    assert (ada.identity, bob.identity) == ("ada", "bob")
    assert ada.flags is bob.flags
