"""What the caller of *Get Identity Flags* asked for, read the way Flagsmith's core reads it.

Core is a Django REST framework application; its rules, observed on core 2.265: of repeated fields the last wins, a
JSON number becomes text, POST trims the identifier and GET does not, bodies may be JSON, urlencoded or multipart.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qsl, unquote

import msgspec

from relay.core.body import decode
from relay.core.parse import parse
from relay.errors import CaptureRefused
from relay.model import Exchange

# The words that Django REST framework's BooleanField takes for true.
TRUE = frozenset({"t", "y", "yes", "true", "on", "1"})
# What is read of a request, however well it was compressed. Django itself takes no more fields than these.
MAX_BODY = 1024 * 1024
MAX_FIELDS = 1000
# Nobody's part of a multipart body has longer headers.
PART_HEADERS = 1024

_NAME = re.compile(rb'content-disposition:[^\r\n]*;\s*name="?([^";\r\n]*)', re.IGNORECASE)
_BOUNDARY = re.compile(r';\s*boundary="?([^";\s]+)', re.IGNORECASE)


class _Fields(msgspec.Struct):
    """What matters of a JSON body; its traits are passed over."""

    identifier: object = None
    transient: object = None


_DECODER = msgspec.json.Decoder(_Fields)


class Asked(msgspec.Struct, frozen=True):
    """Whom the caller asked for; None where the request names nobody."""

    identifier: str | None
    transient: bool


def asked(exchange: Exchange, max_decoded: int) -> Asked:
    """What the request says. Raises CaptureRefused where its body cannot be read."""
    if exchange.method == "GET":
        return _asked_by_query(exchange.target.partition("?")[2])
    body = decode(exchange.request_body, exchange.request_encoding, min(max_decoded, MAX_BODY))
    kind = exchange.request_type.partition(";")[0].strip().lower()
    fields = FIELDS.get(kind, _json_fields)(body, exchange.request_type)
    return Asked(_name(fields.get("identifier")), _is_true(fields.get("transient")))


def names_transient(exchange: Exchange) -> bool:
    """Whether the request may say that its identity is transient; cheaper than to read it, and most name none."""
    return exchange.method != "GET" or "transient" in unquote(exchange.target)


def _asked_by_query(query: str) -> Asked:
    """In a query any transient that is not empty counts, "false" too."""
    fields = _form(query)
    return Asked(fields.get("identifier"), bool(fields.get("transient")))


def _json_fields(body: bytes, _: str) -> Mapping[str, object]:
    fields = parse(_DECODER, body) or _Fields()
    return {"identifier": fields.identifier, "transient": fields.transient}


def _urlencoded_fields(body: bytes, _: str) -> Mapping[str, object]:
    return _form(body.decode(errors="replace"))


def _form(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as exc:
        raise CaptureRefused("undecodable") from exc


def _multipart_fields(body: bytes, content_type: str) -> Mapping[str, object]:
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        return {}
    delimiter = b"\r\n--" + boundary[1].encode(errors="replace")
    # The first delimiter need not have a line break before it; the piece before it is no part.
    return dict(_parts((b"\r\n" + body).split(delimiter, MAX_FIELDS)[1:]))


def _parts(pieces: Iterable[bytes]) -> Iterable[tuple[str, str]]:
    for piece in pieces:
        headers, _, content = piece.partition(b"\r\n\r\n")
        if name := _NAME.search(headers[:PART_HEADERS]):
            yield name[1].decode(errors="replace"), content.decode(errors="replace")


# By media type; whatever else a Flagsmith answers 200 to is read as JSON.
FIELDS: dict[str, Callable[[bytes, str], Mapping[str, object]]] = {
    "application/x-www-form-urlencoded": _urlencoded_fields,
    "multipart/form-data": _multipart_fields,
}


def _name(value: object) -> str | None:
    """A JSON number names as its text does; true, false, null, a list or an object names nobody."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip()


def _is_true(value: object) -> bool:
    return isinstance(value, str | int) and str(value).strip().lower() in TRUE
