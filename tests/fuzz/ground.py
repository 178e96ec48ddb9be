"""A proxy before a raw Flagsmith that stands through many examples, and what becomes of bytes that are sent to it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar

from tests.proxy.conftest import Bench, started
from tests.proxy.raw import OK, PATIENCE, Caller, Message, RawFlagsmith, ask

T = TypeVar("T")

# Callers that stop in the middle of a request are let go after it.
IDLE_SECONDS = 0.3


class Ground:
    """Synchronous from outside: an example is one call."""

    def __init__(self, runner: asyncio.Runner, bench: Bench, flagsmith: RawFlagsmith) -> None:
        self._runner = runner
        self.bench = bench
        self.flagsmith = flagsmith

    @classmethod
    async def entered(cls, runner: asyncio.Runner, stack: AsyncExitStack) -> Self:
        """One whose parts end with *stack*."""
        flagsmith = await stack.enter_async_context(RawFlagsmith())
        listen = {"idle_timeout": f"{IDLE_SECONDS}s"}
        return cls(runner, await stack.enter_async_context(started(flagsmith.url, listen=listen)), flagsmith)

    def run(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Let *work* have the event loop."""
        return self._runner.run(work(*arguments))

    def send(self, *pieces: bytes) -> tuple[list[int], list[Message]]:
        """Send *pieces* one after the other; the answers' statuses until the connection ends, what Flagsmith got."""
        return self.run(self._send, pieces, self.bench.port, PATIENCE)

    def send_to(self, port: int, request: bytes) -> list[Message]:
        """The same to another proxy at *port*, which may keep its connections; what Flagsmith got."""
        return self.run(self._send, [request], port, IDLE_SECONDS)[1]

    def exchange(self, pieces: Sequence[bytes], answer: bytes = OK) -> tuple[Message, Message]:
        """One request in *pieces* that Flagsmith answers with *answer*: what Flagsmith got, and what the caller."""
        return self.run(self._exchange, pieces, answer)

    def captured(self) -> int:
        """How many answers were captured, once all that is under way is in the outbox or counted."""
        self.run(self._settle)
        return self.bench.capture.counts.captured.total()

    def is_well(self) -> bool:
        """Whether a plain call is answered as ever."""
        return bool(self.run(self.bench.ask, ask(b"/well")).status == 200)

    async def _settle(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.bench.proxy.finished()
            await self.bench.capture.drained()

    async def _send(self, pieces: Sequence[bytes], port: int, patience: float) -> tuple[list[int], list[Message]]:
        self.flagsmith.requests.clear()
        statuses: list[int] = []
        async with await Caller.at(port) as caller:
            try:
                for piece in pieces:
                    caller.writer.write(piece)
                    await asyncio.sleep(0)
                while not statuses or statuses[-1] < 400:  # after which it closes
                    async with asyncio.timeout(patience):
                        statuses.append((await caller.answer()).status)
            except (asyncio.IncompleteReadError, OSError):  # a time-out is one, too
                pass
        return statuses, list(self.flagsmith.requests)

    async def _exchange(self, pieces: Sequence[bytes], answer: bytes) -> tuple[Message, Message]:
        self.flagsmith.requests.clear()
        self.flagsmith.script.append(answer)
        async with await self.bench.caller() as caller:
            for piece in pieces:
                caller.writer.write(piece)
                await asyncio.sleep(0)
            came = await caller.answer(bodiless=pieces[0].startswith(b"HEAD"))
        [got] = self.flagsmith.requests
        return got, came
