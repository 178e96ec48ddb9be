"""The README and the docs lead where they say."""

import re
from pathlib import Path

import pytest

from relay.core.reasons import DEAD, REFUSED, SKIPPED, UPSTREAM

ROOT = Path(__file__).parents[1]
PAPERS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_every_link_to_a_file_leads_to_one(paper: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", paper.read_text())

    assert [link for link in links if not (paper.parent / link).is_file()] == []


@pytest.mark.parametrize(
    ("title", "reasons"),
    [("Flags fail", UPSTREAM), ("No events in Heap", (*SKIPPED, *REFUSED)), ("Dead letters grow", DEAD)],
)
def test_operating_explains_every_reason_under_its_symptom(title: str, reasons: tuple[str, ...]) -> None:
    _, _, rest = paper("operating").partition(f"\n## {title}\n")
    section, _, _ = rest.partition("\n## ")

    assert set(reasons) - set(re.findall(r"`(\w+)`", section)) == set()


def test_the_size_of_an_event_is_the_measured_one_everywhere() -> None:
    [(measured, capacity)] = re.findall(
        r"takes ([\d,]+) bytes of the file.* holds about ([\d,]+)", paper("performance")
    )
    [(told, held)] = re.findall(r"about ([\d.]+) kB for 28 flags: 512 MiB hold some ([\d,]+)", paper("kubernetes"))

    assert (told, held) == (f"{int(measured.replace(',', '')) / 1000:.1f}", capacity)


def paper(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()
