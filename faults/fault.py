"""What a row of the matrix is: a fault, what it needs, and what is promised while it lasts."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from faults.stage import Stage

Form = Literal["short", "long"]
# Where it strikes: behind the outbox or in it, where no flag may feel it; at Flagsmith; at the relay or its machine.
Side = Literal["capture", "flagsmith", "relay"]

# The outboxes that a fault may be inflicted on, by name.
FILES = ("sqlite after_answer", "sqlite before_answer")
SERVER = "redis"
EVERY = (*FILES, SERVER)
# For the faults of Redis alone: their bounds differ.
EVERYSEC, REPLICATED, WAITING = "redis everysec", "redis replicated", "redis wait_replicas=1"


class NotRun(Exception):
    """This machine cannot inflict the fault; says why."""


@dataclass(frozen=True, slots=True)
class Risk:
    """What was answered in this time, in monotonic seconds, may be lost: no more than *most*."""

    began: float
    ended: float
    most: float = inf


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault needs to be there from the start."""

    calls_per_second: float = 40
    # The relay runs under the preload of faults/shim.c.
    preload: bool = False
    # How many times as fast the relay's and Heap's clocks run.
    rate: float = 1.0
    # Heap's address as the relay knows it; https with a certificate of its own.
    heap: str = "http://127.0.0.1"
    # Bytes of a disk of its own for the outbox, as mount's tmpfs takes them; empty: the machine's.
    disk: str = ""
    # Bytes of memory that the relay may have; 0: all there is.
    memory: int = 0
    # How many relays deliver beside the one that is called, which only captures then; 0: it does both.
    senders: int = 0
    # Sections of the YAML that differ.
    settings: dict[str, dict[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: lasts while the context is open that *inflict* makes, at least *seconds* by the form."""

    name: str
    title: str
    side: Side
    inflict: Callable[["Stage"], AbstractAsyncContextManager[None]]
    short: float = 8.0
    long: float = 30.0
    scene: Scene = Scene()
    # What it can be inflicted on.
    stores: Sequence[str] = EVERY
    # Events that Heap alone refuses.
    dead_letters: int = 0
    # Calls may fail while it lasts; after it none may.
    calls_fail: bool = False
    # The fault of the row before it, once more, at a length that the short form has no time for.
    only_long: bool = False

    def seconds(self, form: Form) -> float:
        """How long it lasts beyond what inflicting it takes."""
        return self.short if form == "short" else self.long
