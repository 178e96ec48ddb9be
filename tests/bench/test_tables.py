"""What the bench makes of its measurements."""

from pathlib import Path

import pytest

from bench import tables, targets
from bench.__main__ import PARTS, judge
from bench.comparison import BASELINE, DIRECT, Comparison, Figures
from bench.targets import Target


def figures(cpu: float, p50: float) -> Figures:
    return Figures(per_second=1000, cpu_microseconds=cpu, p50=p50, p99=p50, failures=0)


SEEN = Comparison(
    rounds=[
        {
            DIRECT: figures(5, 100),
            "relay": figures(cpu, 200),
            "relay, on change": figures(cpu, 200),
            "relay, capturing nothing": figures(cpu / 2, 150),
            BASELINE: figures(100, 300),
        }
        for cpu in (50, 40, 80)
    ],
    captured=10,
    refused=0,
    unchanged=0.95,
)


def test_a_ratio_is_of_what_ran_in_the_same_round() -> None:
    assert SEEN.ratios("relay", lambda each: each.cpu_microseconds) == [0.4, 0.5, 0.8]
    assert SEEN.added("relay", lambda each: each.p50) == [0.5, 0.5, 0.5]
    assert "| relay | 1,000 (1.00x, 1.00 to 1.00) | 50 (0.50x, 0.40 to 0.80) |" in tables.comparison(SEEN)


def test_a_target_that_is_missed_ends_the_check_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    judged = targets.of_comparison(SEEN)
    assert [target.missed for target in judged] == [False, True, True, True, False]

    with pytest.raises(SystemExit) as ended:
        judge(judged)

    assert ended.value.code == 1
    assert "missed     0.50 of  0.42  relay: processor time" in capsys.readouterr().out


def test_where_every_target_is_kept_the_check_ends_with_0() -> None:
    with pytest.raises(SystemExit) as ended:
        judge([Target("a figure", 1.0, 1.0)])

    assert ended.value.code == 0


def test_a_run_takes_the_place_of_the_one_before_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- bench: start -->\nold\nfigures\n<!-- end -->\n\nprose\n")

    tables.write({"start": "new \\1 figures\n"}, page)

    assert page.read_text() == "# Title\n\n<!-- bench: start -->\nnew \\1 figures\n<!-- end -->\n\nprose\n"


def test_a_page_without_a_place_for_a_part_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")

    with pytest.raises(SystemExit, match="has no place for start"):
        tables.write({"start": "figures"}, page)


def test_the_page_has_a_place_for_every_part() -> None:
    text = tables.PAGE.read_text()

    assert [part for part in ("machine", *PARTS) if f"<!-- bench: {part} -->" not in text] == []
