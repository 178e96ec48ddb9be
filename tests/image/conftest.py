"""The image, built for real, and a way to run it as a cluster does: its user, its entry point, a read-only root."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes import RelayProcess

TAG = "localhost/flagsmith-heap-relay:test"

# Without an engine: the image's files bound read-only into a mount namespace of their own, and no right to write.
CHROOT = """
set -eu
mount --bind "$ROOT" "$ROOT"
mount --bind "$CONFIG" "$ROOT/etc/relay"
mount --bind "$DATA" "$ROOT/var/lib/relay"
mount -o remount,bind,ro "$ROOT"
exec chroot --userspec="$RUN_AS" "$ROOT" "$@"
"""


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, env=storage()).stdout.strip()


def storage() -> dict[str, str]:
    return {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot", **os.environ}


@dataclass(frozen=True, slots=True)
class Image:
    """A built image."""

    engine: str
    # Its configuration as the Docker format has it: User, Entrypoint, Cmd, Env, Labels, Healthcheck.
    config: dict[str, Any]
    # Its files, seen from outside.
    root: Path

    @asynccontextmanager
    async def running(self, config: Path, data: Path, *arguments: str) -> AsyncIterator[RelayProcess]:
        """The entry point with *arguments* (else the image's own), the folders mounted, nothing else writable."""
        process = await asyncio.create_subprocess_exec(
            *self._command(config, data, *arguments),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "ROOT": str(self.root), "CONFIG": str(config), "DATA": str(data), "RUN_AS": self.user},
        )
        relay = RelayProcess(process)
        try:
            yield relay
        finally:
            if process.returncode is None:
                process.kill()
            await relay.ended()

    @property
    def user(self) -> str:
        return str(self.config["User"])

    def _command(self, config: Path, data: Path, *arguments: str) -> list[str]:
        arguments = arguments or tuple(self.config["Cmd"])
        if self.engine == "buildah":
            alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", CHROOT, "sh"]
            return [*alone, *self.config["Entrypoint"], *arguments]
        mounts = ["--volume", f"{config}:/etc/relay:ro", "--volume", f"{data}:/var/lib/relay"]
        hardened = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "host"]
        return [self.engine, "run", "--rm", *hardened, *mounts, TAG, *arguments]


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    engine = said("scripts/image", TAG)
    if engine == "buildah":
        container = said("buildah", "from", "--pull=never", TAG)
        described = json.loads(said("buildah", "inspect", "--type", "image", TAG))["Docker"]["config"]
        yield Image(engine, described, Path(said("buildah", "mount", container)))
        said("buildah", "rm", container)
        return
    container = said(engine, "create", TAG)
    described = json.loads(said(engine, "inspect", TAG))[0]["Config"]
    yield Image(engine, described, export(engine, container))
    said(engine, "rm", container)


def export(engine: str, container: str) -> Path:
    """Its files, unpacked."""
    folder = Path(said("mktemp", "-d"))
    with subprocess.Popen([engine, "export", container], stdout=subprocess.PIPE) as tar:
        subprocess.run(["tar", "-xf", "-", "-C", str(folder)], stdin=tar.stdout, check=True)
    return folder
