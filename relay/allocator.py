"""Memory: one heap for all threads; what was freed goes back to the system; what stays is not searched for garbage."""

import asyncio
import ctypes
import gc
from contextlib import suppress

# glibc gives each thread a heap of its own, a fifth of the relay's memory, measured (man 3 mallopt). Python's lock lets
# only one thread allocate at a time anyway.
M_ARENA_MAX = -8
# Batches and answers come and go between things that stay, so glibc would keep a third of the relay's memory, measured.
# To give it back takes 5 ms at most, in a thread of its own.
GIVE_BACK_SECONDS = 10.0
# Python's collector looks through so many new objects at once. Its own 700 are made by a dozen flag calls, and a
# twentieth of their time goes into looking, measured; hardly any is ever garbage that it alone can find.
YOUNG_OBJECTS = 20_000


def share_one_heap() -> None:
    """Let all threads allocate from one heap, where the C library knows how."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


async def give_back_for_ever() -> None:
    """Give back what is free, again and again, until cancelled; return where the C library does not know how."""
    try:
        give_back = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return
    while True:
        await asyncio.to_thread(give_back, 0)
        await asyncio.sleep(GIVE_BACK_SECONDS)


async def set_apart_what_stays(started: asyncio.Event) -> None:
    """Have Python's collector leave alone what there is once *started*.

    Otherwise every flag call waits while it looks through modules and settings for garbage, again and again: 25 ms at
    least, and 300 ms with 3,000 Heap apps, measured.
    """
    await started.wait()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
