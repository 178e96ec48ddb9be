"""Open files and connections: as many as this machine allows, and few words when they run out."""

import resource
from contextlib import suppress

import structlog

from relay.model import Clock

log = structlog.get_logger(__name__)

# What is opened beside a caller's connection: one to Flagsmith and one to Heap, and what the storage opens at times.
FEW = 8
SILENT_SECONDS = 60.0

ADVICE = (
    "without any, new callers are cut off; find who keeps so many connections open, or allow more (ulimit -n; "
    "LimitNOFILE in systemd)"
)


def allow_most() -> None:
    """Let this process have as many files open as it may without asking: a login's usual 1,024 are few for a proxy."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS names no bound, and takes none
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Files:
    """Tells, once a minute, that the files run out.

    The event loop does not: it cuts off the callers for whom there is none (`uv__emfile_trick` in
    https://github.com/libuv/libuv/blob/v1.x/src/unix/stream.c), which nobody hears of.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._silent_until = clock.monotonic()

    def given(self, number: int) -> None:
        """A connection was given file *number*, the lowest that was free."""
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if allowed == resource.RLIM_INFINITY or number < allowed - FEW:
            return
        if self._clock.monotonic() >= self._silent_until:
            self._silent_until = self._clock.monotonic() + SILENT_SECONDS
            log.error("files.exhausted", allowed=allowed, advice=ADVICE)
