"""Scripts and commands on Redis: in time, or an OutboxError."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import cache, partial
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeVar

import msgspec
from redis import exceptions
from redis.asyncio import RedisCluster

from relay.errors import OutboxError
from relay.fleet import RedisAddress
from relay.outbox.redis.address import CONNECTIONS, connect, disconnect, label
from relay.outbox.redis.faults import explain

T = TypeVar("T")

# Of one call, with connecting and with the one repeat of what may be repeated, in seconds.
CALL_SECONDS = 5.0
# How long a put waits for replicas, where it does, in milliseconds: they are as far as the master's next answer.
REPLICAS_MILLISECONDS = 500

# What a call to Redis may end with. A cluster whose nodes cannot be reached has an error outside of redis-py's tree.
FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, OSError, TimeoutError)

Given = dict[str, Any]
_encode = msgspec.msgpack.Encoder().encode


@cache
def script(name: str) -> tuple[str, str]:
    """A script's text and its digest, by which Redis knows it once it has seen it."""
    folder = files("relay.outbox.redis") / "scripts"
    shared = "" if name == "open" else (folder / "tables.lua").read_text()
    text = shared + (folder / f"{name}.lua").read_text()
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()


class Link:
    """One Redis, with its connections."""

    def __init__(self, address: RedisAddress) -> None:
        self.label = label(address)
        self._client = connect(address)
        self._replicas = address.wait_replicas
        # The client fails where there are more calls than connections.
        self._turns = asyncio.Semaphore(CONNECTIONS)
        # Which server the connections are to, counted.
        self._server = 0
        self._leaving = asyncio.Lock()

    async def run(self, name: str, at: str, *arguments: bytes | str) -> Any:
        """What the script *name* says of the outbox whose keys begin with *at*. Raises OutboxError.

        Repeated once where the connection broke: one that was idle may have been closed by the other side.
        """
        return await self._in_time(lambda: self._run(name, at, arguments))

    async def command(self, *words: str | bytes | int) -> Any:
        """The answer to one command, which may be repeated."""
        return await self._in_time(lambda: self._again(words))

    async def every_master(self, *words: str) -> list[Any]:
        """Each master's answer to one command: of one server, or of all that make up a Cluster."""
        if not isinstance(self._client, RedisCluster):
            return [await self.command(*words)]
        ask = self._client.execute_command
        asked = [partial(ask, *words, target_nodes=node) for node in self._client.get_primaries()]
        return [await self._in_time(each) for each in asked]

    async def close(self) -> None:
        """Let go of the connections. Never raises."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await disconnect(self._client)
        except FAILURES:
            pass

    async def _run(self, name: str, at: str, arguments: tuple[bytes | str, ...]) -> Any:
        text, digest = script(name)
        # The second one never exists. With one key that does and one that does not, a Cluster refuses a script while it
        # moves their slot (redis.io/docs/latest/commands/cluster-setslot), and never halfway through.
        keys = (f"{at}meta", f"{at}nothing")
        replicas = self._replicas if name == "put" else 0
        try:
            return await self._again(("EVALSHA", digest, len(keys), *keys, *arguments), replicas)
        except exceptions.NoScriptError:
            return await self._again(("EVAL", text, len(keys), *keys, *arguments), replicas)

    async def _again(self, words: tuple[Any, ...], replicas: int = 0) -> Any:
        try:
            return await self._execute(words, replicas)
        except exceptions.BusyLoadingError:
            raise
        except exceptions.ConnectionError:
            return await self._execute(words, replicas)

    async def _execute(self, words: tuple[Any, ...], replicas: int) -> Any:
        """What Redis answers to *words*, once so many replicas have what they changed (redis.io/docs/commands/wait)."""
        if not replicas:
            return await self._client.execute_command(*words)
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command(*words)
            pipeline.execute_command("WAIT", replicas, REPLICAS_MILLISECONDS)
            # Not raised there: the error would quote the command, and with it what is private.
            answer, reached = await pipeline.execute(raise_on_error=False)
        for reply in (answer, reached):
            if isinstance(reply, Exception):
                raise reply
        if reached < replicas:
            raise OutboxError(
                f"{self.label} has {reached} replicas that took a put in time, and wait_replicas in outbox.url asks for"
                f" {replicas}; see to them, or lower that"
            )
        return answer

    async def _in_time(self, call: Callable[[], Awaitable[T]]) -> T:
        """What *call* answers. However it ends, a cancellation that came meanwhile ends this.

        redis-py waits with asyncio.wait_for, which before Python 3.12 may swallow one
        (github.com/python/cpython/issues/86296); a relay that is told to stop would go on.
        """
        task = asyncio.current_task()
        told = task.cancelling() if task else 0
        try:
            return await self._answer(call)
        finally:
            if task and task.cancelling() > told:
                raise asyncio.CancelledError

    async def _answer(self, call: Callable[[], Awaitable[T]]) -> T:
        known = self._server
        try:
            async with asyncio.timeout(CALL_SECONDS), self._turns:
                return await call()
        except FAILURES as failure:
            if isinstance(failure, exceptions.ReadOnlyError):
                await self._leave(known)
            raise explain(self.label, failure) from failure

    async def _leave(self, server: int) -> None:
        """Let go of the connections to *server*, for its name leads to another now, or will: the pool makes new ones.

        Once none is in use: redis-py breaks down in a call whose connection is closed beside it.
        """
        async with self._leaving, AsyncExitStack() as turns:
            if server == self._server:
                for _ in range(CONNECTIONS):
                    await turns.enter_async_context(self._turns)
                await self.close()
                self._server += 1


def encoded(given: Given) -> bytes:
    """*given* for a script."""
    return _encode(given)
