"""Whether this machine's clock is right, by what others say in their answers."""

from relay.cli.live.finding import Finding, Result

# Seconds. Heap keeps an event's time as it is told, however wrong (help.heap.io, "Why do I see events and users from
# the future?"); the outbox takes a time more than 10 minutes ahead for a clock that jumped.
WARN_ABOVE = 60.0
FAIL_ABOVE = 600.0
# Closer than this is more than a Date can tell.
AGREES_WITHIN = 2.0
ADVICE = "set this machine's clock (NTP): events carry its time"


def compare(probe: str, theirs: float | None, ours: float) -> Finding:
    """*theirs* is an answer's Date, None where it had none; *ours* was read at that moment. Seconds since 1970."""
    if theirs is None:
        return Finding(probe, Result.WARNING, "the answer has no Date", "see in another way that this clock is right")
    ahead = ours - (theirs + 0.5)  # a Date is cut to whole seconds
    if abs(ahead) < AGREES_WITHIN:
        return Finding(probe, Result.OK, f"agrees with this machine's to {AGREES_WITHIN:g} s")
    detail = f"this machine's is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} it"
    result = _grade(abs(ahead))
    return Finding(probe, result, detail, "" if result is Result.OK else ADVICE)


def _grade(seconds: float) -> Result:
    if seconds > FAIL_ABOVE:
        return Result.FAILED
    return Result.WARNING if seconds > WARN_ABOVE else Result.OK
