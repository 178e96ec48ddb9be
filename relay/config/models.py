"""The YAML as frozen values: every setting with its type, its default and its description, and nothing twice."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from relay.config.addresses import FileName, Host, HttpUrl, Network, OutboxUrl, SpoolUrl, show_outbox_url
from relay.config.rules import EnvironmentConfig
from relay.config.section import Section
from relay.config.values import Boolean, Count, CountOrNone, Duration, Part, Period, PeriodOrOff, Port, Size
from relay.fleet import RedisAddress
from relay.model import Cap, Environment, Lane, Pace

# Sections that say how a process is built. All others can change while it runs.
NEED_RESTART = ("listen", "admin", "upstream", "capture", "outbox")


class ListenConfig(Section):
    """The port that carries Flagsmith's API."""

    host: Host = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 or :: for all.")
    port: Port = Field(18080, description="Port; 0 takes any free one.")
    idle_timeout: Period = Field(
        75.0, description="Silence after which a kept-alive connection is closed, or an unread answer cut."
    )
    max_header_bytes: Size = Field(64 * 2**10, description="Longest request line or header field.")
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Networks whose X-Forwarded-* headers are continued; others' are replaced."
    )


class AdminConfig(Section):
    """The port for health, readiness, metrics and the status page."""

    host: Host = Field("127.0.0.1", description="Address to listen on; probes and scrapers must reach it.")
    port: Port = Field(19090, description="Port; 0 takes any free one.")
    hosts: tuple[Host, ...] = Field(
        (), description="Names to answer to, against DNS rebinding; IP addresses and localhost always pass."
    )


class LogConfig(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least serious lines to write.")
    format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else json.")


class UpstreamConfig(Section):
    """The Flagsmith API behind the relay, and how patient the relay is with it."""

    url: HttpUrl = Field("https://edge.api.flagsmith.com", description="Flagsmith's address; a base path is allowed.")
    host_header: Literal["upstream", "client"] = Field(
        "upstream", description="Host that Flagsmith sees: its own, or the one the caller asked for."
    )
    connect_timeout: Period = Field(2.0, description="Longest wait for a connection.")
    read_timeout: Period = Field(30.0, description="Longest silence of an answer; text/event-stream has no limit.")
    idle_timeout: Period = Field(15.0, description="How long an unused connection is kept; less than Flagsmith's own.")
    max_connection_age: Period = Field(300.0, description="Connections are replaced at this age, to follow DNS.")
    max_in_flight: Count = Field(1000, description="Requests at once; one more is answered 502.")
    ca_file: FileName | None = Field(None, description="PEM file of a private CA, relative to this file.")
    trust_env: Boolean = Field(False, description="true: HTTPS_PROXY and friends apply.")


class CaptureConfig(Section):
    """Bounds of the copies that are made of identity answers."""

    max_answer: Size = Field(4 * 2**20, description="Largest answer captured, as it comes over the wire.")
    max_decoded: Size = Field(16 * 2**20, description="Largest answer captured, once decompressed.")
    max_flags: Count = Field(5000, description="Most flags in a captured answer.")
    memory: Size = Field(32 * 2**20, description="All copies waiting for their commit; past it new ones are refused.")


class DeadLettersConfig(Section):
    """Events that are set aside."""

    max_share: Part = Field(0.25, description="Part of max_bytes they may take; then the oldest make room.")
    max_age: Period = Field(30 * 86400.0, description="Older ones are dropped.")


class OutboxConfig(Section):
    """Where events wait until Heap has them."""

    url: OutboxUrl = Field(
        "sqlite:///data/outbox.db",
        validate_default=True,
        description="sqlite:///relative/to/this/file.db, sqlite:////absolute/path.db, memory://, or a Redis that many "
        "relays share: redis://, rediss://, redis+sentinel://, redis+cluster://, unix:///run/redis.sock.",
    )
    commit: Literal["after_answer", "before_answer"] = Field(
        "after_answer", description="before_answer: an answer's end waits until its event is stored."
    )
    commit_timeout: Period = Field(0.25, description="before_answer: the longest it waits.")
    max_bytes: Size = Field(512 * 2**20, description="Full: new events are refused and counted, no old one is lost.")
    max_age: Period = Field(7 * 86400.0, description="Older events are dead-lettered as expired.")
    dead_letters: DeadLettersConfig = DeadLettersConfig()
    journal: CountOrNone = Field(50_000, description="Latest entries kept for `relay trace`; 0: none.")
    required: Boolean = Field(False, description="true: no start without a working outbox.")
    ephemeral: Boolean = Field(False, description="true where the volume dies with the pod: deliver at shutdown.")
    spool: SpoolUrl | None = Field(None, description="Redis only: where events wait while Redis is away; null: memory.")

    @property
    def redis(self) -> RedisAddress | None:
        """The Redis that holds it; None where this process does alone."""
        return self.url if isinstance(self.url, RedisAddress) else None

    @property
    def path(self) -> Path | None:
        """The SQLite file of the outbox; None where it lives in memory or in Redis."""
        return None if isinstance(self.url, RedisAddress) else _file(self.url)

    @property
    def spool_path(self) -> Path | None:
        """The SQLite file of the spool; None where it lives in memory."""
        return _file(self.spool)

    @property
    def own_file(self) -> Path | None:
        """The file that this relay alone has, of the outbox or of the spool."""
        return self.spool_path if self.redis else self.path

    @property
    def kind(self) -> Literal["sqlite", "memory", "redis"]:
        """Where it is, in a word."""
        return "redis" if self.redis else "sqlite" if self.path else "memory"

    @property
    def label(self) -> str:
        """The address as logs may have it."""
        return str(show_outbox_url(self.url))

    @property
    def dies_with_process(self) -> bool:
        """What it holds at the end of the process is lost, so it is delivered first as far as time allows."""
        return self.kind == "memory" or (self.ephemeral and self.kind == "sqlite")

    @property
    def spool_dies_with_process(self) -> bool:
        """What the spool holds then is lost likewise."""
        return self.ephemeral or self.spool_path is None


def _file(url: str | None) -> Path | None:
    return Path(url.removeprefix("sqlite:///")) if url and url != "memory://" else None


class ShutdownConfig(Section):
    """How long each step of a shutdown may take; together less than the orchestrator's own limit."""

    grace: Duration = Field(5.0, description="Unready, but still serving, so that load balancers look elsewhere.")
    finish: Duration = Field(10.0, description="For requests in flight.")
    drain: Duration = Field(10.0, description="For delivery, where the outbox is ephemeral or in memory.")


class Config(Section):
    """The whole YAML. The rules of its `defaults` are merged into each environment."""

    listen: ListenConfig = ListenConfig()
    admin: AdminConfig = AdminConfig()
    log: LogConfig = LogConfig()
    reload: PeriodOrOff = Field(5.0, description="How often this file is looked at for changes; off: only at SIGHUP.")
    upstream: UpstreamConfig = UpstreamConfig()
    capture: CaptureConfig = CaptureConfig()
    outbox: OutboxConfig = OutboxConfig()
    shutdown: ShutdownConfig = ShutdownConfig()
    environments: tuple[EnvironmentConfig, ...] = Field((), description="Flagsmith environments and their Heap apps.")

    @field_validator("environments", mode="before")
    @classmethod
    def _nothing_is_none(cls, value: Any) -> Any:
        return () if value is None else value

    def by_key(self) -> dict[str, Environment]:
        """Flagsmith key → environment."""
        made = [(each.environment(), each.keys) for each in self.environments]
        return {key.get_secret_value(): environment for environment, keys in made for key in keys}

    def lanes(self) -> dict[Lane, float]:
        """Heap app → the part of its limits this process may use."""
        return {each.heap.lane(): each.heap.share for each in self.environments}

    def apps(self) -> dict[str, Lane]:
        """Environment's name → its Heap app."""
        return {each.name: each.heap.lane() for each in self.environments}

    def caps(self) -> dict[str, Cap]:
        """Environment's name → its daily cap, where it has one."""
        return {each.name: cap for each in self.environments if (cap := each.daily_cap.cap())}

    def paces(self) -> dict[str, Pace]:
        """Environment's name → how it sends."""
        return {each.name: Pace(each.send, each.heartbeat, each.heap.share) for each in self.environments}

    def needs_restart(self, new: "Config") -> tuple[str, ...]:
        """The settings of *new* that a relay which was started on this one cannot change to while it runs."""
        return tuple(
            path for name in NEED_RESTART for path in getattr(self, name).differing(getattr(new, name), path=name)
        )

    def masked(self) -> dict[str, Any]:
        """All of it as it would stand in a YAML, with defaults filled in and secrets masked."""
        shown: dict[str, Any] = self.model_dump(mode="json")
        shown["environments"] = [{"name": each["name"], "keys": each["keys"], **each} for each in shown["environments"]]
        return shown
