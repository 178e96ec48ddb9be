"""Where one row is played: a relay between its neighbours under steady calls, all of them real processes."""

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import trustme
import yaml
from prometheus_client.parser import text_string_to_metric_families

from faults.cgroup import Group, group
from faults.fault import Form, NotRun, Risk, Scene
from faults.ports import reserve_port
from faults.processes import RelayProcess, StandIn, standin
from faults.redis import Watched
from faults.shim import Shim, build
from faults.standin import CLIENT_KEY
from faults.stores import STORES, Storage
from faults.traffic import Traffic
from relay.admin.figures import SHARED_EVERY_SECONDS
from relay.outbox.spool import PATIENCE

ENVIRONMENT = "faults"
APP_ID = "1234567890"
DIRECT_PER_SECOND = 20
SAMPLE_SECONDS = 1.0
# After this long without anything waiting all is delivered: the gauges are a second old at most; a fleet's are older.
QUIET_SECONDS = 3.0
# Of the relay's retries none rests longer (5 minutes), and a lease that died with its process lasts one.
PATIENCE_SECONDS = 420.0
# A commit starts within 10 ms of its answer (docs/performance.md), and the disk has to be heard: what was answered so
# short before a SIGKILL may be in memory alone, with `after_answer`.
COMMIT_SECONDS = 0.5
# Where a Redis is slow just then, it was in memory until it went to the spool.
COMMIT_TO_REDIS_SECONDS = COMMIT_SECONDS + PATIENCE


@dataclass(frozen=True, slots=True)
class Sample:
    """What the relay said of itself at one moment."""

    # The sum of what the books of all environments are off by.
    difference: float
    waiting: float
    # How long the oldest event has waited, in seconds.
    oldest: float
    # Of the outbox's storage in use.
    size: float
    failing: float
    commit_timeouts: float


class Stage:
    """The parts of one row, and what happened to them."""

    def __init__(self, folder: Path, form: Form, scene: Scene, store: str) -> None:
        self.folder = folder
        self.form = form
        self.scene = scene
        self.store = store
        self.storage: Storage
        self.relay: RelayProcess
        # Those that only deliver.
        self.senders: list[RelayProcess] = []
        self.heap: StandIn
        self.flagsmith: StandIn
        self.traffic: Traffic
        # The same calls past the relay, to Flagsmith itself.
        self.direct: Traffic
        self.shim: Shim | None = None
        self.group: Group | None = None
        self.samples: list[Sample] = []
        self.at_risk: list[Risk] = []
        # What else is worth telling in the row.
        self.notes: list[str] = []
        self.url = self.admin = ""
        self.expired = folder / "expired.pem"
        self.valid = folder / "valid.pem"

    @property
    def data(self) -> Path:
        """The outbox's folder."""
        return self.folder / "data"

    @property
    def redis(self) -> Watched:
        """The one that the outbox is in."""
        if self.storage.redis is None:
            raise RuntimeError("the fault's store has no Redis")
        return self.storage.redis

    @property
    def commit_seconds(self) -> float:
        """How long an answer's event may be in the relay's memory alone."""
        return COMMIT_TO_REDIS_SECONDS if self.storage.redis else COMMIT_SECONDS

    def heap_clock(self, at: float) -> float:
        """A monotonic moment of this process, as Heap's clock has it."""
        began = self.shim.began_monotonic if self.shim else 0.0
        return began + (at - began) * self.scene.rate

    def preload(self) -> Shim:
        """The shim that the scene asked for."""
        if self.shim is None:
            raise RuntimeError("the fault's scene has no preload")
        return self.shim

    async def kill(self) -> None:
        """End the relay by SIGKILL, whatever it does."""
        await self.sample()
        ended = time.monotonic()
        await self.relay.end(signal.SIGKILL)
        self.at_risk.append(Risk(ended - self.commit_seconds, ended))

    async def sample(self) -> None:
        """Ask the relay once how it is; where it does not answer there is no sample."""
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self._http.get(f"{self.admin}/metrics") as answer:
                text = await answer.text()
            if answer.status == 200:  # without memory there may be no page, either
                self.samples.append(read_sample(text))

    async def settle(self) -> None:
        """Return once nothing waits for Heap, or for being read. Raises TimeoutError with what does."""
        quiet, ends = 0, time.monotonic() + PATIENCE_SECONDS
        enough = QUIET_SECONDS + (SHARED_EVERY_SECONDS if self.storage.redis else 0)
        while quiet * SAMPLE_SECONDS < enough:
            seen = len(self.samples)
            await self.sample()
            if not all(relay.runs for relay in (self.relay, *self.senders)):
                raise RuntimeError("the relay has died")
            last = self.samples[-1] if len(self.samples) > seen else None
            busy = last is None or last.waiting or last.failing or await self._in_hand()
            quiet = 0 if busy else quiet + 1
            if time.monotonic() > ends:
                raise TimeoutError(f"{last.waiting if last else '?'} events wait after {PATIENCE_SECONDS:.0f} s")
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _in_hand(self) -> int:
        """How many answers were captured and are in no book yet."""
        async with self._http.get(f"{self.admin}/status.json") as answer:
            status = await answer.json()
        return sum(int(environment["in_hand"]) for environment in status["environments"])

    async def keep_sampling(self) -> None:
        """One sample a second, until cancelled."""
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def dead_letters(self) -> set[str]:
        """Whose events were set aside."""
        listed = await self.relay.command("dead-letters list", "--limit", "10000")
        shown = [await self.relay.command("dead-letters show", str(letter["number"])) for letter in listed]
        return {str(letter["event"]["identity"]) for letter in shown}

    async def book(self) -> dict[str, Any]:
        """The environment's book, as it stands in the outbox."""
        status = await self.relay.command("status")
        book: dict[str, Any] = next(each for each in status["environments"] if each["name"] == ENVIRONMENT)
        return book

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Stage"]:
        """Everything runs and is called, until the context ends."""
        async with AsyncExitStack() as stack:
            self._disk(stack)
            if self.scene.preload or self.scene.rate != 1:
                self.shim = Shim(build(self.folder), self.folder, self.scene.rate)
            if self.scene.memory:
                self.group = stack.enter_context(group(self.scene.memory))
            environ = self.shim.environ if self.shim and self.scene.rate != 1 else {}
            self.storage = await stack.enter_async_context(STORES[self.store](self.folder, environ))
            heap_port, flagsmith_port = reserve_port(), reserve_port()
            self.heap = await stack.enter_async_context(standin(self.folder, "heap", heap_port, *self._heap()))
            self.flagsmith = await stack.enter_async_context(standin(self.folder, "flagsmith", flagsmith_port))
            self._http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)))
            self._flagsmith_url = f"http://127.0.0.1:{flagsmith_port}"
            self._write(f"{self.scene.heap}:{heap_port}")
            stack.push_async_callback(self._end_relays)
            await asyncio.gather(*(relay.start() for relay in (self.relay, *self.senders)))
            self.traffic = await stack.enter_async_context(Traffic(self.url, self.scene.calls_per_second))
            self.direct = await stack.enter_async_context(Traffic(self._flagsmith_url, DIRECT_PER_SECOND))
            yield self

    def restore_settings(self) -> None:
        """The YAML as it was at first."""
        self.relay.config.write_text(yaml.safe_dump(self._settings))

    def _write(self, heap: str) -> None:
        port, admin = reserve_port(), reserve_port()
        self.url, self.admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        environment = {"name": ENVIRONMENT, "keys": [CLIENT_KEY], "heap": {"app_id": APP_ID, "url": heap}}
        self._settings: dict[str, Any] = {
            "listen": {"port": port},
            "admin": {"port": admin},
            "log": {"format": "json"},
            "reload": "1s",
            "upstream": {"url": self._flagsmith_url},
            "outbox": self.storage.settings,
            "shutdown": {"grace": "0s", "finish": "10s", "drain": "0s"},
            "environments": [environment],
        }
        for section, settings in self.scene.settings.items():
            self._settings[section] = {**self._settings.get(section, {}), **settings}
        environ = {"SSL_CERT_FILE": str(self.folder / "ca.pem")} if self.scene.heap.startswith("https") else {}
        environ |= self.shim.environ if self.shim else {}
        through = self.group.through if self.group else ()
        role = "proxy" if self.scene.senders else "all"
        self.relay = RelayProcess(self.folder / "config.yaml", self.admin, environ, through, role)
        self.restore_settings()
        self.senders = [self._sender(f"sender-{number}") for number in range(self.scene.senders)]

    def _sender(self, name: str) -> RelayProcess:
        folder, port = self.folder / name, reserve_port()
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump({**self._settings, "admin": {"port": port}}))
        return RelayProcess(folder / "config.yaml", f"http://127.0.0.1:{port}", {}, role="sender")

    def _heap(self) -> tuple[object, ...]:
        """How the stand-in Heap is started: its certificate, and its clock."""
        rate, began = self.scene.rate, self.shim.began_monotonic if self.shim else 0.0
        if not self.scene.heap.startswith("https"):
            return "", rate, began
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.folder / "ca.pem")
        _certify(authority, self.valid)
        _certify(authority, self.expired, expired=True)
        return self.valid, rate, began

    def _disk(self, stack: AsyncExitStack) -> None:
        self.data.mkdir()
        if self.scene.disk:
            run("mount", "-t", "tmpfs", "-o", f"size={self.scene.disk}", "tmpfs", str(self.data))
            stack.callback(run, "umount", "--lazy", str(self.data))

    async def end(self) -> Sequence[int]:
        """Stop all relays in order, and return their exit codes."""
        return [await relay.end() for relay in (self.relay, *self.senders)]

    async def _end_relays(self) -> None:
        for relay in (self.relay, *self.senders):
            with suppress(ProcessLookupError):
                relay.send(signal.SIGCONT)
                await relay.end(signal.SIGKILL)


def run(*command: str) -> None:
    """Have the system do what only root may. Raises NotRun where it does not."""
    if shutil.which(command[0]) is None:
        raise NotRun(f"{command[0]} is missing")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotRun(f"{command[0]} is not allowed here: {done.stderr.strip()}")


def read_sample(metrics: str) -> Sample:
    """What there is to know in the text that scrapers get."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics):
        for each in family.samples:
            sums[each.name] = sums.get(each.name, 0.0) + abs(each.value)
    return Sample(
        difference=sums.get("relay_books_difference", 0.0),
        waiting=sums.get("relay_outbox_events", 0.0),
        oldest=sums.get("relay_outbox_oldest_seconds", 0.0),
        size=sums.get("relay_outbox_bytes", 0.0),
        failing=sums.get("relay_outbox_failing", 0.0),
        commit_timeouts=sums.get("relay_commit_timeouts_total", 0.0),
    )


def _certify(authority: trustme.CA, path: Path, *, expired: bool = False) -> None:
    """A certificate for the machine itself, with its key."""
    until = datetime.now(UTC) - timedelta(hours=1) if expired else None
    certificate = authority.issue_cert("127.0.0.1", not_after=until)
    certificate.private_key_and_cert_chain_pem.write_to_path(path)
