"""Load: wrk where it is installed, else a small generator of our own."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from tempfile import NamedTemporaryFile

PATH = "/api/v1/identities/?identifier=user-{}"
# How many identities the requests are about.
IDENTITIES = 2_000
# Microseconds in wrk's units.
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}

SCRIPT = """
local asked, began = 0, os.time()
request = function()
  asked = asked + 1
  local identity = tostring(asked % {identities})
  if {newcomers} > 0 and asked % {newcomers} == 0 then identity = began .. "-" .. asked end
  wrk.headers["X-Environment-Key"] = string.format("{key}", asked % {environments})
  return wrk.format("GET", string.format("{path}", identity))
end
"""


def client_key(number: int) -> str:
    """The Flagsmith key of the *number*th environment."""
    return f"bench-client-key-{number}"


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of load saw. Latencies are microseconds, from sending a request to its whole answer."""

    requests: int
    per_second: float
    p50: float
    p99: float
    failures: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked for: flags, as fast as they are answered."""

    # Connections kept open, each with one request at a time.
    connections: int
    seconds: int
    # The requests go round these many environments.
    environments: int = 1
    # Every so many requests one is about an identity that was never seen before; 0: none is.
    newcomers: int = 0


def run(url: str, demand: Demand) -> Load:
    """Put *demand* on the server at *url*."""
    return _wrk(url, demand) if shutil.which("wrk") else asyncio.run(ask(url, demand))


def _wrk(url: str, demand: Demand) -> Load:
    names = {"key": client_key(0)[:-1] + "%d", "path": PATH.format("%s"), "identities": IDENTITIES}
    script = SCRIPT.format(**names, environments=demand.environments, newcomers=demand.newcomers)
    with NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{demand.connections}", f"-d{demand.seconds}s", "--latency", "-s", file.name, url]
        report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return read_wrk(report)


def read_wrk(report: str) -> Load:
    """The figures in what `wrk --latency` prints."""

    def percentile(name: str) -> float:
        value, unit = re.findall(rf"^ +{name}% +([\d.]+)([a-z]+)$", report, re.MULTILINE)[0]
        return float(value) * UNITS[unit]

    return Load(
        requests=int(re.findall(r"(\d+) requests in", report)[0]),
        per_second=float(re.findall(r"Requests/sec: +([\d.]+)", report)[0]),
        p50=percentile("50"),
        p99=percentile("99"),
        failures=sum(int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", report))
        + sum(int(count) for line in re.findall(r"Socket errors: (.*)", report) for count in re.findall(r"\d+", line)),
    )


class Caller(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, demand: Demand, numbers: Iterator[int], ends: float) -> None:
        self.took: list[float] = []
        self.failures = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._demand = demand
        self._numbers = numbers
        self._ends = ends
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        head, found, body = self._unread.partition(b"\r\n\r\n")
        if not found or len(body) < int(re.findall(rb"(?i)content-length: *(\d+)", head)[0]):
            return
        self.took.append((time.perf_counter() - self._asked_at) * 1e6)
        self.failures += not head.startswith(b"HTTP/1.1 200")
        self._unread = b""
        if self._asked_at < self._ends:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, failure: Exception | None) -> None:
        self.failures += failure is not None
        self.done.set_result(None)

    def _ask(self) -> None:
        asked = next(self._numbers)
        is_new = self._demand.newcomers and asked % self._demand.newcomers == 0
        identity = f"{time.time_ns()}" if is_new else f"{asked % IDENTITIES}"
        path, key = PATH.format(identity), client_key(asked % self._demand.environments)
        self._asked_at = time.perf_counter()
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nX-Environment-Key: {key}\r\n\r\n".encode())


async def ask(url: str, demand: Demand) -> Load:
    """Put *demand* on the server at *url* from this process, which needs nothing installed."""
    began, numbers = time.perf_counter(), count()
    calls = (_call(url, demand, numbers, began + demand.seconds) for _ in range(demand.connections))
    callers = await asyncio.gather(*calls)
    elapsed = time.perf_counter() - began
    took = sorted(each for caller in callers for each in caller.took)
    return Load(
        requests=len(took),
        per_second=len(took) / elapsed,
        p50=took[len(took) // 2],
        p99=took[len(took) * 99 // 100],
        failures=sum(caller.failures for caller in callers),
    )


async def _call(url: str, demand: Demand, numbers: Iterator[int], ends: float) -> Caller:
    host, _, port = url.removeprefix("http://").partition(":")
    caller = Caller(demand, numbers, ends)
    await asyncio.get_running_loop().create_connection(lambda: caller, host, int(port))
    await caller.done
    return caller
