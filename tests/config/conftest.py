"""A YAML file of a test's own, and what is found in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.config import Config, Findings, examine

ENVIRON = {
    "FLAGSMITH_CLIENT_KEY": "client-key",
    "FLAGSMITH_SERVER_KEY": "ser.server-key",
    "FLAGSMITH_STAGING_KEY": "staging-key",
    "FLAGSMITH_URL": "https://flagsmith.example.com/",
    "HEAP_APP_ID": "1234567890",
}
ENVIRONMENT = """\
environments:
  - name: production
    keys: [client-key]
    heap: {app_id: "1234567890", region: us}
"""


@dataclass(frozen=True, slots=True)
class Yaml:
    """A file to write and have examined."""

    path: Path

    def examine(self, text: str | bytes, environ: Mapping[str, str] = ENVIRON) -> Findings:
        self.path.write_bytes(text.encode() if isinstance(text, str) else text)
        return examine(self.path, environ)

    def mistakes(self, text: str | bytes, environ: Mapping[str, str] = ENVIRON) -> list[str]:
        """Its mistakes as lines, without the folder."""
        return [str(each).removeprefix(f"{self.path.parent}/") for each in self.examine(text, environ).mistakes]

    def config(self, text: str, environ: Mapping[str, str] = ENVIRON) -> Config:
        findings = self.examine(text, environ)
        assert findings.config, [str(each) for each in findings.mistakes]
        return findings.config

    def warnings(self, text: str) -> list[str]:
        return [f"{each.line} {each.path}: {each.text}" for each in self.examine(text).warnings]


@pytest.fixture
def yaml(tmp_path: Path) -> Yaml:
    return Yaml(tmp_path / "relay.yaml")
