import hashlib
import hmac
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.identity import hashed, is_sampled

# JSON can spell half a surrogate pair, so an identity can hold one.
IDENTITIES = st.text(st.characters(), max_size=30)
PARTS = st.floats(0, 1)


def place(environment: str, identity: str) -> Fraction:
    """Where in the sample an identity stands, by other means: a part of 1."""
    text = f"{environment}\0{identity}".encode(errors="surrogatepass")
    return Fraction(int(hashlib.sha256(text).hexdigest()[:16], 16), 2**64)


@given(environment=st.text(), identity=IDENTITIES, sample=PARTS)
def test_an_identity_is_sampled_exactly_where_its_hash_is_below_the_sample(
    environment: str, identity: str, sample: float
) -> None:
    assert is_sampled(environment, identity, sample) == (place(environment, identity) < Fraction(sample))


@given(identity=IDENTITIES)
def test_the_sample_of_1_is_everybody_and_that_of_0_nobody(identity: str) -> None:
    assert is_sampled("production", identity, 1.0)
    assert not is_sampled("production", identity, 0.0)


@given(identity=IDENTITIES, one=PARTS, other=PARTS)
def test_a_larger_sample_holds_all_of_a_smaller_one(identity: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))

    assert is_sampled("production", identity, larger) or not is_sampled("production", identity, smaller)


@pytest.mark.parametrize("sample", [0.01, 0.1, 0.5])
def test_a_sample_has_about_its_part_of_the_identities(sample: float) -> None:
    sampled = sum(is_sampled("production", f"user-{number}", sample) for number in range(10_000))

    assert sampled == pytest.approx(10_000 * sample, rel=0.2)


def test_environments_do_not_sample_the_same_identities() -> None:
    both = sum(
        is_sampled("production", f"user-{number}", 0.5) and is_sampled("staging", f"user-{number}", 0.5)
        for number in range(10_000)
    )

    assert both == pytest.approx(2_500, rel=0.2)


@given(identity=IDENTITIES, key=st.binary(max_size=100))
def test_a_hash_is_hmac_sha256_of_all_of_the_identity_in_hex(identity: str, key: bytes) -> None:
    by_the_book = hmac.new(key, identity.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    assert hashed(identity, key) == by_the_book


def test_a_hash_is_what_rfc_4231_says() -> None:
    """Its second test case, datatracker.ietf.org/doc/html/rfc4231#section-4.3."""
    found = hashed("what do ya want for nothing?", b"Jefe")

    assert found == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
