"""A strict stand-in for Heap's track API: refuses whatever the real one may refuse, and remembers everything."""

import asyncio
import ssl
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from relay.model import Clock
from relay.sandbox import checks
from relay.sandbox.faults import Fault, Raw, Reply, Scripted, perform, status_of
from relay.sandbox.knobs import Knobs
from relay.sandbox.serve import Server, read_body
from relay.sandbox.store import Store, StoredEvent
from relay.sandbox.windows import Meter, Peaks, Violation

__all__ = ["Fault", "Knobs", "Peaks", "Raw", "ReceivedBatch", "Reply", "StandInHeap", "StoredEvent", "Violation"]

PATH = "/api/track"
JSON = (("Content-Type", "application/json"),)
TEXT = (("Content-Type", "text/plain; charset=utf-8"),)

SUCCESS = {
    "json": Reply(200, b"{}", JSON, store=True),
    "no_content": Reply(204, store=True),
    "ok_text": Reply(200, b"OK", TEXT, store=True),
}


@dataclass(frozen=True, slots=True)
class ReceivedBatch:
    """One request, whatever became of it."""

    # As answered; 0 where there was no answer.
    status: int
    # None where the body does not say.
    app_id: str | None
    # Events in it, refused ones too.
    events: int
    # Bytes of its body.
    size: int
    # Monotonic seconds.
    received_at: float
    # What a refusal said; empty otherwise.
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as far as it can be read; *document* is None where it is not JSON."""

    method: str
    path: str
    content_type: str
    content_encoding: str
    size: int
    document: object
    unreadable: str
    now: float

    @property
    def app_id(self) -> str | None:
        app_id = self.document.get("app_id") if isinstance(self.document, dict) else None
        return app_id if isinstance(app_id, str) else None

    @property
    def events(self) -> list[object]:
        return checks.events_of(self.document) if isinstance(self.document, dict) else []


@dataclass(frozen=True, slots=True)
class _Ruling:
    """What Heap does by itself: its answer, and the events that it would store."""

    reply: Reply
    keep: Sequence[dict[str, Any]] = ()
    # Events that a 2xx answer made vanish.
    lost: int = 0
    dropped: int = 0


class StandInHeap:
    """Heap on a free port, from entering it as a context manager to leaving it.

    *apps* are the app ids that exist: events for another one are answered 200 and lost, as with Heap; None: all exist.
    *other_region* are those of the other data centre. *refuse_if* sees each event that passed every check and returns
    the text to refuse it with, in which `{event}` becomes its path `postBody.events[i]`; None lets it pass.
    Changes of `replies`, `refuse_if`, `knobs` and `on_stored` hold from the next request on.
    """

    def __init__(
        self,
        knobs: Knobs | None = None,
        *,
        apps: Collection[str] | None = None,
        other_region: Collection[str] = (),
        refuse_if: Callable[[dict[str, Any]], str | None] | None = None,
        clock: Clock | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.knobs = knobs or Knobs()
        self.refuse_if = refuse_if
        # Answers for the next requests, in order, in place of the ordinary ones; 200 stands for the ordinary one.
        self.replies: deque[Scripted] = deque()
        # Called with each event once it is stored.
        self.on_stored: Callable[[StoredEvent], None] | None = None
        self.requests: list[ReceivedBatch] = []
        # The events of each readable request as they came, stored or not.
        self.batches: list[list[dict[str, Any]]] = []
        # Events for an app that does not exist; answered 200.
        self.lost = 0
        # Events that a knob let vanish behind a 200: over a limit, or too old.
        self.dropped = 0
        self._apps = apps
        self._other_region = other_region
        self._clock = clock or Clock()
        self._always: Scripted = 200
        self._store = Store(self.knobs)
        self._meter = Meter()
        self._changed = asyncio.Event()
        self._server = Server(self._answer, host=host, port=port, ssl_context=ssl_context)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port as before."""
        await self._server.start()

    async def stop(self) -> None:
        """Refuse connections from now on; what is stored stays."""
        await self._server.stop()

    @property
    def url(self) -> str:
        """What a relay's `heap.url` takes, without a slash at its end."""
        return self._server.url

    def fail_always(self, scripted: Scripted) -> None:
        """Answer so from now on, after what `replies` still holds."""
        self._always = scripted

    def recover(self) -> None:
        """Answer as ever again; forgets `replies` too."""
        self._always = 200
        self.replies.clear()

    def stored(self, app_id: str) -> list[StoredEvent]:
        """The app's events, in the order in which they came."""
        return self._store.events(app_id)

    @property
    def duplicates(self) -> int:
        """Events that were sent again under a known idempotency key, and so not stored."""
        return self._store.duplicates

    @property
    def violations(self) -> list[Violation]:
        """Every time a limit was passed, whichever answer the knobs gave."""
        return self._meter.violations

    @property
    def peaks(self) -> Peaks:
        """The fullest windows seen; all of them within Heap's limits means that no limit was passed."""
        return self._meter.peaks

    async def wait_for_events(self, count: int, app_id: str | None = None, within: float = 10) -> list[StoredEvent]:
        """The stored events, of one app or of all, once they are at least *count*; TimeoutError tells what is there."""
        await self._until(lambda: self._store.size(app_id) >= count, f"{count} stored events", within)
        apps = self._store.apps() if app_id is None else [app_id]
        return [event for app in apps for event in self._store.events(app)]

    async def wait_for_requests(self, count: int, within: float = 10) -> list[ReceivedBatch]:
        """The requests, once they are at least *count*; TimeoutError tells what is there."""
        await self._until(lambda: len(self.requests) >= count, f"{count} requests", within)
        return self.requests

    async def _until(self, reached: Callable[[], bool], what: str, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                while not reached():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"no {what} within {within:g} s; there are {self._summary()}") from None

    def _summary(self) -> str:
        stored = {app: self._store.size(app) for app in self._store.apps()}
        last = [(request.status, request.text) for request in self.requests[-5:]]
        counts = (
            f"{len(self.requests)} requests, {self.duplicates} duplicates, {self.lost} lost, {self.dropped} dropped"
        )
        return f"stored {stored}, {counts}; last answers {last}"

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = self._read(request, await read_body(request))
        within_limits = self._count(asked)
        ruling = self._rule(asked, within_limits)
        scripted = self.replies.popleft() if self.replies else self._always
        if scripted in (200, Fault.CLOSE_AFTER):
            self._settle(asked, ruling, ruling.reply)
            if scripted is Fault.CLOSE_AFTER:
                request.protocol.close()
            return await perform(request, ruling.reply, self._server.stopping)
        stores = scripted.store if isinstance(scripted, Reply) else isinstance(scripted, Fault) and scripted.stores
        self._settle(asked, ruling if stores else _Ruling(ruling.reply), scripted)
        return await perform(request, scripted, self._server.stopping)

    def _read(self, request: web.BaseRequest, body: bytes) -> _Asked:
        document, unreadable = None, ""
        try:
            document = checks.parse(body, self.knobs)
        except checks.Unreadable as exc:
            unreadable = str(exc)
        return _Asked(
            request.method,
            request.path,
            request.content_type if "Content-Type" in request.headers else "",
            request.headers.get("Content-Encoding", ""),
            len(body),
            document,
            unreadable,
            self._clock.monotonic(),
        )

    def _count(self, asked: _Asked) -> bool:
        """Count the request and all events that it names, whatever becomes of them."""
        events = asked.events
        if asked.document is not None:
            self.batches.append([event for event in events if isinstance(event, dict)])
        if asked.app_id is None:
            return True
        return self._meter.count(asked.app_id, list(map(_person, events)), asked.now)

    def _rule(self, asked: _Asked, within_limits: bool) -> _Ruling:
        """Decide as Heap does; the order of the checks is the order of the lines."""
        if refusal := _refuse_request(asked, self.knobs):
            return _Ruling(refusal)
        document, app_id = asked.document, asked.app_id
        assert isinstance(document, dict)
        assert app_id is not None
        if app_id in self._other_region and self.knobs.other_region == "refuse":
            return _Ruling(_bad_request("Bad Request"))
        if app_id in self._other_region or (self._apps is not None and app_id not in self._apps):
            return _Ruling(SUCCESS[self.knobs.success], lost=len(asked.events))
        if text := checks.batch(document, self.knobs):
            return _Ruling(_bad_request(text))
        good, wrong = self._sort(asked.events)
        if wrong and self.knobs.bad_event == "refuse_all":
            return _Ruling(_bad_request(wrong[0]))
        if not within_limits:
            return self._refuse_rate(len(good))
        return self._accept(good, wrong)

    def _sort(self, events: list[object]) -> tuple[list[dict[str, Any]], list[str]]:
        """The events that pass every check, and what is wrong with the others."""
        now = self._clock.wall()
        good: list[dict[str, Any]] = []
        wrong: list[str] = []
        keys: Counter[str] = Counter()
        for index, event in enumerate(events):
            path = f"postBody.events[{index}]"
            if text := checks.event(event, path, now, self.knobs) or self._object(event, path, keys):
                wrong.append(text)
            elif isinstance(event, dict):
                good.append(event)
        return good, wrong

    def _object(self, event: object, path: str, keys: Counter[str]) -> str | None:
        """What speaks against an event that is right in itself: its key came before, or the test's own rule."""
        assert isinstance(event, dict)
        key = event.get("idempotency_key")
        if key is not None:
            keys[key] += 1
            if keys[key] > 1 and self.knobs.repeated_keys == "refuse":
                return f"{path}.idempotency_key should NOT have duplicate items"
        text = self.refuse_if(event) if self.refuse_if else None
        return None if text is None else text.replace("{event}", path)

    def _refuse_rate(self, events: int) -> _Ruling:
        seconds = self.knobs.retry_after
        match self.knobs.over_limit:
            case "drop":
                return _Ruling(SUCCESS[self.knobs.success], dropped=events)
            case "400":
                return _Ruling(_bad_request("Too many requests"))
            case "429_seconds":
                return _Ruling(_too_many(("Retry-After", str(seconds))))
            case "429_date":
                return _Ruling(_too_many(("Retry-After", formatdate(self._clock.wall() + seconds, usegmt=True))))
        return _Ruling(_too_many())

    def _accept(self, good: list[dict[str, Any]], wrong: list[str]) -> _Ruling:
        now = self._clock.wall()
        young = [event for event in good if not checks.is_too_old(event, now, self.knobs)]
        refused = wrong and self.knobs.bad_event == "store_others_400"
        reply = _bad_request(wrong[0]) if refused else SUCCESS[self.knobs.success]
        return _Ruling(reply, young, dropped=len(good) - len(young))

    def _settle(self, asked: _Asked, ruling: _Ruling, answered: Scripted) -> None:
        """Store what is to be stored, write the request down, and wake who waits for it."""
        self.lost += ruling.lost
        self.dropped += ruling.dropped
        for event in ruling.keep:
            stored = self._store.put(str(asked.app_id), event, asked.now)
            if stored is not None and self.on_stored is not None:
                self.on_stored(stored)
        text = answered.body.decode() if isinstance(answered, Reply) and answered.status >= 400 else ""
        status = status_of(answered)
        self.requests.append(ReceivedBatch(status, asked.app_id, len(asked.events), asked.size, asked.now, text))
        self._changed.set()


def _refuse_request(asked: _Asked, knobs: Knobs) -> Reply | None:
    """What the request as a whole is refused for; the order of the checks is the order of the lines."""
    if (asked.method, asked.path) != ("POST", PATH):
        return Reply(404, b"Not Found", TEXT)
    if knobs.other_content_type == "refuse" and asked.content_type != "application/json":
        return Reply(415, b"Unsupported Media Type", TEXT)
    # No sender compresses, and no document says that one may.
    if asked.content_encoding:
        return Reply(415, b"Unsupported Media Type", TEXT)
    if asked.size > knobs.max_body_bytes:
        return Reply(knobs.too_large_status, b"Payload Too Large", TEXT)
    if asked.unreadable:
        return _bad_request(asked.unreadable)
    text = checks.envelope(asked.document)
    return None if text is None else _bad_request(text)


def _bad_request(text: str) -> Reply:
    return Reply(400, text.encode("utf-8", "backslashreplace"), TEXT)


def _too_many(*headers: tuple[str, str]) -> Reply:
    return Reply(429, b"Too Many Requests", TEXT + headers)


def _person(event: object) -> str | None:
    """Whom an event is about, as far as it says so; the limits are per person."""
    if not isinstance(event, dict):
        return None
    if isinstance(event.get("identity"), str):
        return str(event["identity"])
    user_id = event.get("user_id")
    # A NUL keeps Heap's own numbers apart from identities that look like them.
    return f"user_id\0{user_id}" if isinstance(user_id, str) else None
