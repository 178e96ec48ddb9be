"""The report says everything the page says, in lines for a terminal and a support ticket."""

from msgspec.structs import replace

from relay.core.report import report
from relay.core.status import CapStatus, OrphanStatus, OutboxStatus
from relay.model import ConfigState
from tests.admin.statuses import FORECAST, NOW, PAUSED, RECOVERED, environment, status


def test_a_report_in_full() -> None:
    costly = environment("production", RECOVERED, forecast=FORECAST, daily_cap=CapStatus(1_000_000, "stop", 810_000))
    paused = environment("staging", PAUSED, 12304, dead_letters={"expired": 2, "refused_by_heap": 1})

    assert (
        report(status(costly, paused))
        == """\
Flagsmith → Heap relay 1.2.3, 2026-11-24 14:05 UTC
relay     ready, running for 60 min
config    content 3f9ac01be22d, loaded 13:05 UTC
outbox    sqlite, 1.0 of 512 MiB
totals    12,507 captured, 180 delivered, 12,304 waiting, 3 dead letters, 0 refused
books     balanced

production
  lane    nothing waits
  heap    https://heapanalytics.com, last answer: delivered 200 at 14:04 UTC
  error   busy 503 at 14:02 UTC, good since
  hour    100 captured, 90 delivered
  a day   1,200,000 by every_call, at most 60,000 by on_change, after 3 h of traffic
  peak    3,000 events in the busiest minute, 20.0% of Heap's limit, 25.0% of its share
  cap     810,000 of 1,000,000 events today (81%), then the rest of the day is skipped
  books   100 captured = 90 delivered + 0 waiting + 10 skipped
  skipped empty 10

staging
  lane    Heap answers 503 since 14:02 UTC, 12,304 events waiting, next try in 40 s
  heap    https://heapanalytics.com, last answer: busy 503 at 14:04 UTC
  hour    100 captured, 90 delivered
  oldest  waits for 3 min
  books   12,407 captured = 90 delivered + 12,304 waiting + 10 skipped + 3 dead letters
  skipped empty 10
  dead    expired 2, refused_by_heap 1
"""
    )


def test_what_needs_somebody_stands_out() -> None:
    stale = ConfigState("ab" * 32, NOW, True, ("config.yaml:12: heap.region: write us or eu",), ("listen.port",))
    text = report(
        status(
            environment("production", difference=-1),
            ready=False,
            config=stale,
            orphans=[OrphanStatus("https://c.eu.heap-api.com", 1, NOW - 300, ["old", "older"])],
            outbox=OutboxStatus("sqlite", 1 << 20, 512 << 20, problem="the disk is full", read_at=NOW - 180),
        )
    )

    for line in (
        "relay     not ready, running for 60 min",
        "          STALE: the file holds something else, and the relay goes on with what it has",
        "          config.yaml:12: heap.region: write us or eu",
        "          RESTART to have what the file says of listen.port",
        "outbox    sqlite, 1.0 of 512 MiB, FAILING: the disk is full; read last at 14:02 UTC",
        "books     off by 1: please report this as a bug",
        "ORPHANED: 1 event at https://c.eu.heap-api.com, the oldest for 5 min, captured for old, older; "
        "no environment names this app any more.",
        "  books   100 captured = 90 delivered + 0 waiting + 10 skipped + -1 DIFFERENCE",
    ):
        assert line in text.splitlines()


def test_what_could_not_be_read_yet_is_not_told_as_nothing() -> None:
    text = report(status(environment("production"), outbox=OutboxStatus("sqlite", problem="is damaged")))

    assert "outbox    sqlite, FAILING: is damaged\ntotals    not known: the outbox was not read yet\n" in text
    assert "  books   not known: the outbox was not read yet" in text
    assert "balanced" not in text


def test_without_environments_it_says_what_that_means() -> None:
    assert "nothing is captured" in report(status())


def test_without_a_relay_it_says_where_the_figures_come_from() -> None:
    text = report(replace(status(environment("production", None)), started_at=None, config=None))

    assert "relay     not running; this is what stands in its outbox" in text
    assert "lane" not in text
