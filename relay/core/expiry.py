"""When may an event be called too old, on a machine whose clock may jump?"""

import msgspec

# Two sweeps this far apart, by a clock that never jumps, must agree that an event is too old.
APART_SECONDS = 600.0
# No event was captured before this.
NEVER = float("-inf")


class Sweep(msgspec.Struct, frozen=True):
    """When the outbox was swept, by both clocks."""

    # Seconds since 1970; may jump.
    wall: float
    # Seconds since some moment; never jumps.
    monotonic: float


def sweep(previous: Sweep | None, now: Sweep) -> tuple[Sweep, float]:
    """The sweep to hand in as *previous* next time, and the time of day that was certainly reached.

    That is the earlier of what the two sweeps read, so that a clock that jumped ahead and came back in between
    makes nothing old; NEVER where there are no two sweeps far enough apart yet. Less the longest age allowed,
    it tells what was captured too long ago.
    """
    if previous is None:
        return now, NEVER
    if now.monotonic - previous.monotonic < APART_SECONDS:
        return previous, NEVER
    return now, min(previous.wall, now.wall)
