"""Answer one request: forward it, stream the answer back, and let capture see identity calls pass by."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping

import msgspec
import structlog
from aiohttp import web
from aiohttp.http import HttpVersion, HttpVersion11
from prometheus_client import Counter

from relay.capture import Capture
from relay.config import Config
from relay.connection import UpstreamAnswer
from relay.core.headers import (
    Hop,
    Onward,
    Peer,
    RawHeaders,
    caller_address,
    location,
    onward,
    peer,
)
from relay.core.recent import Recent
from relay.core.recognise import VIA, endpoint_class, names_a_relay
from relay.core.target import origin_form
from relay.errors import CallerStalled, ConnectionReused, RequestRefused, UpstreamError
from relay.front import Front
from relay.metrics import Metrics
from relay.model import Clock, Environment
from relay.reply import Reply, go_on
from relay.tee import Tee
from relay.upstream import Outgoing, Upstream

log = structlog.get_logger(__name__)

# Methods without side effects (RFC 9110, 9.2.1) that are sent once more on a fresh connection.
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
# The longest silence in a request's body, in seconds, while requests are many: callers that went away in the middle of
# theirs must not take the place of those that ask for flags.
HURRIED_SECONDS = 5.0
# How many requests' headers are remembered, and how long they are at most.
KNOWN_HEADERS = 256
KNOWN_BYTES = 2048
# Keys that are named in the log; a caller that invents keys must not fill it.
NAMED_KEYS = 1000
# The metrics' word for "no environment of the YAML".
UNKNOWN = "unknown"


class Passage(msgspec.Struct, eq=False):
    """One request on its way through."""

    request: web.BaseRequest
    onward: Onward
    # What metrics and logs call it.
    endpoint: str
    environment: str
    # None: capture has no part in it.
    tee: Tee | None
    # Monotonic seconds: when it came.
    began: float
    # How long Flagsmith took until its answer's headers.
    upstream_seconds: float = 0.0
    # Whether the caller was told to send its body, if it waits for that.
    awaits_continue: bool = False

    def discard(self) -> None:
        """There is nothing to capture here."""
        if self.tee is not None:
            self.tee.discard()


class Proxy:
    """The relay between callers and Flagsmith."""

    def __init__(self, config: Config, upstream: Upstream, capture: Capture, metrics: Metrics, clock: Clock) -> None:
        self.environments: Mapping[str, Environment] = config.by_key()
        self._listen = config.listen
        self._upstream = upstream
        self._capture = capture
        self._clock = clock
        self._metrics = metrics
        # Its children, bound once: looking one up costs more than counting.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._host = None if config.upstream.host_header == "client" else upstream.origin.authority
        self._via = f"{VIA}-{secrets.token_hex(4)}"
        # What headers come to: whoever asks for flags sends the same ones each time.
        self._onward: Recent[tuple[RawHeaders, str | None, HttpVersion], Onward] = Recent(KNOWN_HEADERS)
        self._commit_timeout = config.outbox.commit_timeout if config.outbox.commit == "before_answer" else None
        # The hashes of the keys in the log.
        self._named_keys: set[int] = set()
        self._readers: set[asyncio.Task[None]] = set()

    def serve(self, environments: Mapping[str, Environment]) -> None:
        """Recognise *environments* by their keys from now on; requests in flight go on as they began."""
        self.environments = environments
        self._counters.clear()  # those of environments that are gone end

    def server(self) -> web.Server:
        """What a runner serves on `listen`."""
        front = Front(self.answer, self._listen, self._clock)
        self._metrics.in_flight.set_function(lambda: front.in_flight)
        return front

    async def finished(self) -> None:
        """Return once the answers whose callers left are read to their end."""
        while self._readers:
            await asyncio.wait(self._readers)

    async def answer(self, request: web.BaseRequest) -> Reply:
        """Answer *request*; cancelled when its caller leaves."""
        passage = self._recognise(request)
        try:
            answer = await self._ask(passage)
        except (UpstreamError, RequestRefused) as failure:
            passage.discard()
            return self._refuse(passage, failure)
        except BaseException:
            passage.discard()
            raise
        return await self._pass_on(passage, answer)

    # The way out.

    def _recognise(self, request: web.BaseRequest) -> Passage:
        endpoint = endpoint_class(request.method, request.raw_path.partition("?")[0])
        onward = self._take_on(request)
        environment = self.environments.get(onward.keys[0]) if len(onward.keys) == 1 else None
        tee = self._watch(request, environment, onward) if endpoint == "identities" else None
        name = UNKNOWN if environment is None else environment.name
        return Passage(request, onward, endpoint, name, tee, self._clock.monotonic())

    def _take_on(self, request: web.BaseRequest) -> Onward:
        known = request.raw_headers, request.remote, request.version
        found = self._onward.get(known)
        if found is None:
            via = f"{request.version.major}.{request.version.minor} {self._via}".encode("ascii")
            found = onward(request.raw_headers, Hop(self._peer(request), via, self._host or self._own_host(request)))
            if len(found.fields) <= KNOWN_BYTES:
                self._onward.put(known, found)
        return found

    def _own_host(self, request: web.BaseRequest) -> bytes | None:
        """HTTP/1.0 knows no Host; a request that goes on as HTTP/1.1 has one."""
        return None if "Host" in request.headers else self._upstream.origin.authority

    def _watch(self, request: web.BaseRequest, environment: Environment | None, onward: Onward) -> Tee | None:
        """Copy an identity call, unless it is nobody's or another relay's."""
        if environment is None:
            self._note_unknown([key for key in onward.keys if key not in self.environments])
            return None
        tee = Tee(self._capture, self._metrics, self._clock)
        if names_a_relay(onward.via):
            tee.skip(environment, "already_captured")
        else:
            kind, coding = request.headers.get("Content-Type", ""), request.headers.get("Content-Encoding", "")
            tee.record(environment, request.method, request.raw_path, kind, coding)
        return tee

    def _note_unknown(self, keys: list[str]) -> None:
        """Name each key once, by a part of its hash: enough to find it, too little to use it."""
        for key in keys:
            self._metrics.unknown_keys.inc()
            if hash(key) not in self._named_keys and len(self._named_keys) < NAMED_KEYS:
                self._named_keys.add(hash(key))
                fingerprint = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:8]
                log.warning("environment.unknown", sha256=fingerprint, advice="name the key in the YAML to capture it")

    async def _ask(self, passage: Passage) -> UpstreamAnswer:
        outgoing = self._outgoing(passage)
        sent = self._clock.monotonic()
        try:
            answer = await self._upstream.send(outgoing)
        except ConnectionReused:
            if outgoing.body is not None or outgoing.method not in REPEATABLE:
                raise
            self._metrics.upstream_repeats.inc()
            answer = await self._upstream.send(outgoing, fresh=True)
        passage.upstream_seconds = self._clock.monotonic() - sent
        return answer

    def _outgoing(self, passage: Passage) -> Outgoing:
        request = passage.request
        target = origin_form(request.method, request.raw_path)
        if passage.onward.via and any(self._via in value for value in passage.onward.via):
            raise UpstreamError(502, "loop")
        if not request.body_exists:
            return Outgoing(request.method, target, passage.onward.fields)
        if not _readable(request):
            raise RequestRefused(400, "transfer_coding")
        passage.awaits_continue = _expects_continue(request)
        chunked = not passage.onward.measured
        return Outgoing(request.method, target, passage.onward.fields, self._body(passage), chunked)

    async def _body(self, passage: Passage) -> AsyncIterator[bytes]:
        """The request's body as it arrives. Raises RequestRefused where it does not."""
        request = passage.request
        if passage.awaits_continue:
            passage.awaits_continue = False
            await go_on(request)
        while True:
            try:
                async with asyncio.timeout(self._body_patience):
                    chunk = await request.content.readany()
            except TimeoutError as silence:
                raise RequestRefused(408, "body_timeout") from silence
            except web.RequestPayloadError as broken:
                raise RequestRefused(400, "body_unreadable") from broken
            if not chunk:
                return
            if passage.tee is not None:
                passage.tee.request_chunk(chunk)
            yield chunk

    @property
    def _body_patience(self) -> float:
        idle = self._listen.idle_timeout
        return min(idle, HURRIED_SECONDS) if self._upstream.crowded else idle

    # The way back.

    async def _pass_on(self, passage: Passage, answer: UpstreamAnswer) -> Reply:
        """Stream *answer* to the caller; what capture still wants of it is read when the caller is gone."""
        reply: Reply | None = None
        try:
            reply = self._reply(passage, answer)
            await self._stream(passage, answer, reply)
        except UpstreamError as failure:
            passage.discard()
            return self._break_off(passage, reply, failure)
        except ConnectionError as gone:  # the caller left, and aiohttp has not noticed yet, or it stopped to read
            if reply is None:
                raise
            if isinstance(gone, CallerStalled):
                self._report_stalled(passage)
            reply.abort()
        except BaseException:  # told to end, or a bug
            if reply is not None and reply.begun:
                reply.abort()
            raise
        finally:
            self._part_with(passage.tee, answer)
        return reply

    def _reply(self, passage: Passage, answer: UpstreamAnswer) -> Reply:
        request = passage.request
        if passage.tee is not None:
            passage.tee.answered(answer.status, answer.text(b"content-type"), answer.text(b"content-encoding"))
        if not answer.whole:
            answer.patient = answer.text(b"content-type").lower().startswith("text/event-stream")
        headers: RawHeaders = answer.headers
        if b"location" in answer.names:
            headers = self._led_back(headers, request)
        try:
            return Reply(request, answer.status, answer.reason, headers, keep_alive=not passage.awaits_continue)
        except ValueError as broken:
            raise UpstreamError(502, "unreadable") from broken

    def _led_back(self, headers: RawHeaders, request: web.BaseRequest) -> list[tuple[bytes, bytes]]:
        caller = caller_address(request.raw_headers, self._peer(request))
        return [
            (name, location(value, self._upstream.origin, caller) if name.lower() == b"location" else value)
            for name, value in headers
        ]

    async def _stream(self, passage: Passage, answer: UpstreamAnswer, reply: Reply) -> None:
        tee = passage.tee
        if tee is not None and tee.open and self._commit_timeout is not None:
            await self._stream_until_committed(passage, tee, answer, reply, self._commit_timeout)
            return
        chunk, ended = answer.arrived(), answer.ended
        self._begin(passage, reply)
        while True:
            if tee is not None:
                tee.answer_chunk(chunk, last=ended)
            await reply.send(chunk, last=ended)
            if ended:
                break
            chunk = await answer.read()
            ended = answer.ended
        if tee is not None:
            tee.finish()

    async def _stream_until_committed(
        self, passage: Passage, tee: Tee, answer: UpstreamAnswer, reply: Reply, timeout: float
    ) -> None:
        """Hold back the last bytes, so that a caller that has the whole answer knows its event is safe."""
        self._begin(passage, reply)
        await reply.send(b"")
        held, ended = b"", False
        while not ended:
            chunk = await answer.read()
            ended = answer.ended
            tee.answer_chunk(chunk, last=ended)
            if chunk and held:
                await reply.send(held)
            held = chunk or held
        committed = tee.finish()
        if committed is not None and not (await asyncio.wait({committed}, timeout=timeout))[0]:
            self._metrics.commit_timeouts.inc()
        await reply.send(held, last=True)

    def _begin(self, passage: Passage, reply: Reply) -> None:
        self._count(passage, reply.status)
        self._metrics.upstream_seconds.observe(passage.upstream_seconds)
        self._metrics.added_seconds.observe(self._clock.monotonic() - passage.began - passage.upstream_seconds)

    def _part_with(self, tee: Tee | None, answer: UpstreamAnswer) -> None:
        if tee is None or not tee.open:
            answer.close()
            return
        task = asyncio.create_task(_read_on(tee, answer), name="read-on")
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    # What the relay answers itself.

    def _refuse(self, passage: Passage, failure: UpstreamError | RequestRefused) -> Reply:
        self._count(passage, failure.status)
        if isinstance(failure, RequestRefused):
            return Reply.refusing(passage.request, failure.status, f"request_{failure.reason}", keep_alive=False)
        self._report(passage, failure)
        error, keep_alive = f"upstream_{failure.reason}", not passage.awaits_continue
        return Reply.refusing(passage.request, failure.status, error, keep_alive=keep_alive)

    def _break_off(self, passage: Passage, reply: Reply | None, failure: UpstreamError) -> Reply:
        """Tell the caller in words, or, where the answer has begun, by its lacking end."""
        if reply is None or not reply.begun:
            return self._refuse(passage, failure)
        self._report(passage, failure)
        reply.abort()
        return reply

    def _report(self, passage: Passage, failure: UpstreamError) -> None:
        self._metrics.upstream_errors.labels(failure.reason).inc()
        log.warning(
            "upstream.failed",
            reason=failure.reason,
            method=passage.request.method,
            endpoint=passage.endpoint,
            environment=passage.environment,
            seconds=round(self._clock.monotonic() - passage.began, 3),
        )

    def _report_stalled(self, passage: Passage) -> None:
        self._metrics.callers_stalled.inc()
        log.info(
            "caller.stalled",
            endpoint=passage.endpoint,
            environment=passage.environment,
            seconds=round(self._clock.monotonic() - passage.began, 3),
        )

    def _count(self, passage: Passage, status: int) -> None:
        kind = passage.environment, passage.endpoint, status // 100
        counter = self._counters.get(kind)
        if counter is None:
            counter = self._metrics.requests.labels(passage.environment, passage.endpoint, f"{status // 100}xx")
            self._counters[kind] = counter
        counter.inc()

    def _peer(self, request: web.BaseRequest) -> Peer:
        return peer(request.remote or "", self._listen.trusted_proxies)


async def _read_on(tee: Tee, answer: UpstreamAnswer) -> None:
    """Read an answer whose caller left, for capture alone: to its end, or to a bound of capture."""
    try:
        while not answer.ended and not tee.full:
            chunk = await answer.read()
            tee.answer_chunk(chunk, last=answer.ended)
        tee.finish()
    except UpstreamError:
        pass  # it never became whole
    finally:
        tee.discard()  # nothing is left to discard of what was finished
        answer.close()


def _readable(request: web.BaseRequest) -> bool:
    """Whether the body arrives as its caller meant it: any other transfer coding would go on unsaid."""
    codings = request.headers.getall("Transfer-Encoding", [])
    return not codings or [coding.lower() for coding in codings] == ["chunked"]


def _expects_continue(request: web.BaseRequest) -> bool:
    return request.version >= HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue"
