"""Make all the parts of one relay from its configuration; `relay.app` starts them, and stops them in order."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from relay import __version__
from relay.admin.figures import Figures
from relay.admin.gauges import Gauges
from relay.admin.membership import Membership
from relay.admin.server import Health
from relay.capture import Capture
from relay.capture.recording import CaptureLimits
from relay.config import Config, OutboxConfig
from relay.errors import StartError
from relay.fleet import Member, RedisAddress, Role
from relay.metrics import Metrics, describe_process
from relay.model import Clock
from relay.outbox import Outbox
from relay.proxy import Proxy
from relay.sender import Sender
from relay.upstream import Upstream

if TYPE_CHECKING:
    from relay.outbox.redis import RedisOutbox
    from relay.outbox.spool import Spool

# A spool in a file: half a million events or so. `outbox.max_bytes` may be much more, as it is for a whole fleet.
SPOOL_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything one relay is made of."""

    # What it was started on, and as.
    config: Config
    role: Role
    metrics: Metrics
    outbox: Outbox
    # Between capture and an outbox that relays share; None where there is none to be away.
    spool: "Spool | None"
    capture: Capture
    sender: Sender
    proxy: Proxy
    upstream: Upstream
    figures: Figures
    # Where relays share the outbox.
    membership: Membership | None
    health: Health
    registry: CollectorRegistry
    clock: Clock


def build(config: Config, role: Role, registry: CollectorRegistry, clock: Clock) -> Parts:
    """Make every part, used in this *role* or not; nothing is opened or started yet."""
    metrics = Metrics.on(registry)
    describe_process(registry)
    shared = redis_outbox(config.outbox.redis, config.outbox) if config.outbox.redis else None
    outbox = shared or make_outbox(config)
    spool = make_spool(config, outbox, clock)
    before_answer = config.outbox.commit == "before_answer"
    capture = Capture(spool or outbox, _limits(config), metrics, before_answer=before_answer, clock=clock)
    if role != "sender":
        capture.commits.daily_cap.caps = config.caps()
        capture.commits.forecasts.follow(config.paces())
    upstream = Upstream(config.upstream)
    sender = Sender(outbox, config.lanes(), metrics, clock, purses=shared.purse if shared else None)
    figures = Figures(outbox, capture, sender.lanes, config.apps(), metrics, clock, spool)
    registry.register(Gauges(figures, clock))
    me = Member(member_name(config.admin.port), __version__, role, clock.wall())
    return Parts(
        config=config,
        role=role,
        metrics=metrics,
        outbox=outbox,
        spool=spool,
        capture=capture,
        sender=sender,
        proxy=Proxy(config, upstream, capture, metrics, clock),
        upstream=upstream,
        figures=figures,
        membership=Membership(me, outbox, spool, figures.in_hand, clock) if spool else None,
        health=Health(clock),
        registry=registry,
        clock=clock,
    )


def member_name(port: int) -> str:
    """What a relay is called in its fleet: by its machine (in Kubernetes the pod) and its admin *port*.

    One that comes back after a crash has the name again, and nobody else there can have it meanwhile. Where the system
    chooses the port it is the process number instead.
    """
    return f"{socket.gethostname()}:{port}" if port else f"{socket.gethostname()}/{os.getpid()}"


def _limits(config: Config) -> CaptureLimits:
    capture = config.capture
    return CaptureLimits(
        max_answer=capture.max_answer,
        max_decoded=capture.max_decoded,
        max_flags=capture.max_flags,
        memory=capture.memory,
    )


def make_outbox(config: Config, *, guest: bool = False) -> Outbox:
    """The storage that `outbox.url` names; a *guest* works on it beside the relay that owns it."""
    settings = config.outbox
    share = settings.dead_letters.max_share
    if settings.redis:
        return redis_outbox(settings.redis, settings, guest=guest)
    return own_storage(settings.path, settings.max_bytes, share, journal_entries=settings.journal, guest=guest)


def own_storage(
    path: Path | None, max_bytes: int, dead_letter_share: float, *, journal_entries: int = 0, guest: bool = False
) -> Outbox:
    """One process's own storage, in the file at *path* or without one in memory; the other kind is not imported."""
    if path is None:
        from relay.outbox.memory import MemoryOutbox

        return MemoryOutbox(max_bytes=max_bytes, dead_letter_share=dead_letter_share, journal_entries=journal_entries)
    from relay.outbox.sqlite import SqliteOutbox

    return SqliteOutbox(
        path,
        max_bytes=max_bytes,
        dead_letter_share=dead_letter_share,
        journal_entries=journal_entries,
        guest=guest,
    )


def redis_outbox(address: RedisAddress, settings: OutboxConfig, *, guest: bool = False) -> "RedisOutbox":
    """The outbox in the Redis at *address*; a *guest* works on it beside the relays.

    Raises StartError where what it needs is not installed.
    """
    try:
        # An extra of the package, which takes a tenth of a second to import: only who uses it needs it.
        from relay.outbox.redis import RedisOutbox
    except ImportError as missing:
        raise StartError("an outbox in Redis needs the package redis; install flagsmith-heap-relay[redis]") from missing
    return RedisOutbox(
        address,
        max_bytes=settings.max_bytes,
        dead_letter_share=settings.dead_letters.max_share,
        journal_entries=settings.journal,
        guest=guest,
    )


def spool_bytes(settings: OutboxConfig) -> int:
    """How much a spool in a file may hold."""
    return min(settings.max_bytes, SPOOL_BYTES)


def make_spool(config: Config, outbox: Outbox, clock: Clock) -> "Spool | None":
    """Where events wait while a shared outbox is away; None for one that is the relay's own."""
    settings = config.outbox
    if not settings.redis:
        return None
    from relay.outbox.spool import Spool

    path = settings.spool_path
    # In memory it may take as much again as the copies that it was made of.
    size = config.capture.memory if path is None else spool_bytes(settings)
    share = settings.dead_letters.max_share  # it has none; their place is free for others
    return Spool(outbox, own_storage(path, size, share), clock)
