"""The forecast as a table."""

from pathlib import Path

from msgspec.structs import replace

from relay.core.prospect import prospect
from tests.admin.statuses import FORECAST, environment, status


def test_a_table_in_full() -> None:
    exact = replace(FORECAST, send="on_change", at_most=False, observed=90_000.0)

    assert (
        prospect(status(environment("production", forecast=FORECAST), environment("staging", forecast=exact)))
        == """\
Events at the pace since the relay was started, of the last day at most; a month is 30 days.
Heap takes 15,000 events a minute of an app; heap.share says how much of that is this relay's.

production, after 3 h of traffic; in force is every_call
                                a day          a month   busiest minute  of Heap's limit     of its share
  every_call                1,200,000       36,000,000            3,000            20.0%            25.0%
  on_change                  ≤ 60,000      ≤ 1,800,000            ≤ 300             2.0%             2.5%
  answers a day by verdict
    every_call              1,200,000
    filtered                   30,000

staging, after 25 h of traffic; in force is on_change
                                a day          a month   busiest minute  of Heap's limit     of its share
  every_call                1,200,000       36,000,000            3,000            20.0%            25.0%
  on_change                    60,000        1,800,000              300             2.0%             2.5%
  answers a day by verdict
    every_call              1,200,000
    filtered                   30,000
"""
    )


def test_an_environment_that_is_not_in_the_yaml_has_none() -> None:
    assert "renamed" not in prospect(status(environment("renamed", None)))


def test_the_docs_show_it_as_it_is() -> None:
    whole = replace(FORECAST, at_most=False, observed=90_000.0)

    [_, table] = prospect(status(environment("production", forecast=whole))).rstrip().split("\n\n")
    assert f"```text\n{table}\n```" in Path("docs/heap.md").read_text()
