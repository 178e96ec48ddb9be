"""The nouns of a fleet, many relays that share one outbox in Redis: frozen values without behaviour."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is, how to get in, and where in it the outbox lies."""

    # sentinel: the nodes are sentinels, who know the master of *service*. cluster: any nodes of it.
    kind: Literal["single", "sentinel", "cluster"] = "single"
    # Host (an IPv6 address without brackets) and port; empty where *path* names a Unix socket.
    nodes: tuple[tuple[str, int], ...] = ()
    path: Path | None = None
    db: int = 0
    service: str = ""
    # Of an ACL user; Redis calls an empty one "default". Without a password none is sent.
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    tls: bool = False
    # PEM file of a private authority; None: those of the machine.
    ca_file: Path | None = None
    # What the names of all keys begin with: one Redis may serve several outboxes.
    prefix: str = "flagsmith-heap-relay:"
    # A put returns once so many replicas have it, too.
    wait_replicas: int = 0
