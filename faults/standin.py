"""python -m faults.standin heap|flagsmith PORT: a stand-in as a process of its own, told what to do line by line.

Each line of standard input is a JSON list, a command and its arguments; each of standard output is what it returns.
"""

import asyncio
import gzip
import json
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from relay.model import Clock
from relay.sandbox.faults import Fault, Raw, Reply, Scripted
from relay.sandbox.flagsmith import DEFAULT_FLAGS, StandInFlagsmith
from relay.sandbox.heap import StandInHeap

CLIENT_KEY = "client-key-under-faults"
JSON = ("Content-Type", "application/json")
# What is told takes effect for as many answers as a row can ask for.
MANY = 1_000_000
# So few that 1,000 events fit into one request to Heap.
FLAGS = DEFAULT_FLAGS[:5]
BOMB = gzip.compress(bytes(64 * 2**20))

Command = Callable[..., Coroutine[Any, Any, Any]]


async def reset_mid_answer(request: web.BaseRequest) -> web.StreamResponse:
    """Store nothing, and reset the connection in the middle of the answer's first lines."""
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Ty")
        await asyncio.sleep(0.02)
        connection = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


HEAP: dict[str, Scripted] = {
    "429": 429,
    "429 with Retry-After": Reply(429, b"", (("Retry-After", "3"),)),
    "429 with a long rest": Reply(429, b"", (("Retry-After", "10"),)),
    "500": 500,
    "hang": Fault.STORE_THEN_HANG,
    "reset": reset_mid_answer,
    "drop": Fault.TRUNCATE,
    "502": Fault.STORE_THEN_502,
    "drip": Fault.SLOW_DRIP,
}
FLAGSMITH: dict[str, Scripted] = {
    "truncate": Fault.TRUNCATE,
    "header": Reply(200, b"{}", (JSON, ("X-Long", "x" * 2**20))),
    "length": Raw(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n" + b'{"flags":[]}' * 9
    ),
    "bomb": Reply(200, BOMB, (JSON, ("Content-Encoding", "gzip"))),
    # Identity flags by their shape, of 1 MB.
    "large": Reply(200, b'{"flags":[],"traits":[],"x":"' + b"x" * 2**20 + b'"}', (JSON,)),
    "json": Reply(200, b'{"flags": [{"feature": ', (JSON,)),
}


def fast_clock(rate: float, began: float) -> Clock:
    """A clock that runs *rate* times as fast from *began* on, a moment of the monotonic one."""
    began_wall = time.time() - (time.monotonic() - began)
    return Clock(
        wall=lambda: began_wall + (time.time() - began_wall) * rate,
        monotonic=lambda: began + (time.monotonic() - began) * rate,
    )


class HeapCommands:
    """What a stand-in Heap can be told."""

    def __init__(self, port: int, certificate: str, rate: str, began: str) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        self._refused: set[str] = set()
        if self._tls:
            self._tls.load_cert_chain(certificate)
        clock = fast_clock(float(rate), float(began))
        self.standin = StandInHeap(port=port, ssl_context=self._tls, clock=clock, refuse_if=self._refuse)
        self.commands: dict[str, Command] = {
            "fail": self.fail,
            "refuse": self.refuse,
            "certificate": self.certificate,
            "stored": self.stored,
        }

    async def fail(self, answer: str) -> None:
        """Answer so from now on."""
        self.standin.fail_always(HEAP[answer])

    async def refuse(self, identity: str) -> None:
        """Refuse every event of *identity*."""
        self._refused.add(identity)

    async def certificate(self, path: str) -> None:
        """Show this one from the next connection on."""
        if self._tls:
            self._tls.load_cert_chain(path)

    async def stored(self) -> dict[str, Any]:
        """All that it has: identities with the moment each was stored, repeats, passed limits."""
        batches = self.standin.batches
        apps = {str(request.app_id) for request in self.standin.requests if request.app_id}
        events = [event for app in sorted(apps) for event in self.standin.stored(app)]
        return {
            "events": [(event.identity, event.received_at) for event in events],
            "repeats": self.standin.duplicates,
            "violations": len(self.standin.violations),
            "delayed": sum(request.status == 429 for request in self.standin.requests),
            "largest": max(map(len, batches), default=0),
        }

    def _refuse(self, event: dict[str, Any]) -> str | None:
        return "{event} should be delicious" if event.get("identity") in self._refused else None


class FlagsmithCommands:
    """What a stand-in Flagsmith can be told."""

    def __init__(self, port: int) -> None:
        self.standin = StandInFlagsmith(FLAGS, port=port, client_key=CLIENT_KEY)
        self.commands: dict[str, Command] = {"fail": self.fail, "delay": self.delay}

    async def fail(self, answer: str) -> None:
        """Answer so from now on."""
        self.standin.replies.extend([FLAGSMITH[answer]] * MANY)

    async def delay(self, seconds: float) -> None:
        """Rest before each answer."""
        self.standin.delay = seconds


async def obey(commands: dict[str, Command], standin: StandInHeap | StandInFlagsmith) -> None:
    """Do as told until nobody tells anything any more."""
    commands |= {"start": standin.start, "stop": standin.stop, "recover": recovering(standin)}
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        command, *arguments = json.loads(line)
        print(json.dumps(await commands[command](*arguments)), flush=True)
    await standin.stop()


def recovering(standin: StandInHeap | StandInFlagsmith) -> Command:
    """A command that lets it answer as ever."""

    async def recover() -> None:
        if isinstance(standin, StandInHeap):
            standin.recover()
        else:
            standin.replies.clear()
            standin.delay = 0

    return recover


if __name__ == "__main__":
    kind, port, *more = sys.argv[1:]
    told = HeapCommands(int(port), *more) if kind == "heap" else FlagsmithCommands(int(port))
    asyncio.run(obey(told.commands, told.standin))
