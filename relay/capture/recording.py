"""A bounded copy of one identity call while its bytes pass by the proxy."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from relay.model import Environment, Exchange

# The identity is in the answer of every Flagsmith since core 2.135.0; only for older ones is the request looked at.
REQUEST_BYTES = 1024 * 1024
# What an exchange weighs beside its bodies: objects, headers, its place in the queue.
OVERHEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """The bounds of every copy. Bytes, but for the number of flags."""

    max_answer: int
    max_decoded: int
    max_flags: int
    memory: int


class CopyMemory:
    """The bytes that all copies may hold together, until their commit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    @property
    def part_held(self) -> float:
        """How much of them is taken, from 0 to 1."""
        return self.held / self._limit

    def take(self, size: int) -> bool:
        """Reserve *size* bytes; False where they are not to be had."""
        if self.held + size > self._limit:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """Free reserved bytes."""
        self.held -= size


class Listener(Protocol):
    """Who is told how a recording ended."""

    def offer(self, exchange: Exchange, size: int) -> "asyncio.Future[None] | None":
        """The exchange is whole; its *size* reserved bytes are the listener's to give back once this returns."""

    def refuse(self, environment: Environment, reason: str) -> None:
        """The exchange is over, but could not be kept."""


class Recording:
    """An exchange in the making. Nothing here waits or raises; past a bound it lets go of all it holds.

    *environment*, *method*, *target*, *request_type* and *request_encoding* are the exchange's.
    """

    __slots__ = (
        *("_answer", "_answer_encoding", "_answer_size", "_answer_type", "_environment", "_limits", "_listener"),
        *("_memory", "_method", "_refused", "_request", "_request_encoding", "_request_size", "_request_type"),
        *("_size", "_target"),
    )

    def __init__(
        self,
        environment: Environment,
        method: str,
        target: str,
        request_type: str,
        request_encoding: str,
        *,
        limits: CaptureLimits,
        memory: CopyMemory,
        listener: Listener,
    ) -> None:
        self._environment = environment
        self._method = method
        self._target = target
        self._request_type = request_type
        self._request_encoding = request_encoding
        self._limits = limits
        self._memory = memory
        self._listener = listener
        self._answer_type = self._answer_encoding = self._refused = ""
        # Not lists of chunks: one of a byte or two weighs forty, and their sender chooses how many there are.
        self._request: bytes | bytearray = b""
        self._answer: bytes | bytearray = b""
        self._request_size = self._answer_size = self._size = 0
        self._reserve(OVERHEAD_BYTES + len(target))

    def request_chunk(self, chunk: bytes) -> None:
        """Remember a piece of the request's body."""
        self._request_size += len(chunk)
        if self._request_size > REQUEST_BYTES:
            self._request = b""
        elif self._reserve(len(chunk)):
            self._request = _joined(self._request, chunk)

    def answered(self, answer_type: str, answer_encoding: str) -> None:
        """Flagsmith answered 200; its Content-Type and Content-Encoding, empty where missing."""
        self._answer_type = answer_type
        self._answer_encoding = answer_encoding

    def answer_chunk(self, chunk: bytes) -> None:
        """Remember a piece of the answer's body."""
        self._answer_size += len(chunk)
        if self._answer_size > self._limits.max_answer:
            self._refuse("too_large")
        elif self._reserve(len(chunk)):
            self._answer = _joined(self._answer, chunk)

    @property
    def refused(self) -> bool:
        """Whether a bound was passed, so that there is nothing more to remember."""
        return bool(self._refused)

    def finish(self, received_at: float) -> "asyncio.Future[None] | None":
        """The answer is complete: offer the exchange. The future ends once its outcome is committed or given up."""
        if self._refused:
            self._listener.refuse(self._environment, self._refused)
            return None
        ending = self._listener.offer(self._exchange(received_at), self._size)
        self._size = 0
        return ending

    def discard(self) -> None:
        """The answer is not one to capture, or never became whole. A second call does nothing."""
        self._request = self._answer = b""
        self._memory.give_back(self._size)
        self._size = 0

    def _exchange(self, received_at: float) -> Exchange:
        return Exchange(
            self._environment,
            self._method,
            self._target,
            self._request_type,
            self._request_encoding,
            bytes(self._request),
            self._answer_type,
            self._answer_encoding,
            bytes(self._answer),
            received_at,
        )

    def _reserve(self, size: int) -> bool:
        if self._refused:
            return False
        if not self._memory.take(size):
            self._refuse("memory")
            return False
        self._size += size
        return True

    def _refuse(self, reason: str) -> None:
        self._refused = self._refused or reason
        self.discard()


def _joined(before: bytes | bytearray, chunk: bytes) -> bytes | bytearray:
    """Most bodies come in one piece, which is kept as it is."""
    if not before:
        return chunk
    if isinstance(before, bytes):
        before = bytearray(before)
    before += chunk
    return before
