"""When a batch leaves: soon enough for whoever looks into Heap, in few requests, and wasting none of the budget."""

from relay.core.budget import Rate
from relay.model import Ready

# Heap takes 1,000 events per call (developers.heap.io/reference/bulk-track).
BATCH_EVENTS = 1_000
# Not published. Heap's own mobile SDK stops at 1,000,000 bytes per upload, and its comments name collectors that pass
# on less than 0.8 MB (github.com/heap/heap-swift-core-sdk); stay below both.
BATCH_BYTES = 750_000
# Longest that an event waits for company, in seconds.
LINGER = 2.0
# With a backlog a batch carries what the budget gives in this time, in seconds; small ones keep this distance.
PACE = 1.0


def leave_in(
    ready: Ready, *, limit: int, max_bytes: int, tokens: float, rate: Rate, waited: float, since: float
) -> float:
    """Seconds until the batch that is *ready* should leave, 0 for now.

    *limit* and *max_bytes* are a batch's, *tokens* the lane's now. Its oldest event has *waited* so many seconds, and
    the batch before left *since* so many.
    """
    chunk = max(1, int(rate.per_second * PACE))
    full = is_full(ready, limit, max_bytes)
    linger = 0.0 if full else LINGER - waited
    pace = 0.0 if full or ready.events >= chunk else PACE - since
    budget = (min(ready.events, chunk) - tokens) / rate.per_second
    return max(0.0, linger, pace, budget)


def is_full(ready: Ready, limit: int, max_bytes: int) -> bool:
    """Whether another event, as large as these are on average, would not fit."""
    return ready.events >= limit or ready.size * (ready.events + 1) > max_bytes * ready.events
