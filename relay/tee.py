"""What the proxy shows to capture. Flags are the product: what goes wrong here is logged, counted, and stays here."""

import asyncio
from contextlib import suppress

import structlog

from relay.capture import Capture
from relay.capture.recording import Recording
from relay.core.recognise import is_json
from relay.metrics import Metrics
from relay.model import Clock, Environment

log = structlog.get_logger(__name__)


class Tee:
    """One request's side channel to capture; it leads nowhere before `record` or `skip`. Nothing waits or raises."""

    __slots__ = ("_capture", "_clock", "_environment", "_failure", "_metrics", "_received_at", "_recording", "_skip")

    def __init__(self, capture: Capture, metrics: Metrics, clock: Clock) -> None:
        self._capture = capture
        self._metrics = metrics
        self._clock = clock
        self._recording: Recording | None = None
        self._environment: Environment | None = None
        self._skip = ""
        # Why nothing could be kept of an answer that may yet become whole, as the books call it.
        self._failure = ""
        self._received_at = 0.0

    @property
    def open(self) -> bool:
        """Whether more of the answer is wanted."""
        return self._recording is not None

    @property
    def full(self) -> bool:
        """Whether a bound was passed, so that nothing more is remembered."""
        return self._recording is not None and self._recording.refused

    def record(
        self, environment: Environment, method: str, target: str, request_type: str, request_encoding: str
    ) -> None:
        """Copy this identity call."""
        self._environment = environment
        try:
            self._recording = self._capture.begin(environment, method, target, request_type, request_encoding)
        except Exception as bug:
            self._fail(bug)

    def skip(self, environment: Environment, reason: str) -> None:
        """Only count this identity call, under *reason*, if it is answered 200."""
        self._environment, self._skip = environment, reason

    def request_chunk(self, chunk: bytes) -> None:
        """A piece of the request's body was sent on."""
        if self._recording is not None:
            try:
                self._recording.request_chunk(chunk)
            except Exception as bug:
                self._fail(bug)

    def answered(self, status: int, content_type: str, content_encoding: str) -> None:
        """The answer's headers are there. Only a 200 is an evaluation, and only JSON can be read."""
        if self._environment is None:
            return
        if status == 200 and not self._skip and not is_json(content_type):
            self._skip = "not_flags"
        if status != 200:
            self._environment = None
        if status != 200 or self._skip:
            self.discard()
        try:
            if self._environment is not None and self._skip:
                self._capture.skip(self._environment, self._skip)
            if self._recording is not None:
                self._recording.answered(content_type, content_encoding)
        except Exception as bug:
            self._fail(bug)

    def answer_chunk(self, chunk: bytes, *, last: bool) -> None:
        """A piece of the answer's body arrived."""
        if self._recording is not None:
            try:
                self._recording.answer_chunk(chunk)
            except Exception as bug:
                self._fail(bug)
            if last:
                self._received_at = self._clock.wall()

    def finish(self) -> "asyncio.Future[None] | None":
        """The answer is whole, or a bound was passed. The future, where there is one, ends with the commit."""
        if self._recording is not None:
            try:
                ending = self._recording.finish(self._received_at or self._clock.wall())
            except Exception as bug:
                self._fail(bug)
            else:
                self._recording = None
                return ending
        self._refuse_what_failed()
        return None

    def discard(self) -> None:
        """There is nothing to capture here."""
        recording, self._recording = self._recording, None
        if recording is not None:
            try:
                recording.discard()
            except Exception as bug:
                self._fail(bug)

    def _fail(self, bug: Exception) -> None:
        """The boundary between flags and analytics: every error that comes here ends here."""
        self._failure = "memory" if isinstance(bug, MemoryError) else "undecodable"
        self.discard()
        with suppress(MemoryError):  # there may be none to tell of it, either
            self._metrics.capture_failures.inc()
            # Its text may hold what passed by; its kind and place do not.
            log.error("capture.failed", error=type(bug).__name__, at=_place(bug))

    def _refuse_what_failed(self) -> None:
        """Have the books tell of a whole answer that was lost here."""
        if self._failure and self._environment is not None:
            try:
                self._capture.refuse(self._environment, self._failure)
            except Exception as bug:
                self._fail(bug)


def _place(bug: BaseException) -> str:
    """Where *bug* was raised, "recording.py:71"."""
    trace = bug.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
