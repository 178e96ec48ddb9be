"""Notice that the configuration file changed; hand over the new one only if it is valid."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from msgspec.structs import replace

from relay.config import Config, Findings, Loaded, Mistake, Source, examine
from relay.last_good import ConfigFile, keep
from relay.metrics import Metrics
from relay.model import Clock, ConfigState

log = structlog.get_logger(__name__)

# A file in the middle of being written may be valid, and lack half of its environments: what stays the same for so
# long, in seconds, is taken for whole.
SETTLE_SECONDS = 0.2
LONGEST_SETTLE = 2.0
# Of a digest, in hex digits: enough to tell contents apart by eye, and in a label.
SHORT = 12


class Watcher:
    """Looks at the file every `reload` seconds, and when asked.

    All reading is done off the event loop: the disk may hang, and to check a thousand environments takes a second.
    """

    def __init__(
        self, file: ConfigFile, apply: Callable[[Config], Awaitable[None]], metrics: Metrics, clock: Clock
    ) -> None:
        self._path, self._environ = file.path, file.environ
        self._was_pipe = file.path.is_fifo()
        self._apply = apply
        self._metrics = metrics
        self._clock = clock
        # What needs a restart is this one's as long as the process lives.
        self._started_on = file.loaded.config
        self._running = file.loaded
        self._seen = file.seen
        self._asked = asyncio.Event()
        self.state = ConfigState("", 0.0)
        self._note(
            ConfigState(
                digest=file.loaded.source.digest,
                loaded_at=clock.wall(),
                stale=bool(file.mistakes),
                mistakes=tuple(map(str, file.mistakes)),
                last_good=bool(file.mistakes),
            )
        )

    def ask(self) -> None:
        """Look now, and say what was found even where that is known already."""
        self._asked.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._keep()
        if self._was_pipe:
            return  # `-c <(…)`: it was read at the start, and there is nothing to read again
        while True:
            await self._look(asked=await self._wait())

    async def _wait(self) -> bool:
        """Return when it is time to look: whether somebody asked."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._running.config.reload):
                await self._asked.wait()
        asked = self._asked.is_set()
        self._asked.clear()
        return asked

    async def _look(self, *, asked: bool) -> None:
        now = await asyncio.to_thread(Source.now, self._path, self._seen.files)
        if now.digest == self._seen.digest and not asked:
            return
        if await asyncio.to_thread(self._path.is_fifo):
            self._seen = now  # a pipe would be waited for, and its thread could not be ended
            self._refuse((Mistake(str(self._path), None, "", "has become a pipe; put a file in its place"),))
            return
        findings = await self._settled()
        self._seen = findings.source
        if findings.config is None:
            self._refuse(findings.mistakes)
        elif findings.source.digest == self.state.digest and not self.state.stale:
            log.info("config.unchanged", digest=self.state.digest[:SHORT])
        else:
            await self._take(findings.loaded())
            await self._keep()

    async def _settled(self) -> Findings:
        """What the file holds, once it stays the same for a moment."""
        pause = SETTLE_SECONDS
        while True:
            findings = await asyncio.to_thread(examine, self._path, self._environ)
            await asyncio.sleep(pause)
            now = await asyncio.to_thread(Source.now, self._path, findings.source.files)
            if now.digest == findings.source.digest:
                return findings
            pause = min(2 * pause, LONGEST_SETTLE)  # whoever writes it all the time shall not keep a core busy

    def _refuse(self, mistakes: tuple[Mistake, ...]) -> None:
        """Go on with what runs, and say why."""
        self._note(replace(self.state, stale=True, mistakes=tuple(map(str, mistakes))))
        self._metrics.config_reloads.labels("refused").inc()
        tell_mistakes(mistakes)

    async def _take(self, loaded: Loaded) -> None:
        """Run on *loaded*, as far as that needs no restart."""
        self._note(replace(self.state, stale=True))  # until it does
        await self._apply(loaded.config)
        self._running = loaded
        waiting = self._started_on.needs_restart(loaded.config)
        self._note(ConfigState(loaded.source.digest, self._clock.wall(), needs_restart=waiting))
        self._metrics.config_reloads.labels("applied").inc()
        environments = len(loaded.config.environments)
        log.info("config.reloaded", digest=self.state.digest[:SHORT], environments=environments)
        tell_warnings(loaded)
        if waiting:
            log.warning("config.needs_restart", settings=waiting, advice="restart the relay to have them")

    async def _keep(self) -> None:
        """Have a copy for a restart on a broken file."""
        outbox, content = self._started_on.outbox.own_file, self._running.source.text
        if outbox is None or content is None:
            return
        try:
            await asyncio.to_thread(keep, outbox, content)
        except (OSError, ValueError) as failure:
            reason = getattr(failure, "strerror", None) or str(failure)
            log.warning("config.unkept", detail=reason, consequence="a restart on a broken file would not start")

    def _note(self, state: ConfigState) -> None:
        """Let the status page and the metrics know."""
        before, self.state = self.state, state
        self._metrics.config_stale.set(state.stale)
        self._metrics.config_loaded.set(state.loaded_at)
        self._metrics.config_info.labels(state.digest[:SHORT]).set(1)
        if before.digest and before.digest[:SHORT] != state.digest[:SHORT]:
            self._metrics.config_info.remove(before.digest[:SHORT])


def tell_mistakes(mistakes: tuple[Mistake, ...]) -> None:
    """One line each."""
    for mistake in mistakes:
        log.error("config.refused", detail=str(mistake))


def tell_warnings(loaded: Loaded) -> None:
    """One line each."""
    for warning in loaded.warnings:
        log.warning("config.warning", detail=str(warning))
