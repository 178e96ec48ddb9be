"""Tasks end when they are told to."""

import asyncio

from relay.supervise import cancelled


async def test_a_task_that_took_its_cancellation_for_a_time_out_is_told_again() -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("once")
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)

    await cancelled([task])

    assert task.cancelled()
    assert told == ["once"]
