"""A strict stand-in for Heap's track API: refuses whatever the real one may refuse, and remembers everything."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from relay.model import Clock
from relay.sandbox import checks
from relay.sandbox.faults import Fault, Raw, Reply, Scripted, perform, status_of, stores
from relay.sandbox.knobs import Knobs
from relay.sandbox.ruling import Asked, Law, Ruling, rule
from relay.sandbox.serve import Server, read_body
from relay.sandbox.store import Store, StoredEvent
from relay.sandbox.windows import Meter, Peaks, Violation

__all__ = ["Fault", "Knobs", "Peaks", "Raw", "ReceivedBatch", "Reply", "StandInHeap", "StoredEvent", "Violation"]


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


class StandInHeap:
    """Heap on a free port, from entering it as a context manager to leaving it.

    *apps* are the app ids that exist: events for another one are answered 200 and lost, as with Heap; None: all exist.
    *other_region* are those of the other data centre. *refuse_if* sees each event that passed every check and returns
    the text to refuse it with, in which `{event}` becomes its path `postBody.events[i]`; None lets it pass.
    Changes of `knobs`, `refuse_if`, `replies` and `on_stored` hold from the next request on.
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
        self._store = Store()
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
        """Events that came again under a known idempotency key, and so were not stored."""
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
        return list(self.requests)

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
        asked = _read(request, await read_body(request), self.knobs)
        now = self._clock.monotonic()
        ruling = rule(asked, self._law(), self._clock.wall(), within_limits=self._count(asked, now))
        scripted = self.replies.popleft() if self.replies else self._always
        if scripted is Fault.CLOSE_AFTER:
            request.protocol.close()
        answer = ruling.reply if scripted in (200, Fault.CLOSE_AFTER) else scripted
        if answer is ruling.reply or stores(answer):
            self._settle(asked, ruling, now)
        self._write_down(asked, answer, now)
        return await perform(request, answer, self._server.stopping)

    def _law(self) -> Law:
        return Law(self.knobs, self._apps, self._other_region, self.refuse_if)

    def _count(self, asked: Asked, now: float) -> bool:
        """Count the request and all events that it names, whatever becomes of them."""
        if not asked.unreadable:
            self.batches.append([event for event in asked.events if isinstance(event, dict)])
        return asked.app_id is None or self._meter.count(asked.app_id, list(map(_person, asked.events)), now)

    def _settle(self, asked: Asked, ruling: Ruling, now: float) -> None:
        self.lost += ruling.lost
        self.dropped += ruling.dropped
        for event in ruling.keep:
            stored = self._store.put(str(asked.app_id), event, now, self.knobs)
            if stored is not None and self.on_stored is not None:
                self.on_stored(stored)

    def _write_down(self, asked: Asked, answer: Scripted, now: float) -> None:
        """Remember the request, and wake who waits for it."""
        text = answer.body.decode(errors="replace") if isinstance(answer, Reply) and answer.status >= 400 else ""
        batch = ReceivedBatch(status_of(answer), asked.app_id, len(asked.events), asked.size, now, text)
        self.requests.append(batch)
        self._changed.set()


def _read(request: web.BaseRequest, body: bytes, knobs: Knobs) -> Asked:
    document: object = None
    unreadable = ""
    try:
        document = checks.parse(body, knobs)
    except checks.Unreadable as exc:
        unreadable = str(exc)
    return Asked(
        method=request.method,
        path=request.path,
        content_type=request.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        content_encoding=request.headers.get("Content-Encoding", ""),
        size=len(body),
        unreadable=unreadable,
        document=document,
        app_id=checks.app_of(document),
        events=checks.events_of(document),
    )


def _person(event: object) -> str | None:
    """Whom an event is about, as far as it says so; the limits are per person."""
    if not isinstance(event, dict):
        return None
    if isinstance(event.get("identity"), str):
        return str(event["identity"])
    user_id = event.get("user_id")
    # A NUL keeps Heap's own numbers apart from identities that look like them.
    return f"user_id\0{user_id}" if isinstance(user_id, str) else None
