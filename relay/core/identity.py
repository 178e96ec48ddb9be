"""What follows from an identity alone: whether it is in the sample, and the hash that can stand in for it.

Both are promises to others: all replicas agree on a sample, and analysts compute the same hash.
"""

import hmac
from hashlib import sha256


def is_sampled(environment: str, identity: str, sample: float) -> bool:
    """Whether *identity* is in the part *sample* (0 to 1) of the identities of *environment*, given by its name.

    It is where the first 8 bytes of SHA-256(name, NUL, identity), as a part of 2**64, are below *sample*, compared
    exactly. So a larger sample holds all of a smaller one.
    """
    digest = sha256(_as_bytes(environment) + b"\0" + _as_bytes(identity)).digest()
    # A float times a power of two is exact, and so is the comparison of an int with it.
    return int.from_bytes(digest[:8], "big") < sample * 2**64


def hashed(identity: str, key: bytes) -> str:
    """HMAC-SHA256 of the whole *identity*, in UTF-8, under *key*: 64 lower-case hex digits, so Heap takes any of it."""
    return hmac.digest(key, _as_bytes(identity), "sha256").hex()


def _as_bytes(text: str) -> bytes:
    """UTF-8. Half a surrogate pair, which JSON can spell and UTF-8 cannot, is encoded as if it could: three bytes."""
    return text.encode(errors="surrogatepass")
