"""What the kubelet does to a pod's relay, done here to a real process: mounts, probes, SIGTERM, SIGKILL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml

from tests.helm.conftest import Manifest, one, pod, relay_container
from tests.processes import RelayProcess, relay_process

_GENERATIONS = count()


class Pod:
    """The relay of a rendered pod. Its folder is what survives the container; ports are free ones."""

    def __init__(self, made: list[Manifest], folder: Path, changes: dict[str, Any]) -> None:
        self.spec = pod(made)
        self.container = relay_container(self.spec)
        self._folder = folder
        self._config = yaml.safe_load(one(made, "ConfigMap")["data"]["config.yaml"])
        self.mount(changes)

    def mount(self, changes: dict[str, Any], **outbox: Any) -> None:
        """Write the ConfigMap into its volume, a new generation behind one swapped link, as the kubelet does.

        (kubernetes/kubernetes, pkg/volume/util/atomic_writer.go)
        """
        volume = self._folder / "config"
        generation = volume / f"..2026_{next(_GENERATIONS):06d}"
        generation.mkdir(parents=True)
        generation.joinpath("config.yaml").write_text(yaml.safe_dump(self._local(changes, outbox)))
        volume.joinpath("..data_tmp").symlink_to(generation.name)
        volume.joinpath("..data_tmp").rename(volume / "..data")
        if not volume.joinpath("config.yaml").is_symlink():
            volume.joinpath("config.yaml").symlink_to("..data/config.yaml")

    def _local(self, changes: dict[str, Any], outbox: dict[str, Any]) -> dict[str, Any]:
        """The rendered configuration on this machine: its own folders, free ports, the stand-ins."""
        outbox = {**self._config["outbox"], "url": f"sqlite:///{self._folder}/outbox/outbox.db", **outbox}
        here = {"listen": {"port": 0}, "admin": {"host": "127.0.0.1", "port": 0}, "outbox": outbox, **changes}
        return {**self._config, **here}

    @asynccontextmanager
    async def started(self) -> AsyncIterator[RelayProcess]:
        """The container, once its startupProbe passes."""
        async with relay_process(self._folder / "config" / "config.yaml") as relay:
            await relay.wait_for("relay.started")
            assert await self.passes(relay, "startupProbe")
            yield relay

    async def passes(self, relay: RelayProcess, probe: str) -> bool:
        """One try of a probe, as the chart wrote it."""
        port = urlsplit(relay.admin_url).port
        asked = self.container[probe]
        timeout = aiohttp.ClientTimeout(total=asked.get("timeoutSeconds", 1))
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://127.0.0.1:{port}{asked['httpGet']['path']}") as answer,
            ):
                return 200 <= answer.status < 400
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def stop(self, relay: RelayProcess, grace: float | None = None) -> int:
        """SIGTERM, and SIGKILL at the end of the pod's grace period (or of *grace* seconds); the exit code."""
        relay.terminate()
        try:
            return await relay.ended(within=grace or self.spec["terminationGracePeriodSeconds"])
        except TimeoutError:
            relay.kill()
            return await relay.ended()
