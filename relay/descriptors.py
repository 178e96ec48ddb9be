"""Open files and connections: as many as this machine allows, and few words when they run out."""

import asyncio
import errno
import os
import resource
from contextlib import suppress
from typing import Any

import structlog

from relay.model import Clock

log = structlog.get_logger(__name__)

# What asyncio takes for "there are none left", and tries again a second later.
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# It says so for each of 128 tries, every second, while it lasts (`_accept_connection` in
# https://github.com/python/cpython/blob/3.11/Lib/asyncio/selector_events.py).
SILENT_SECONDS = 60.0

ADVICE = "new callers wait; find who keeps so many connections open, or allow more (ulimit -n; LimitNOFILE in systemd)"


def allow_most() -> None:
    """Let this process have as many files open as it may without asking: a login's usual 1,024 are few for a proxy."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS names no bound, and takes none
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class LoopErrors:
    """What the event loop could tell nobody else: logged by asyncio, but for files that ran out, once a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._silent_until = clock.monotonic()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An event loop's exception handler."""
        error = context.get("exception")
        if not ("socket" in context and isinstance(error, OSError) and error.errno in EXHAUSTED):
            loop.default_exception_handler(context)
        elif self._clock.monotonic() >= self._silent_until:
            self._silent_until = self._clock.monotonic() + SILENT_SECONDS
            allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            log.error("files.exhausted", reason=os.strerror(error.errno), allowed=allowed, advice=ADVICE)
