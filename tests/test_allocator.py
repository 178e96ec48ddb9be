"""What the process does about its memory."""

import subprocess
import sys

# A process of its own: what is set apart here stays so.
SET_APART = """
import asyncio, gc
from relay.allocator import set_apart_what_stays

async def main():
    started = asyncio.Event()
    task = asyncio.create_task(set_apart_what_stays(started))
    await asyncio.sleep(0)
    print(gc.get_freeze_count())
    before = len(gc.get_objects())
    started.set()
    await task
    print(gc.get_freeze_count() > 0.9 * before)

asyncio.run(main())
"""


def test_what_is_there_at_the_start_is_not_searched_for_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", SET_APART], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["0", "True"]
