"""Whom a request names, where the answer of an old core does not tell."""

import gzip
import json

import pytest

from relay.core.request import MAX_BODY
from relay.errors import CaptureRefused
from relay.model import Exchange, Verdict
from tests.core.exchanges import answer, evaluation, exchange, identity, member, post, read

FLAGS = answer(member("dark_mode"))
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b0undary"


def get(query: str) -> Exchange:
    return exchange(FLAGS, query=query)


def multipart(*parts: str) -> bytes:
    return "".join(f"--b0undary\r\nContent-Disposition: form-data; {part}\r\n" for part in parts).encode() + (
        b"--b0undary--\r\n"
    )


def refusal(call: Exchange) -> str:
    with pytest.raises(CaptureRefused) as refused:
        read(call)
    return refused.value.reason


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("?identifier=ada", "ada"),
        ("?identifier=one&identifier=two", "two"),
        ("?identifier=ada+lovelace", "ada lovelace"),
        ("?identifier=ada%2Blovelace%40example.com", "ada+lovelace@example.com"),
        ("?identifier=J%C3%BCrgen", "Jürgen"),
        ("?identifier=J%FCrgen", "J\ufffdrgen"),
        ("?x=1&identifier=%20ada%20&feature=", " ada "),
        ("?identifier=a?b=c", "a?b=c"),
        ("?%69dentifier=ada", "ada"),
    ],
)
def test_a_query_is_read_as_django_reads_it_and_not_trimmed(query: str, name: str) -> None:
    assert identity(get(query)) == name


@pytest.mark.parametrize("query", ["", "?", "?identifier", "?identifier=", "?identifier=+%09", "?Identifier=ada"])
def test_a_query_without_an_identifier_names_nobody(query: str) -> None:
    assert read(get(query)) == Verdict(False, "no_identity")


@pytest.mark.parametrize(
    ("given", "name"),
    [("ada", "ada"), ("  ada lovelace\n", "ada lovelace"), (123, "123"), (0, "0"), (1.5, "1.5"), (10**30, str(10**30))],
)
def test_a_json_body_names_by_text_or_number_and_is_trimmed(given: object, name: str) -> None:
    assert identity(post(json.dumps({"identifier": given, "traits": []}).encode())) == name


@pytest.mark.parametrize("given", [None, True, False, "", " \t", [], ["ada"], {"identifier": "ada"}])
def test_json_that_is_neither_text_nor_number_names_nobody(given: object) -> None:
    assert read(post(json.dumps({"identifier": given}).encode())) == Verdict(False, "no_identity")


@pytest.mark.parametrize("body", [b"{}", b"[]", b'"ada"', b"null"])
def test_a_json_body_without_an_identifier_names_nobody(body: bytes) -> None:
    assert read(post(body)) == Verdict(False, "no_identity")


def test_the_query_of_a_post_names_nobody() -> None:
    assert read(post(b"{}", target="/api/v1/identities/?identifier=ada")) == Verdict(False, "no_identity")


@pytest.mark.parametrize("body", [b"identifier=+ada+lovelace+", b"identifier=one&identifier=ada%20lovelace"])
def test_an_urlencoded_body_is_read_and_trimmed(body: bytes) -> None:
    assert identity(post(body, FORM + "; charset=UTF-8")) == "ada lovelace"


@pytest.mark.parametrize(
    "body",
    [
        multipart('name="identifier"\r\n\r\n ada '),
        multipart('name="identifier"\r\n\r\none', "name=identifier\r\nContent-Type: text/plain\r\n\r\nada"),
        b"preamble\r\n" + multipart('filename="identifier"\r\n\r\nnobody', 'name="identifier"\r\n\r\nada'),
    ],
)
def test_a_multipart_body_is_read_and_trimmed(body: bytes) -> None:
    assert identity(post(body, MULTIPART)) == "ada"


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=other"])
def test_a_multipart_body_without_its_boundary_names_nobody(content_type: str) -> None:
    assert read(post(multipart('name="identifier"\r\n\r\nada'), content_type)) == Verdict(False, "no_identity")


def test_a_compressed_request_is_read() -> None:
    assert identity(post(gzip.compress(b'{"identifier": "ada"}'), request_encoding="gzip")) == "ada"


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/vnd.api+json"])
def test_a_body_of_any_other_type_is_read_as_json(content_type: str) -> None:
    assert identity(post(b'{"identifier": "ada"}', content_type)) == "ada"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", {}),
        (b"not json", {}),
        (b"{}", {"request_encoding": "gzip"}),
        (b"&" * 1000 + b"identifier=ada", {"request_type": FORM}),
    ],
)
def test_a_request_that_alone_could_tell_and_cannot_be_read_is_undecodable(body: bytes, fields: dict[str, str]) -> None:
    assert refusal(post(body, **fields)) == "undecodable"


def test_a_request_bomb_is_too_large() -> None:
    assert refusal(post(gzip.compress(bytes(MAX_BODY + 1)), request_encoding="gzip")) == "too_large"


@pytest.mark.parametrize("body", [b"not json", gzip.compress(bytes(MAX_BODY + 1))])
def test_a_request_that_cannot_be_read_does_not_matter_where_the_answer_names_the_identity(body: bytes) -> None:
    call = post(body, request_encoding="gzip", answer_body=answer(member("dark_mode"), identifier="ada"))

    assert identity(call) == "ada"


@pytest.mark.parametrize("query", ["transient=true", "transient=1", "transient=false"])
def test_any_transient_in_a_query_counts(query: str) -> None:
    assert evaluation(get(f"?identifier=ada&{query}")).transient


@pytest.mark.parametrize("query", ["", "transient=", "transient"])
def test_an_empty_transient_in_a_query_does_not_count(query: str) -> None:
    assert not evaluation(get(f"?identifier=ada&{query}")).transient


@pytest.mark.parametrize("given", [True, 1, "true", "True", "on", " yes "])
def test_a_true_transient_in_a_body_counts(given: object) -> None:
    assert evaluation(post(json.dumps({"identifier": "ada", "transient": given}).encode())).transient


@pytest.mark.parametrize("given", [False, 0, None, "false", "", [True], 2])
def test_any_other_transient_in_a_body_does_not_count(given: object) -> None:
    assert not evaluation(post(json.dumps({"identifier": "ada", "transient": given}).encode())).transient


def test_a_form_may_be_transient() -> None:
    assert evaluation(post(b"identifier=ada&transient=true", FORM)).transient
