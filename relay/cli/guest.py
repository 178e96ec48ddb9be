"""Commands as guests on a relay's outbox: in short transactions beside the relay, or without one."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import click

from relay.build import make_outbox
from relay.config import Config
from relay.errors import RelayError
from relay.last_good import open_file
from relay.outbox import Outbox

T = TypeVar("T")


def settings_of(path: Path) -> Config:
    """What a relay on the YAML at *path* runs on: where that has mistakes the last good content, and a line says so.

    Raises ConfigError with every mistake where nothing can be run on.
    """
    file = open_file(path, os.environ)
    if file.mistakes:
        advice = f"`relay check -c {path}` tells them"
        click.echo(f"{path} has mistakes, so its last good content is used; {advice}", err=True)
    return file.loaded.config


@asynccontextmanager
async def visiting(settings: Config) -> AsyncIterator[Outbox]:
    """The outbox that the configuration names. Raises RelayError where nobody but the relay can look into it."""
    if settings.outbox.kind == "memory":
        raise RelayError("the outbox is memory://, which lives in the relay's process: only a running relay can tell")
    outbox = make_outbox(settings, guest=True)
    try:
        await outbox.open()
        yield outbox
    finally:
        await outbox.close()


def visit(settings: Config, work: Callable[[Outbox], Awaitable[T]]) -> T:
    """What *work* makes of the outbox. Raises RelayError."""

    async def visited() -> T:
        async with visiting(settings) as outbox:
            return await work(outbox)

    return asyncio.run(visited())
