"""What set-up installs is pinned by hash, comes from wherever the machine says, and holds the whole relay."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_file_has_a_hash_for_every_pin_and_names_no_address(lock: Path) -> None:
    text = lock.read_text()

    entries = re.split(r"\n(?=\S)", text.strip())

    assert entries
    assert [entry for entry in entries if not (PIN.match(entry) and "--hash=sha256:" in entry)] == []
    assert not re.search(r"://|--index|--extra-index|--find-links", text)


def test_every_dependency_is_locked_at_a_version_that_is_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [each for extra in project["project"]["optional-dependencies"].values() for each in extra]
    named = [*project["project"]["dependencies"], *extras, *project["build-system"]["requires"]]
    wanted = map(Requirement, named)

    pins = PIN.findall((ROOT / "requirements/run.txt").read_text())

    locked = {canonicalize_name(name): version for name, version in pins}
    assert [each for each in wanted if locked[canonicalize_name(each.name)] not in each.specifier] == []


def test_the_sdks_lock_file_names_no_address() -> None:
    assert '"resolved"' not in (ROOT / "tests/sdk/package-lock.json").read_text()


def test_a_built_wheel_has_every_file_of_the_relay(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    tree = shutil.copytree(ROOT / "relay", tmp_path / "relay", ignore=shutil.ignore_patterns("__pycache__"))
    files = {str(path.relative_to(tmp_path)) for path in tree.rglob("*") if path.is_file()}

    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "."]
    subprocess.run([sys.executable, "-m", "pip", *build], cwd=tmp_path, check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    assert files <= set(zipfile.ZipFile(wheel).namelist())
