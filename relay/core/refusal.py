"""What the relay answers itself: one small JSON object that says in plain words what happened, and leaks nothing."""

import json
from http import HTTPStatus

from relay.core.headers import RawHeaders
from relay.core.recognise import VIA

# By reason: what happened, and what to look at. Neither addresses nor anything of the request stands here.
DETAILS = {
    "upstream_busy": "Too many requests to Flagsmith are in flight. Raise upstream.max_in_flight, or add relays.",
    "upstream_connect_failed": "Flagsmith did not accept a connection. Check upstream.url, and that it is running.",
    "upstream_connect_timeout": "No connection to Flagsmith came about in time. Check the network between, or raise "
    "upstream.connect_timeout.",
    "upstream_dns_failed": "Flagsmith's host name could not be resolved. Check upstream.url and the name servers.",
    "upstream_loop": "This request passed through this relay already. Check that upstream.url is Flagsmith's address, "
    "and not the relay's own.",
    "upstream_read_timeout": "Flagsmith did not answer in time. Check its load, or raise upstream.read_timeout.",
    "upstream_reset": "Flagsmith, or something before it, closed the connection without an answer. Check its log, and "
    "that upstream.idle_timeout is shorter than its own.",
    "upstream_tls_failed": "No trusted TLS connection to Flagsmith came about. Check its certificate, and "
    "upstream.ca_file where a private authority signed it.",
    "upstream_truncated": "Flagsmith's answer ended before it was complete. Check its log.",
    "upstream_unreadable": "Flagsmith's answer is not proper HTTP/1.1. Check that upstream.url is its address.",
    "request_body_timeout": "The request's body did not arrive in time.",
    "request_body_unreadable": "The request's body is not framed as HTTP/1.1 demands.",
    "request_head_too_large": "The request's line or a header is longer than listen.max_header_bytes.",
    "request_target_refused": "The relay answers requests for a path. It is not a forward proxy.",
    "request_transfer_coding": "The request's body has another transfer coding than chunked. Send it without.",
    "request_unreadable": "This is not a request as HTTP/1.1 demands.",
    "relay_failed": "The relay failed to handle this request. Its log says more.",
}


def phrase(status: int) -> bytes:
    """The reason phrase of a status the relay gives itself."""
    return HTTPStatus(status).phrase.encode("ascii")


def body(error: str) -> bytes:
    """The answer for *error*, one of DETAILS."""
    return json.dumps({"relay": VIA, "error": error, "detail": DETAILS[error]}).encode("ascii")


def headers(length: int) -> RawHeaders:
    """What describes such a body, and keeps every cache from remembering it."""
    return [
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-store"),
        (b"Content-Length", b"%d" % length),
    ]
