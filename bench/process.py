"""Processes that are measured: started, watched through /proc, ended."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# A process that uses less than this share of a core has done what it was asked to do.
AT_REST = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    """A server under measurement."""

    pid: int
    # Base address without a trailing slash.
    url: str

    @property
    def cpu_seconds(self) -> float:
        """Processor time used so far by it and its children, user and system."""
        return sum(_ticks(pid) for pid in (self.pid, *_children(self.pid))) / TICKS_PER_SECOND

    def memory(self, figure: str) -> float:
        """Its *figure* ("VmRSS": resident now, "VmHWM": resident at most), in MB of 1,000,000 bytes."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{figure}:"))

    def rest(self, within: float = 30) -> None:
        """Wait until it has finished what the last requests left it to do, at most *within* seconds."""
        ends = time.monotonic() + within
        used = self.cpu_seconds
        while time.monotonic() < ends:
            time.sleep(0.5)
            before, used = used, self.cpu_seconds
            if used - before < AT_REST * 0.5:
                return


@contextmanager
def started(command: Sequence[str], port: int, stderr: int | None = None) -> Iterator[Process]:
    """A process that listens on *port* of this machine, until the context ends."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        wait_for_port(port, process)
        yield Process(process.pid, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def python(module: str, port: int, *arguments: str) -> Iterator[Process]:
    """One of this folder's servers as a process; what it says of callers that leave is of no interest."""
    with started([sys.executable, "-m", module, str(port), *arguments], port, subprocess.DEVNULL) as process:
        yield process


def free_port() -> int:
    """A port of this machine that nobody holds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], within: float = 15) -> None:
    """Return once somebody listens on *port*."""
    ends = time.monotonic() + within
    while time.monotonic() < ends and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not listen")


def _ticks(pid: int) -> int:
    # The command's name, in parentheses, may hold spaces; user and system time are the 12th and 13th field after it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
