"""relay sandbox: see the whole path work, with nothing else on the machine."""

import asyncio
import signal
import sys
from contextlib import suppress

import click
import uvloop

from relay import log
from relay.errors import StartError
from relay.sandbox import play

PORT = click.IntRange(0, 65535)


@click.command()
@click.option("--once", is_flag=True, help="Run a fixed sample on free ports, check the books, and exit.")
@click.option("--port", type=PORT, default=18080, show_default=True, help="The relay's port; 0 takes a free one.")
@click.option("--admin-port", type=PORT, default=19090, show_default=True, help="Its admin port; 0 takes a free one.")
def sandbox(once: bool, port: int, admin_port: int) -> None:
    """Run a stand-in Flagsmith, the relay, and a strict stand-in Heap, with sample traffic."""
    if port == admin_port != 0:
        raise click.UsageError("--port and --admin-port are the same; give two")
    log.configure("warning", console=True)
    try:
        sys.exit(0 if uvloop.run(_run(once, port, admin_port)) else 1)
    except StartError as failure:
        click.echo(f"relay: {failure}, or try --port 0 --admin-port 0", err=True)
        sys.exit(1)


async def _run(once: bool, port: int, admin_port: int) -> bool:
    """Whether all went well; the end of endless traffic by a signal did. Raises OSError where nobody reads any more."""
    failures: list[OSError] = []

    def say(text: str) -> None:
        try:
            click.echo(text)
        except OSError as failure:  # raised here it would be a fault of the stand-in Heap, and the event come again
            failures.append(failure)
            work.cancel()

    work = asyncio.create_task(_sample(say) if once else _trickle(port, admin_port, say), name="sandbox")
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with suppress(asyncio.CancelledError):
        return await work
    if failures:
        raise failures[0]
    return not once


async def _sample(say: play.Say) -> bool:
    async with play.sandbox(port=0, admin_port=0, say=say) as box:
        return await play.sample(box, say)


async def _trickle(port: int, admin_port: int, say: play.Say) -> bool:
    async with play.sandbox(port=port, admin_port=admin_port, say=say) as box:
        await play.trickle(box, say)
    return True
