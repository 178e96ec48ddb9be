"""When a batch leaves."""

from relay.core.batch import LINGER, PACE, chunk_of, is_full, leave_in
from relay.core.budget import Rate
from relay.model import Ready

RATE = Rate(200.0, 1000.0)


def ready(events: int, size: int | None = None) -> Ready:
    return Ready(events, events * 100 if size is None else size, 0.0, None)


def wait(
    ready: Ready,
    *,
    tokens: float = 1000,
    waited: float = 0.0,
    since: float = 100.0,
    rate: Rate = RATE,
    in_order: bool = False,
) -> float:
    chunk, limits = chunk_of(rate, in_order=in_order), {"limit": 1000, "max_bytes": 750_000}
    return leave_in(ready, **limits, chunk=chunk, tokens=tokens, rate=rate, waited=waited, since=since)


def test_a_full_batch_leaves_at_once() -> None:
    assert wait(ready(1000), since=0.0) == 0
    assert wait(ready(75, 745_000), since=0.0) == 0


def test_a_batch_is_full_when_another_event_would_not_fit() -> None:
    assert is_full(ready(75, 745_000), 1000, 750_000)
    assert not is_full(ready(74, 735_000), 1000, 750_000)


def test_an_event_waits_for_company_for_two_seconds_at_most() -> None:
    assert wait(ready(1)) == LINGER
    assert wait(ready(1), waited=1.5) == 0.5
    assert wait(ready(1), waited=2.0) == 0


def test_a_backlog_waits_for_a_batch_worth_sending() -> None:
    assert wait(ready(1000), tokens=100) == 0.5
    assert wait(ready(1000), tokens=200) == 0
    assert wait(ready(50), tokens=40, waited=9) == 0.05


def test_a_backlog_that_goes_in_order_waits_for_few_large_batches() -> None:
    """And never for more than can be saved up, or for so much that a slow answer wastes some."""
    assert wait(ready(1000), tokens=200, in_order=True) == 3.0
    assert wait(ready(1000), tokens=800, in_order=True) == 0
    assert chunk_of(Rate(230.0, 600.0), in_order=True) == 480


def test_small_batches_keep_their_distance() -> None:
    assert wait(ready(3), waited=9, since=0.2) == PACE - 0.2
    assert wait(ready(200), waited=9, since=0.2) == 0


def test_a_tiny_share_sends_single_events() -> None:
    assert wait(ready(1000), tokens=0, rate=Rate(0.5, 2.5)) == 2.0
