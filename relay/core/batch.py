"""When a batch leaves: soon enough for whoever looks into Heap, in few requests, and wasting none of the budget."""

from relay.core.budget import ROUNDING, Rate
from relay.model import Ready

# Heap takes 1,000 events per call (developers.heap.io/reference/bulk-track).
BATCH_EVENTS = 1_000
# Not published. Heap's own mobile SDK stops at 1,000,000 bytes per upload, and its comments name collectors that pass
# on less than 0.8 MB (github.com/heap/heap-swift-core-sdk); stay below both.
BATCH_BYTES = 750_000
# Longest that an event waits for company, in seconds.
LINGER = 2.0
# Small batches keep this distance, and a backlog is sent in what the budget gives in it, in seconds.
PACE = 1.0
# One that goes in order is sent in this part of what can be saved up: a request costs the processor as much as a few
# hundred events, and the rest is saved while Heap answers.
PART = 0.8


def chunk_of(rate: Rate, *, in_order: bool) -> int:
    """How many events of a backlog are worth a request.

    Large ones only where it goes *in_order*: behind events that are put off, others wait for their first look.
    """
    return max(1, int(rate.burst * PART if in_order else rate.per_second * PACE))


def leave_in(
    ready: Ready, *, limit: int, max_bytes: int, chunk: int, tokens: float, rate: Rate, waited: float, since: float
) -> float:
    """Seconds until the batch that is *ready* should leave, 0 for now.

    *limit* and *max_bytes* are a batch's, *chunk* is worth a request, *tokens* are the lane's now. Its oldest event has
    *waited* so many seconds, and the batch before left *since* so many.
    """
    full = is_full(ready, limit, max_bytes)
    linger = 0.0 if full else LINGER - waited
    pace = 0.0 if full or ready.events >= chunk else PACE - since
    budget = (min(ready.events, chunk) - tokens) / rate.per_second
    wait = max(linger, pace, budget)
    return wait if wait > ROUNDING else 0.0


def is_full(ready: Ready, limit: int, max_bytes: int) -> bool:
    """Whether another event, as large as these are on average, would not fit."""
    return ready.events >= limit or ready.size * (ready.events + 1) > max_bytes * ready.events
