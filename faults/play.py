"""Play one row: steady calls before, during and after the fault, then count what became of them."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from redis.exceptions import RedisError

from faults.fault import Fault, Form, NotRun
from faults.result import Result, Seen, Span, measure
from faults.stage import Stage

BEFORE_SECONDS = 4.0
AFTER_SECONDS = 4.0


async def play(fault: Fault, store: str, form: Form, folder: Path) -> Result:
    """The row as it was measured; one that could not be, with the reason."""
    folder.mkdir(parents=True)
    stage = Stage(folder, form, fault.scene, store)
    try:
        async with stage.opened():
            span = await inflict(fault, stage)
            return measure(fault, store, form, await count(stage, span))
    except NotRun as reason:
        return Result(fault.name, store, form, not_run=str(reason))
    except (OSError, RuntimeError, TimeoutError, RedisError) as failure:
        return Result(fault.name, store, form, missed=(f"broke off: {failure!r}",))


async def inflict(fault: Fault, stage: Stage) -> Span:
    """Let the fault last as long as its form says, watched once a second; return when that was."""
    watching = asyncio.create_task(stage.keep_sampling())
    try:
        await asyncio.sleep(BEFORE_SECONDS)
        began = time.monotonic()
        async with fault.inflict(stage):
            await asyncio.sleep(fault.seconds(stage.form))
        span = Span(began, time.monotonic())
        await asyncio.sleep(AFTER_SECONDS)
        await asyncio.gather(stage.traffic.end(), stage.direct.end())
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    await stage.settle()
    return span


async def count(stage: Stage, span: Span) -> Seen:
    """End the relays in order, and look at all that is left."""
    stage.notes += [f"ended with exit code {code}" for code in await stage.end() if code]
    stored = await stage.heap.tell("stored")
    return Seen(
        calls=stage.traffic.calls,
        direct=stage.direct.calls,
        span=span,
        stored=[(identity, at) for identity, at in stored["events"]],
        heap_clock=stage.heap_clock,
        repeats=stored["repeats"],
        violations=stored["violations"],
        dead=await stage.dead_letters(),
        book=await stage.book(),
        differences=[sample.difference for sample in stage.samples],
        commit_timeouts=int(total([sample.commit_timeouts for sample in stage.samples])),
        at_risk=stage.at_risk,
        before_answer=stage.storage.settings.get("commit") == "before_answer",
        notes=stage.notes,
    )


def total(counts: list[float]) -> float:
    """What a counter came to that began at 0 again with each process."""
    return sum(new - old if new >= old else new for old, new in zip([0.0, *counts], counts, strict=False))
