"""The image, built for real, and a way to run it as a cluster does: its user, its entry point, a read-only root."""

import asyncio
import json
import os
import subprocess
import tarfile
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
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=storage()).stdout.strip()


def storage() -> dict[str, str]:
    return {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot", **os.environ}


@dataclass(frozen=True, slots=True)
class Image:
    """A built image."""

    engine: str
    # Its configuration as the Docker format has it: User, Entrypoint, Cmd, Env, Labels, Healthcheck.
    config: dict[str, Any]
    # Its files. An archive tells whose they are to anybody; unpacked by one who is not root, they would be his.
    archive: tarfile.TarFile
    # Where they are mounted, without an engine.
    root: str = ""

    @property
    def files(self) -> dict[Path, tarfile.TarInfo]:
        """Everything in it by its path, which begins with no slash."""
        return {Path(member.name): member for member in self.archive}

    def read(self, path: str) -> str:
        content = self.archive.extractfile(self.files[Path(path)])
        assert content is not None, f"{path} is no file"
        return content.read().decode()

    @asynccontextmanager
    async def running(self, config: Path, data: Path, *arguments: str) -> AsyncIterator[RelayProcess]:
        """The entry point with *arguments* (else the image's own), the folders mounted, nothing else writable."""
        process = await asyncio.create_subprocess_exec(
            *self._command(config, data, *arguments),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**storage(), "ROOT": self.root, "CONFIG": str(config), "DATA": str(data), "RUN_AS": self.user},
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
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    archive, root = str(tmp_path_factory.mktemp("image") / "files.tar"), ""
    engine = said("scripts/image", TAG)
    if engine == "buildah":
        container = said("buildah", "from", "--pull=never", TAG)
        config = json.loads(said("buildah", "inspect", "--type", "image", TAG))["Docker"]["config"]
        root = said("buildah", "mount", container)
        said("tar", "-C", root, "-cf", archive, ".")
    else:
        container = said(engine, "create", TAG)
        described = json.loads(said(engine, "inspect", TAG))[0]
        config = {**described, **described["Config"]}  # podman has the health check beside it
        said(engine, "export", "--output", archive, container)
    with tarfile.open(archive) as files:
        yield Image(engine, config, files, root)
    said(engine, "rm", container)
