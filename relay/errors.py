"""Every error of the relay, named after what the caller does next.

RelayError
├─ ConfigError         the operator must change the file; exit 2
├─ StartError          the machine must change (a port in use, no C parser, no outbox); exit 1
├─ UpstreamError       answer 502 or 504 with its reason
│  └─ ConnectionReused   the reused connection died before any answer byte; a GET may go once more
├─ RequestRefused      answer 4xx with its reason; the caller must ask differently
├─ CallerStalled       the caller is as good as gone; break the answer off
├─ CaptureRefused      count it as refused with its reason; there is no event
├─ HeapUnreachable     try again later
└─ OutboxError         storage failed; keep proxying, refuse the capture, try again
   ├─ OutboxFull         no room for new events; what is stored stays
   ├─ OutboxInUse        another relay runs on this outbox; do not start
   └─ OutboxOutdated     the file is an older version's; `relay run` migrates it when it starts
"""


class RelayError(Exception):
    """The root of everything the relay raises on purpose; its text is one line for an operator."""


class ConfigError(RelayError):
    """The configuration has mistakes; each of them says what to write instead."""


class StartError(RelayError):
    """The relay cannot start on this machine as it is."""


class UpstreamError(RelayError):
    """Flagsmith could not be asked, or did not answer; *status* and *reason* are what the caller is told."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


class ConnectionReused(UpstreamError):
    """A pooled connection had been closed by the other side before it gave a single answer byte."""


class RequestRefused(RelayError):
    """The caller's request cannot be forwarded; *status* and *reason* are what it is told."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


class CallerStalled(RelayError, ConnectionError):
    """The caller has not read its answer for `listen.idle_timeout`; its connection is cut."""


class CaptureRefused(RelayError):
    """This exchange cannot be read; *reason* is the word its refusal is counted under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HeapUnreachable(RelayError):
    """Heap did not answer; whether it stored the events is unknown."""


class OutboxError(RelayError):
    """The outbox could not read or write; nothing of the call was stored."""


class OutboxFull(OutboxError):
    """The outbox has no room for these events; nothing of the call was stored."""


class OutboxInUse(OutboxError):
    """Another relay process owns this outbox."""


class OutboxOutdated(OutboxError):
    """The file is of an older version of the relay, and not migrated yet."""
