"""The strict stand-in Heap as a process of its own, so that its cost is nobody else's."""

import asyncio
import sys

from relay.sandbox.heap import StandInHeap


async def serve(port: int) -> None:
    """Answer on *port* for ever."""
    async with StandInHeap(port=port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
