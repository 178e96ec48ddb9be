"""Real Redis servers for the tests, each a process of its own."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from relay.outbox.redis import RedisAddress
from tests.lacking import lacking


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class RedisServer:
    """A `redis-server` on a free port, with its files in *folder*; *settings* as in redis.conf."""

    def __init__(self, folder: Path, *, sentinel: bool = False, **settings: str) -> None:
        if shutil.which("redis-server") is None:
            lacking("redis-server is not installed")
        self.port = free_port()
        self.folder = folder
        self._settings = settings if sentinel else {"save": '""', "appendonly": "no", **settings}
        self._mode = ["--sentinel"] if sentinel else []
        self._file = folder / "redis.conf"

    @property
    def address(self) -> RedisAddress:
        return RedisAddress(nodes=(("127.0.0.1", self.port),))

    def start(self) -> None:
        """Start it, once more after it ended too; return once it answers with its data."""
        self.start_loading()
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server does not start"
            assert self.process.poll() is None, "redis-server ended"
            time.sleep(0.01)

    def start_loading(self) -> None:
        """Start it; return once it takes connections, whatever it answers."""
        written = [f"{name.replace('_', '-')} {value}" for name, value in self._settings.items()]
        text = "\n".join([f"port {self.port}", "bind 127.0.0.1", f"dir {self.folder}", *written])
        self._file.write_text(text)
        self.process = subprocess.Popen(["redis-server", self._file, *self._mode], stdout=subprocess.DEVNULL)
        while not self._listens():
            assert self.process.poll() is None, "redis-server ended"
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.AuthenticationError, redis.ResponseError):
            return True
        except redis.ConnectionError:  # also while it loads
            return False

    def client(self) -> redis.Redis:
        """Somebody else's connection to it."""
        return redis.Redis(port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """It is there and does not answer."""
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)


@contextmanager
def redis_server(folder: Path, *, sentinel: bool = False, **settings: str) -> Iterator[RedisServer]:
    """A server that is gone afterwards."""
    server = RedisServer(folder, sentinel=sentinel, **settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()
