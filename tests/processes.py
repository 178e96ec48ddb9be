"""Real relay processes, for what only a process can show: signals, kills, exit codes, what stands on disk."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any


class RelayProcess:
    """`relay run` as a child process; its log lines are parsed as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self.text: list[str] = []
        self._more = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @property
    def url(self) -> str:
        return str(self.logged("relay.started")["listen"])

    @property
    def admin_url(self) -> str:
        return str(self.logged("relay.started")["admin"])

    def logged(self, event: str) -> dict[str, Any]:
        """The last log line of that name."""
        return next(line for line in reversed(self.lines) if line["event"] == event)

    async def wait_for(self, event: str, times: int = 1, within: float = 15) -> dict[str, Any]:
        """The last log line of that name, once there are so many."""
        async with asyncio.timeout(within):
            while sum(line["event"] == event for line in self.lines) < times:
                if self._reader.done():
                    raise AssertionError(f"the relay ended without {event!r}: {self.text}")
                self._more.clear()
                await self._more.wait()
        return self.logged(event)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def hang_up(self) -> None:
        """Have it look at its file."""
        self.process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    def pause(self) -> None:
        """It does nothing more, until it is told to go on."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    async def ended(self, within: float = 30) -> int:
        """The exit code, once it has ended and its last line is read."""
        async with asyncio.timeout(within):
            await asyncio.shield(self._reader)  # who waits in vain may ask again
            return await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            text = raw.decode()
            self.text.append(text)
            if text.startswith("{"):
                self.lines.append(json.loads(text))
            self._more.set()
        self._more.set()


@asynccontextmanager
async def relay_process(
    config: Path, environ: Mapping[str, str] | None = None, *options: str
) -> AsyncIterator[RelayProcess]:
    """A relay process on *config*, with more *options* for `relay run`; killed at the end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "run", "-c", str(config), *options),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, **(environ or {})},
    )
    relay = RelayProcess(process)
    try:
        yield relay
    finally:
        if process.returncode is None:
            process.kill()
        await relay.ended()
