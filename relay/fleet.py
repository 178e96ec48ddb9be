"""The nouns of a fleet, many relays that share one outbox in Redis: frozen values without behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

# What a relay does: capture and deliver, capture alone, or deliver alone.
Role = Literal["all", "proxy", "sender"]


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is, how to get in, and where in it the outbox lies."""

    # sentinel: the nodes are sentinels, who know the master of *service*. cluster: any nodes of it.
    kind: Literal["single", "sentinel", "cluster"] = "single"
    # Host (an IPv6 address without brackets) and port; none where *unix* names a socket.
    nodes: tuple[tuple[str, int], ...] = ()
    unix: Path | None = None
    db: int = 0
    service: str = ""
    # Of Redis' ACL; without a user the default one's.
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    # PEM file of a private authority; None: those of the machine.
    ca_file: Path | None = None
    # What the names of all keys begin with: one Redis may serve several outboxes.
    prefix: str = "flagsmith-heap-relay:"
    # A put returns once so many replicas have it, too.
    wait_replicas: int = 0


class Member(msgspec.Struct, frozen=True):
    """One relay of a fleet, as it told of itself last."""

    # The machine's (in Kubernetes the pod's) and its admin port: of one that comes back it is the same.
    name: str
    version: str
    role: Role
    # Seconds since 1970, the latter by the outbox's clock: when it was started, and when it told this.
    started_at: float
    seen_at: float = 0.0
    # Answers that it captured and that are in no book of the outbox yet, by environment; those in its spool, too.
    in_hand: Mapping[str, int] = {}
    # What of that is in its spool, and the bytes it takes.
    spooled: int = 0
    spool_bytes: int = 0
