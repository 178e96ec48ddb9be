"""Idempotency keys."""

import os

# Random bits of so many keys are drawn at once: to ask the system takes longer than all else about a key, and lets go
# of the interpreter, for which other threads wait.
DRAWN = 500
RANDOM_BYTES = 12

_random: list[str] = []


def time_ordered_key(at: float) -> str:
    """A key: 12 hex digits of milliseconds, so that neighbours are stored together, and 96 random bits."""
    try:
        bits = _random.pop()  # whatever the thread, each is taken once
    except IndexError:
        drawn = os.urandom(DRAWN * RANDOM_BYTES).hex(",", RANDOM_BYTES).split(",")
        bits = drawn.pop()
        _random.extend(drawn)
    return f"{int(at * 1000):012x}{bits}"
