"""A stand-in Heap as a process of its own, so that its cost is nobody else's."""

import argparse
import asyncio

from aiohttp import web

from relay.sandbox.heap import StandInHeap


async def serve(port: int) -> None:
    """Be strict on *port* for ever."""
    async with StandInHeap(port=port):
        await asyncio.Event().wait()


async def serve_boundless(port: int) -> None:
    """Take whatever comes on *port* for ever."""

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        return web.json_response({})

    server = web.Server(take)
    await asyncio.get_running_loop().create_server(server, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.heap", description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--boundless", action="store_true", help="know no limits and no wrong events")
    asked = parser.parse_args()
    asyncio.run((serve_boundless if asked.boundless else serve)(asked.port))
