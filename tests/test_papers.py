"""The README and the docs lead where they say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAPERS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_every_link_to_a_file_leads_to_one(paper: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", paper.read_text())

    assert [link for link in links if not (paper.parent / link).is_file()] == []
