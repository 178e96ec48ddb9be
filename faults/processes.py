"""The relay and its neighbours as processes of their own, each with its errors in a file."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

# All that a stand-in Heap has is one line.
LINE_BYTES = 2**28
# A busy machine takes its time.
START_SECONDS = 120.0
# More than all steps of a shutdown take together.
STOP_SECONDS = 60.0

RELAY = Path(sys.executable).with_name("relay")


class StandIn:
    """A stand-in's process, which does as it is told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tell(self, command: str, *arguments: object) -> Any:
        """Have it obey, and return what it says."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("a stand-in without pipes")
        self._process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a stand-in ended at {command!r}")
        return json.loads(line)


@asynccontextmanager
async def standin(folder: Path, kind: str, *arguments: object) -> AsyncIterator[StandIn]:
    """A stand-in that listens until the context ends."""
    with (folder / f"{kind}.log").open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "faults.standin", kind, *map(str, arguments)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=LINE_BYTES,
        )
    try:
        one = StandIn(process)
        await one.tell("start")
        yield one
    finally:
        process.kill()
        await process.wait()


class RelayProcess:
    """`relay run` as operators run it; started again it is a new process on the same file and ports.

    *through* is a command that becomes the one that follows it.
    """

    def __init__(
        self, config: Path, admin: str, environ: Mapping[str, str], through: Sequence[str] = (), role: str = "all"
    ) -> None:
        self.config = config
        self._admin = admin
        self._environ = {**os.environ, **environ}
        self._command = (*through, str(RELAY), "run", "-c", str(config), "--role", role)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        if self._process is None:
            raise ProcessLookupError("the relay was not started")
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Run until it is ready. Raises RuntimeError where it does not become so."""
        with self.config.with_name("relay.log").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stderr=errors,
                env=self._environ,
            )
        ends = time.monotonic() + START_SECONDS
        async with aiohttp.ClientSession() as http:
            while not await is_ready(http, self._admin):
                if self._process.returncode is not None or time.monotonic() > ends:
                    raise RuntimeError(f"the relay does not start: {last_line(self.config.with_name('relay.log'))}")
                await asyncio.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send it *number*."""
        os.kill(self.pid, number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it *number* and return its exit code, once it has ended."""
        if self._process is None or not self.runs:
            return 0
        self._process.send_signal(number)
        async with asyncio.timeout(STOP_SECONDS):
            return await self._process.wait()

    async def ended(self) -> None:
        """Return once the process has ended, by itself or otherwise."""
        if self._process is not None:
            await self._process.wait()

    async def command(self, *arguments: str) -> Any:
        """What another of the relay's commands says of its file, in JSON. Raises RuntimeError where it fails."""
        command, *more = arguments
        process = await asyncio.create_subprocess_exec(
            *(str(RELAY), *command.split(), "-c", str(self.config), "--json", *more),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
        )
        said, why = await process.communicate()
        if not said:
            raise RuntimeError(f"relay {command}: {why.decode(errors='replace').strip()}")
        return json.loads(said)


async def is_ready(http: aiohttp.ClientSession, admin: str) -> bool:
    """Whether the relay says that it is."""
    try:
        async with http.get(f"{admin}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def last_line(log: Path) -> str:
    """What was said last."""
    return (log.read_text(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
