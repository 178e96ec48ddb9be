"""The only place that knows all the parts: build them, start them, supervise them, stop them in order."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog
from aiohttp import http_parser, web
from prometheus_client import CollectorRegistry

from relay import __version__
from relay.admin.server import admin_app
from relay.admin.status import status_of
from relay.allocator import give_back_for_ever
from relay.build import Parts, build
from relay.config import Config
from relay.core.status import Status
from relay.errors import OutboxError, OutboxInUse, StartError
from relay.fleet import Role
from relay.last_good import ConfigFile
from relay.log import configure as configure_log
from relay.log import wants_console
from relay.model import Clock, ConfigState
from relay.outbox import Outbox
from relay.outbox.keeper import Keeper
from relay.sender.orphans import Orphans
from relay.supervise import cancelled, supervised
from relay.watch import Watcher

if TYPE_CHECKING:
    from relay.outbox.spool import Spool

log = structlog.get_logger(__name__)

# Flags do not wait longer for a Redis that hangs when a relay starts; later calls open the outbox.
OPEN_SECONDS = 1.0

# An answer is read on for capture alone; a Flagsmith that hangs, or a disk, must not eat the time of the other steps.
READ_ON_SECONDS = 1.0
# Committing what was captured takes milliseconds.
COMMIT_SECONDS = 3.0

# Longer than a scraper rests (a minute), so that it keeps its connection; silent ones do not pile up.
ADMIN_IDLE_SECONDS = 90.0

# For cutting what is still connected at the very end. Not 0: to aiohttp that is no limit at all.
CUT_SECONDS = 0.1

# Why a port cannot be opened, and what to do about it.
NO_SUCH_ADDRESS = "write an address of this machine for {section}.host, or 0.0.0.0 for all"
PORT_ADVICE = {
    errno.EACCES: "change {section}.port to 1024 or more, or give the relay the right (CAP_NET_BIND_SERVICE)",
    errno.EADDRINUSE: "change {section}.port, or stop who holds it",
    errno.EADDRNOTAVAIL: NO_SUCH_ADDRESS,
}


class Relay:
    """One relay in this process: `run` until `stop`. Where it is told the *file* of its *config*, it watches that.

    A *role* other than all is half a relay: a proxy leaves delivery to others on the same outbox, a sender capture.
    """

    def __init__(
        self,
        config: Config,
        *,
        role: Role = "all",
        file: ConfigFile | None = None,
        registry: CollectorRegistry | None = None,
        clock: Clock | None = None,
    ) -> None:
        parts = self._parts = build(config, role, registry or CollectorRegistry(), clock or Clock())
        self._captures, self._delivers = role != "sender", role != "proxy"
        # The one that runs now; what needs a restart in it is not heeded.
        self._config = config
        self._watcher = Watcher(file, self._apply, parts.metrics, parts.clock) if file else None
        self._started_at = parts.clock.wall()
        self._config_state = ConfigState("", self._started_at)
        self._orphans = Orphans(parts.outbox, lambda: self._config.lanes())
        self._stopping = asyncio.Event()
        # Set once requests are answered; `url` (of a sender it is empty) and `admin_url` are known then.
        self.started = asyncio.Event()
        self.url = ""
        self.admin_url = ""

    @property
    def outbox(self) -> Outbox:
        """Where this relay's events wait."""
        return self._parts.outbox

    @property
    def registry(self) -> CollectorRegistry:
        """Where this relay's metrics are."""
        return self._parts.registry

    @property
    def parts(self) -> Parts:
        """Everything this relay is made of."""
        return self._parts

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def config_state(self) -> ConfigState:
        """Whether what runs is what the configuration file says."""
        return self._watcher.state if self._watcher else self._config_state

    def look_at_file(self) -> None:
        """Look now whether the configuration file changed."""
        if self._watcher:
            self._watcher.ask()

    def status(self) -> Status:
        """What is known of this relay now; in any thread."""
        parts = self._parts
        return status_of(
            parts.figures.reading,
            now=parts.clock.wall(),
            kind=parts.config.outbox.kind,
            started_at=self._started_at,
            ready=parts.health.ready,
            config=self.config_state,
            role=parts.role,
            members=parts.membership.members if parts.membership else (),
            members_at=parts.membership.found_at if parts.membership else None,
        )

    def stop(self) -> None:
        """Begin the orderly shutdown; `run` returns at its end."""
        self._parts.health.ready = False  # the load balancer looks elsewhere
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`, then shut down in order. Raises StartError where this machine does not allow it."""
        parts = self._parts
        require_c_parser()
        async with AsyncExitStack() as stack:
            await self._open_outbox(stack)
            stack.push_async_callback(self._say_goodbye)
            if self._captures:
                await stack.enter_async_context(parts.upstream)
            if self._delivers:
                await stack.enter_async_context(parts.sender)
            front = await self._listen(stack)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work, name=name) for name, work in self._work()]
                self._announce()
                await self._stopping.wait()
                await self._shut_down(front)
                await cancelled(tasks)

    async def _open_outbox(self, stack: AsyncExitStack) -> None:
        parts, required = self._parts, self._parts.config.outbox.required
        without = "events wait in the spool" if parts.spool else "flags are forwarded, nothing is captured"
        without = without if self._captures else "nothing is delivered"
        patience = OPEN_SECONDS if parts.spool and not required else None
        await open_outbox(parts.outbox, required=required, without=without, patience=patience)
        stack.push_async_callback(parts.outbox.close)
        if parts.spool and self._captures:
            await open_outbox(parts.spool, required=required, without="events are lost while the outbox is away")
            stack.push_async_callback(parts.spool.close)
        if parts.membership:
            stack.push_async_callback(parts.membership.leave)

    async def _listen(self, stack: AsyncExitStack) -> web.ServerRunner | None:
        """Open the ports; the proxy's runner, where there is one, is the one that shuts down in order."""
        parts, listen, admin = self._parts, self._parts.config.listen, self._parts.config.admin
        front = web.ServerRunner(parts.proxy.server()) if self._captures else None
        pages = admin_app(parts.health, parts.registry, admin.hosts, self.status, self._look)
        back = web.AppRunner(pages, access_log=None, shutdown_timeout=1, keepalive_timeout=ADMIN_IDLE_SECONDS)
        if front:
            self.url = await _open_port(stack, front, listen.host, listen.port, "listen")
        self.admin_url = await _open_port(stack, back, admin.host, admin.port, "admin")
        return front

    async def _look(self) -> None:
        """Find out, for who asks how things stand, what others on the outbox have done meanwhile."""
        if self._parts.membership:
            await asyncio.gather(self._parts.membership.look(), self._parts.figures.look())

    def _work(self) -> list[tuple[str, Coroutine[None, None, None]]]:
        """The long-lived tasks by name; all but the heartbeat are supervised."""
        parts = self._parts
        passengers = {"figures": parts.figures.run, "allocator": give_back_for_ever}
        if self._captures:
            passengers |= {"capture": parts.capture.run, "daily_cap": parts.capture.commits.daily_cap.run}
        if self._captures and parts.spool:
            passengers["spool"] = parts.spool.run
        if self._delivers:
            passengers |= {"sender": parts.sender.run, "keeper": self._keeper().run, "orphans": self._orphans.run}
        if parts.membership:
            passengers["membership"] = parts.membership.run
        if self._watcher:
            passengers["watcher"] = self._watcher.run
        work = [(name, supervised(run, name, parts.metrics)) for name, run in passengers.items()]
        return [*work, ("heartbeat", parts.health.tick())]

    def _keeper(self) -> Keeper:
        parts, rules = self._parts, self._parts.config.outbox
        return Keeper(
            parts.outbox,
            max_age=rules.max_age,
            dead_letter_max_age=rules.dead_letters.max_age,
            metrics=parts.metrics,
            clock=parts.clock,
        )

    async def _apply(self, config: Config) -> None:
        """Run on *config* from now on; requests in flight, to Heap too, go on as they began."""
        lanes, environments = config.lanes(), config.by_key()
        if config.log != self._config.log:
            configure_log(config.log.level, console=wants_console(config.log.format))
        self._config = config
        if self._delivers:
            await self._parts.sender.reload(lanes)
        self._parts.proxy.serve(environments)
        if self._captures:
            self._parts.capture.commits.daily_cap.caps = config.caps()
            self._parts.capture.commits.forecasts.follow(config.paces())
        self._parts.figures.environments = config.apps()
        self._orphans.look()

    def _announce(self) -> None:
        """Say in a few lines what will be done, and be ready for it."""
        config, role = self._parts.config, self._parts.role
        log.info("relay.started", version=__version__, role=role, listen=self.url, admin=self.admin_url)
        if self._captures:
            log.info("relay.forwards", upstream=config.upstream.url)
        for name, lane in config.apps().items():
            said = "relay.captures" if self._captures else "relay.delivers"
            log.info(said, environment=name, heap=lane.url, outbox=config.outbox.label)
        if not config.environments:
            log.warning("relay.captures_nothing", advice="name an environment in the YAML")
        self._parts.health.ready = not self.stopping  # a signal may have come already
        self.started.set()

    async def _shut_down(self, front: web.ServerRunner | None) -> None:
        parts, limits = self._parts, self._config.shutdown
        log.info("relay.stopping", grace=limits.grace, finish=limits.finish)
        if front:
            await asyncio.sleep(limits.grace)
            await _close_port(front, limits.finish)  # stop accepting; requests in flight finish
            await _within(READ_ON_SECONDS, parts.proxy.finished())  # answers whose caller left are read to their end
            await _within(COMMIT_SECONDS, parts.capture.drained())  # what was captured reaches the outbox
        await _within(limits.drain, self._deliver())

    async def _deliver(self) -> None:
        """Let nothing behind that ends with the process, as far as others take it."""
        parts, settings = self._parts, self._parts.config.outbox
        steps: list[Awaitable[None]] = []
        if self._captures and parts.spool and settings.spool_dies_with_process:
            steps.append(parts.spool.emptied())
        if self._delivers:
            steps.append(parts.sender.drain() if settings.dies_with_process else parts.sender.stop())
        await asyncio.gather(*steps)

    async def _say_goodbye(self) -> None:
        """The last line: what became of the events."""
        if not self.started.is_set():
            return
        parts, settings = self._parts, self._parts.config.outbox
        waiting, lost = parts.spool.kept.total() if parts.spool else 0, parts.capture.counts.at_risk
        if not parts.spool:
            with suppress(OutboxError):
                waiting = sum(level.events for level in await parts.outbox.levels())
        if settings.dies_with_process or (parts.spool and settings.spool_dies_with_process):
            waiting, lost = 0, lost + waiting
        log.info("relay.stopped", delivered=parts.sender.delivered, kept=waiting, lost=lost)


@asynccontextmanager
async def running(
    config: Config,
    *,
    role: Role = "all",
    file: ConfigFile | None = None,
    registry: CollectorRegistry | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Relay]:
    """A relay that serves while the context is open, and is shut down in order at its end."""
    relay = Relay(config, role=role, file=file, registry=registry, clock=clock)
    run = asyncio.create_task(relay.run(), name="relay")
    started = asyncio.create_task(relay.started.wait(), name="relay.started")
    await asyncio.wait({run, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        if not run.done():
            yield relay
    finally:
        relay.stop()
        await run


async def open_outbox(outbox: "Outbox | Spool", *, required: bool, without: str, patience: float | None = None) -> None:
    """Open the outbox, or go on *without*, which is said: flags matter more. So they do after *patience* seconds.

    Raises StartError where it is required or owned.
    """
    try:
        async with asyncio.timeout(patience):
            await outbox.open()
    except TimeoutError:
        log.error(
            "outbox.unavailable", detail=f"no answer within {patience:g} s; see whether it is well", consequence=without
        )
    except OutboxInUse as owned:
        raise StartError(str(owned)) from owned
    except OutboxError as failure:
        if required:
            raise StartError(f"{failure} (outbox.required is true: no start without it)") from failure
        log.error("outbox.unavailable", detail=str(failure), consequence=without)


def require_c_parser() -> None:
    """aiohttp's parser in plain Python has been the weaker one in every request smuggling advisory: refuse it."""
    if not hasattr(http_parser, "HttpRequestParserC"):
        raise StartError("aiohttp's C parser is missing; install aiohttp from a binary wheel, or with a C compiler")


async def _open_port(stack: AsyncExitStack, runner: web.BaseRunner, host: str, port: int, section: str) -> str:
    await runner.setup()
    stack.push_async_callback(_close_port, runner)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as failure:
        raise StartError(f"cannot listen on {host} port {port}: {reason_and_advice(failure, section)}") from failure
    return _url(runner.addresses[0])


def reason_and_advice(failure: OSError, section: str) -> str:
    """The system's words, which asyncio wraps into its own, and what to do about them."""
    if isinstance(failure, socket.gaierror):
        return f"{failure.strerror}; {NO_SUCH_ADDRESS.format(section=section)}"
    number = failure.errno or errno.EADDRNOTAVAIL  # newer asyncio gives no number for it
    advice = PORT_ADVICE.get(number, "change {section}.host or {section}.port")
    return f"{os.strerror(number)}; {advice.format(section=section)}"


async def _within(seconds: float, step: Awaitable[None]) -> None:
    """Give one *step* of the shutdown its time, and go on."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        await cancelled([task])
    if not task.cancelled():
        task.result()


async def _close_port(runner: web.BaseRunner, finish: float = CUT_SECONDS) -> None:
    """Stop accepting, give requests in flight *finish* seconds, and cut what is left: nothing at a second call."""
    for site in runner.sites:
        await site.stop()
    await asyncio.sleep(0)  # what was accepted just now begins
    if runner.server is not None:
        runner.server.pre_shutdown()  # a scraper's idle connection has nothing to wait for
        await runner.server.shutdown(finish)


def _url(address: tuple[str, int]) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host}:{address[1]}"
