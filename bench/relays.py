"""Relay processes for measurements, and what their metrics say."""

import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.load import client_key
from bench.process import Process, free_port, started
from relay.model import Lane

# How often the relay brings its gauges up to date, at least.
FIGURES_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class MeasuredRelay:
    """A relay under measurement."""

    process: Process
    # Where its metrics are.
    admin: str

    def figure(self, name: str) -> float:
        """The sum over all labels of the metric sample *name*."""
        with urllib.request.urlopen(f"{self.admin}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def wait_until_delivered(self, within: float = 180) -> None:
        """Return once Heap has all that was captured."""
        ends = time.monotonic() + within
        time.sleep(2 * FIGURES_SECONDS)
        while self.figure("relay_outbox_events"):
            if time.monotonic() > ends:
                raise RuntimeError("Heap does not get the events")
            time.sleep(FIGURES_SECONDS)

    def wait_until_ready(self, within: float = 15) -> None:
        """Return once it says that it is ready."""
        ends = time.monotonic() + within
        while time.monotonic() < ends:
            try:
                urllib.request.urlopen(f"{self.admin}/readyz").close()
            except OSError:
                time.sleep(0.005)
            else:
                return
        raise RuntimeError("the relay is not ready")


@contextmanager
def relay(
    folder: Path,
    name: str,
    upstream: str,
    heap: str = "",
    environments: int = 1,
    apps: int | None = None,
    send: str = "every_call",
    max_bytes: str = "512MiB",
) -> Iterator[MeasuredRelay]:
    """A ready relay; without *heap* it captures nothing. Each environment has an app of its own, or one of *apps*."""
    port, admin = free_port(), free_port()
    config = folder / f"{name}.yaml"
    settings = {
        "listen": {"port": port},
        "admin": {"port": admin},
        "log": {"level": "error"},
        "upstream": {"url": upstream},
        "outbox": {"url": f"sqlite:///{name}.db", "max_bytes": max_bytes},
        "shutdown": {"grace": "0s", "finish": "1s", "drain": "0s"},
        "defaults": {"send": send},
        "environments": [
            _environment(number, number % (apps or environments), heap) for number in range(environments if heap else 0)
        ],
    }
    config.write_text(yaml.safe_dump(settings))
    with started([sys.executable, "-m", "relay", "run", "-c", str(config)], port) as process:
        relay = MeasuredRelay(process, f"http://127.0.0.1:{admin}")
        relay.wait_until_ready()
        yield relay


def _environment(number: int, app: int, heap: str) -> dict[str, object]:
    return {
        "name": environment(number),
        "keys": [client_key(number)],
        "heap": {"app_id": lane(heap, app).app_id, "url": heap},
    }


def environment(number: int) -> str:
    """The name of the *number*th environment."""
    return f"environment-{number}"


def lane(heap: str, number: int = 0) -> Lane:
    """The *number*th app of a Heap."""
    return Lane(heap, str(1_000_000_000 + number))
