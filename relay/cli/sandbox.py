"""relay sandbox: see the whole path work, with nothing else on the machine."""

import asyncio
import signal
import sys
from contextlib import suppress

import click

from relay import log
from relay.errors import StartError
from relay.sandbox import play


@click.command()
@click.option("--once", is_flag=True, help="Run a fixed sample on free ports, check the books, and exit.")
@click.option("--port", default=18080, show_default=True, help="The relay's port; 0 takes a free one.")
@click.option("--admin-port", default=19090, show_default=True, help="Its admin port; 0 takes a free one.")
def sandbox(once: bool, port: int, admin_port: int) -> None:
    """Run a stand-in Flagsmith, the relay, and a strict stand-in Heap, with sample traffic."""
    log.configure("warning", console=True)
    try:
        sys.exit(0 if asyncio.run(_run(once, port, admin_port)) else 1)
    except StartError as failure:
        click.echo(f"relay: {failure}, or try --port 0 --admin-port 0", err=True)
        sys.exit(1)


async def _run(once: bool, port: int, admin_port: int) -> bool:
    """Whether all went well; the end of endless traffic by a signal did."""
    if once:
        async with play.sandbox(port=0, admin_port=0, say=click.echo) as box:
            return await play.sample(box, click.echo)
    work = asyncio.create_task(_trickle(port, admin_port), name="sandbox")
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with suppress(asyncio.CancelledError):
        await work
    return True


async def _trickle(port: int, admin_port: int) -> None:
    async with play.sandbox(port=port, admin_port=admin_port, say=click.echo) as box:
        await play.trickle(box, click.echo)
