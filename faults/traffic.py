"""Callers that ask for flags at a steady rate and write down from outside what each of them saw."""

import asyncio
import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import aiohttp

from faults.standin import CLIENT_KEY

# Connections kept at once; who finds none free waits, and its waiting counts.
CONNECTIONS = 100
PATIENCE_SECONDS = 60.0


# Not frozen: the answer is written into it.
@dataclass(slots=True)
class Call:
    """One call for the flags of an identity that no other call names; moments in monotonic seconds."""

    identity: str
    sent: float
    # None: no whole answer.
    answered: float | None = None
    # As answered; 0 where there was no answer.
    status: int = 0
    # Nobody listened.
    refused: bool = False
    over: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether it was answered 200, to the last byte."""
        return self.status == 200 and self.answered is not None

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise; one that is still under way has not."""
        return self.over and not self.succeeded

    @property
    def seconds(self) -> float:
        """How long it took; 0 where it has no answer."""
        return self.answered - self.sent if self.answered is not None else 0.0


class Traffic:
    """Calls to the server at *url*, *rate* a second whatever becomes of them, from entering it to leaving it."""

    def __init__(self, url: str, rate: float) -> None:
        self._url = f"{url}/api/v1/identities/"
        self._rate = rate
        self._asking: set[asyncio.Task[None]] = set()
        self.calls: list[Call] = []

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=PATIENCE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"X-Environment-Key": CLIENT_KEY, "Accept-Encoding": "identity"},
            auto_decompress=False,
        )
        self._pacer = asyncio.create_task(self._keep_asking())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()
        await self._http.close()

    @property
    def waiting(self) -> int:
        """Calls under way."""
        return len(self._asking)

    async def end(self) -> None:
        """Ask no more, and wait for the answers that are still to come."""
        self._pacer.cancel()
        await asyncio.gather(self._pacer, *self._asking, return_exceptions=True)

    def ask(self, identities: Sequence[str]) -> None:
        """Ask for all of *identities* now, beside the steady calls."""
        for identity in identities:
            self.calls.append(call := Call(identity, time.monotonic()))
            task = asyncio.create_task(self._ask(call))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _keep_asking(self) -> None:
        began, number = time.monotonic(), 0
        while True:
            self.ask([f"user-{number}"])
            number += 1
            await asyncio.sleep(max(0.0, began + number / self._rate - time.monotonic()))

    async def _ask(self, call: Call) -> None:
        try:
            async with self._http.get(self._url, params={"identifier": call.identity}) as answer:
                call.status = answer.status
                await answer.read()
                call.answered = time.monotonic()
        except aiohttp.ClientConnectorError as failure:
            call.refused = failure.errno == errno.ECONNREFUSED
        except (aiohttp.ClientError, TimeoutError):
            pass
        finally:
            call.over = True


def p99(calls: Sequence[Call]) -> float:
    """In milliseconds, of the calls that succeeded; 0 where none did."""
    seconds = sorted(call.seconds for call in calls if call.succeeded)
    return seconds[int(len(seconds) * 0.99)] * 1000 if seconds else 0.0
