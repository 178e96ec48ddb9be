"""One request to Heap, one answer; the only module that knows Heap's wire format."""

import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from json import dumps

import aiohttp

from relay import __version__
from relay.core.batch import BATCH_BYTES, BATCH_EVENTS
from relay.core.date import read_date
from relay.core.settle import Answer, Kind
from relay.errors import HeapUnreachable
from relay.model import Clock, Lane

# Seconds to connect, and for all of one request.
CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 10.0
# What is read of an answer, in bytes, and kept of its text, in characters.
ANSWER_BYTES = 10_000
TEXT_CHARACTERS = 1_000

# Heap documents 200 and 400 (developers.heap.io/reference/track-1). 401 and the like never come from its ingestion,
# which knows no credentials: they come from whatever stands before it, or from a wrong address.
KINDS = {
    400: Kind.REFUSED,
    422: Kind.REFUSED,
    413: Kind.TOO_LARGE,
    401: Kind.DENIED,
    403: Kind.DENIED,
    404: Kind.DENIED,
}
# "postBody.events[0].properties should be object" (github.com/iagomelanias/heap-php/issues/4)
NAMED = re.compile(r"\bevents\[(\d{1,4})\](?:\.\w{1,64})*")


def read_status(status: int) -> Kind:
    """2xx is delivered, 3xx denied; whatever Heap does not explain may pass."""
    return KINDS.get(status) or {2: Kind.DELIVERED, 3: Kind.DENIED}.get(status // 100, Kind.BUSY)


def open_session(tls: ssl.SSLContext | None = None, total: float = TOTAL_SECONDS) -> aiohttp.ClientSession:
    """The connections to Heap, apart from Flagsmith's so that neither starves the other.

    Certificates are verified, by *tls* where it is given; a request has *total* seconds. There is no limit on
    connections, as each lane has one.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=tls or True),
        timeout=aiohttp.ClientTimeout(total=total, connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"flagsmith-heap-relay/{__version__}",
        },
    )


class Heap:
    """One Heap app."""

    def __init__(self, session: aiohttp.ClientSession, lane: Lane, clock: Clock | None = None) -> None:
        self._session = session
        self._url = f"{lane.url}/api/track"
        self._head = b'{"app_id":' + dumps(lane.app_id).encode() + b',"events":['
        self._clock = clock or Clock()

    @property
    def room(self) -> int:
        """Bytes of events' bodies that fit into one request, however many events they are."""
        return BATCH_BYTES - len(self._head) - len(b"]}") - (BATCH_EVENTS - 1)

    async def track(self, bodies: Sequence[bytes]) -> Answer:
        """Send *bodies* in one request and return the answer. Raises HeapUnreachable where there was none to read.

        Whether the events were stored is then unknown: send the same bytes again.
        """
        body = b"".join((self._head, b",".join(bodies), b"]}"))
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                return await self._read(response)
        except (aiohttp.ClientError, OSError, ValueError) as exc:  # ValueError: no such host can be (yarl, idna)
            raise HeapUnreachable(_one_line(f"{type(exc).__name__}: {exc}")) from exc

    async def _read(self, response: aiohttp.ClientResponse) -> Answer:
        kind = read_status(response.status)
        text = _one_line((await _first_bytes(response.content)).decode(errors="replace"))
        named = NAMED.search(text) if kind is Kind.REFUSED else None
        return Answer(
            kind=kind,
            status=response.status,
            text=text,
            retry_after=_retry_after(response, self._clock.wall()),
            named=int(named[1]) if named else None,
            path=named[0] if named else "",
            sent_at=_sent_at(response),
            at=self._clock.wall(),
        )


async def _first_bytes(stream: aiohttp.StreamReader) -> bytes:
    """The beginning of a text, as far as it comes: the status is an answer whether or not its words are whole."""
    parts, left = [], ANSWER_BYTES
    with suppress(aiohttp.ClientError, OSError):
        while left and (part := await stream.read(left)):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def _one_line(text: str) -> str:
    """*text* fit for a terminal and a log: one line, nothing that controls either."""
    line = " ".join(text[: 10 * TEXT_CHARACTERS].split())
    return "".join(character if character.isprintable() else "�" for character in line)[:TEXT_CHARACTERS]


def _retry_after(response: aiohttp.ClientResponse, now: float) -> float | None:
    """Seconds; a date is read by the answer's own clock, where it tells its time."""
    wish = response.headers.get("Retry-After", "").strip()
    if wish.isascii() and wish.isdigit():
        return float(wish)
    at, sent = read_date(wish), _sent_at(response)
    return None if at is None else max(0.0, at - (now if sent is None else sent))


def _sent_at(response: aiohttp.ClientResponse) -> float | None:
    return read_date(response.headers.get("Date", ""))
