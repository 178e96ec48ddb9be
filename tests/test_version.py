"""There is one version, wherever it is written."""

import re
from pathlib import Path

import pytest
import yaml

from relay import __version__

ROOT = Path(__file__).parents[1]
CHART = yaml.safe_load((ROOT / "helm/flagsmith-heap-relay/Chart.yaml").read_text())
EXAMPLE = yaml.safe_load((ROOT / "helm/example-app/Chart.yaml").read_text())


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(CHART["version"], id="the chart's"),
        pytest.param(CHART["appVersion"], id="of the image that the chart pulls"),
        pytest.param(EXAMPLE["dependencies"][0]["version"], id="of the chart that the example depends on"),
        *re.findall(r"^ARG VERSION=(.+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE),
        *re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[:1],
    ],
)
def test_it_is_the_relays(written: str) -> None:
    assert written == __version__
