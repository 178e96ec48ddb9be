"""One relay per file: whoever runs on an outbox holds a lock beside it that says who."""

import fcntl
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

from relay.errors import OutboxInUse

# A guest looks for microseconds (see `find_owner`): so often it is let finish, and for so long each time, in seconds.
LOOKS = 50
LOOK_SECONDS = 0.01


class OwnerLock:
    """The lock file of an outbox. The system lets go of it when the process ends, however that happens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Hold the lock from now on. Raises OutboxInUse while somebody else does, OSError where it cannot be made.

        May block for a moment, while guests look.
        """
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor)
            _sign(descriptor)
        except BlockingIOError:
            owner = _owner(descriptor)
            os.close(descriptor)
            raise OutboxInUse(f"is in use by {owner}; give each relay its own file") from None
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go, if it is held. The file stays: deleting it would let two relays lock two files of one name."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def find_owner(path: Path) -> str | None:
    """Who holds the lock file at *path* now, in words; None where nobody does. Raises OSError.

    It is held itself for the moment of looking: there is no other way to ask that every system knows.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(descriptor)
    finally:
        os.close(descriptor)
    return None


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError, at once where a relay holds the lock: what can be shared is only being looked at."""
    for _ in range(LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(LOOK_SECONDS)
        else:
            return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sign(descriptor: int) -> None:
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()} {since}\n".encode(), 0)


def _owner(descriptor: int) -> str:
    words = os.pread(descriptor, 1000, 0).decode(errors="replace").split()
    if len(words) != 3:
        return "another relay"
    return "the relay with process id {} on host {} since {}".format(*words)
