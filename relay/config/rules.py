"""What the YAML says of an environment: its Flagsmith keys, its Heap app, and the rules of its events."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from relay.config.addresses import AppId, EventName, FlagsmithKey, HashKey, HttpUrl, spelled_alike
from relay.config.patterns import Block, Glob, compile_blocks, compile_globs, covers
from relay.config.section import Section
from relay.config.values import (
    Boolean,
    Count,
    Duration,
    Properties,
    Sample,
    Word,
    fits,
    mistake,
    or_reference,
    read_decimal,
    reads,
)
from relay.model import Cap, Environment, Lane, Latest, OnChange

# developers.heap.io/reference/track-1; the EU's is not a name below heapanalytics.com.
HEAP_URLS = {"us": "https://heapanalytics.com", "eu": "https://c.eu.heap-api.com"}
DEFAULT_EVENT = "Flagsmith Feature Flags"

# At share s a minute sees up to s * (60 s + 5 s of burst) of the rate, and must stay within Heap's limit for 60 s.
MAX_SHARE = 0.92

Share = Annotated[
    float,
    reads(read_decimal, int, float, advice="write a number, like 0.8"),
    fits(
        lambda share: 0 < share <= MAX_SHARE,
        f"must be above 0 and at most {MAX_SHARE} (a burst of 5 s comes on top of the rate, and Heap's minute "
        "has to hold both); write 0.8, or 0.8 divided by the number of relays that send to this app",
    ),
    or_reference({"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SHARE}),
]


class HeapRules(Section):
    """Where the events go, as far as one place of the YAML says it."""

    app_id: AppId | None = Field(
        None, description="Heap's Environment ID: digits, in quotes.", examples=["${HEAP_APP_ID}"]
    )
    url: HttpUrl | None = Field(
        None,
        description="Base address instead of region, for a test double of Heap.",
        examples=["http://127.0.0.1:9999"],
    )
    region: Literal["us", "eu"] | None = Field(
        None,
        description="Where the Heap app lives. No default: a wrong one is answered 200 and all events are lost.",
        examples=["us"],
        validate_default=True,
    )
    share: Share = Field(
        0.8, description="Part of Heap's limits this process may use; n relays without Redis: 0.8 / n each."
    )


class HeapConfig(HeapRules):
    """Where the events of one environment go."""

    app_id: AppId = Field(description="Heap's Environment ID: digits, in quotes.", examples=["${HEAP_APP_ID}"])

    @field_validator("region", mode="after")
    @classmethod
    def _region_or_url(cls, region: str | None, info: ValidationInfo) -> str | None:
        if "url" not in info.data:  # it has a mistake of its own
            return region
        if region and info.data["url"]:
            raise mistake("stands beside heap.url, and only one of them can say where Heap is; delete one of the two")
        if not region and not info.data["url"]:
            raise mistake(
                "is missing; write region: us or region: eu, whichever your Heap app is in "
                "(there is no default: Heap answers 200 to the wrong one, and all events are lost)"
            )
        return region

    def lane(self) -> Lane:
        # Two spellings of one Heap app would be two lanes, each with the whole budget.
        return Lane(spelled_alike(self.url or HEAP_URLS[str(self.region)]), self.app_id)


class WhenBehindConfig(Section):
    """What to do while more events wait than can be sent soon."""

    after: Duration = Field(600.0, description="`then` applies while more waits than can be sent in this time.")
    then: Literal["queue", "latest"] = Field(
        "queue", description="queue: keep all. latest: a newer event replaces its identity's waiting ones."
    )


class NamesConfig(Section):
    """Which names are meant, by patterns of the whole name: * is any text, ? any one character, all else itself."""

    include: tuple[Glob, ...] = Field(("*",), description="Names that match any of these, …")
    exclude: tuple[Glob, ...] = Field((), description="… and none of these.")

    def fault(self) -> str:
        """What of it can never match; empty where nothing is known not to."""
        if not self.include:
            return 'includes nothing; write include: ["*"] for all names, or shadow: true to send nothing'
        for at, glob in enumerate(self.include):
            for by, wide in enumerate(self.exclude):
                if covers(wide, glob):
                    return f"has an include[{at}] that can never match: exclude[{by}] excludes it; delete one"
        return ""


class IdentityConfig(Section):
    """How an identity becomes Heap's identity."""

    mode: Literal["pass", "hmac_sha256"] = Field("pass", description="pass: as it is. hmac_sha256: a keyed hash of it.")
    key: HashKey | None = Field(
        None, description="The hash's key, by reference; at least 16 characters.", examples=["${HMAC_KEY}"]
    )
    block: tuple[Block, ...] = Field(
        (), description="Identities never sent: the word email, or regular expressions that are found in them."
    )

    def hash_key(self) -> bytes | None:
        return self.key.get_secret_value().encode() if self.key and self.mode == "hmac_sha256" else None


class DailyCapConfig(Section):
    """How many events a UTC day may bring."""

    events: Count | None = Field(None, description="Events a day; null: no cap.")
    then: Literal["alert", "stop"] = Field("alert", description="alert: say so and go on. stop: skip the rest.")

    def cap(self) -> Cap | None:
        return None if self.events is None else Cap(self.events, stops=self.then == "stop")


class Rules(Section):
    """The rules of `defaults` and of each environment."""

    heap: HeapRules = HeapRules()
    event: EventName = Field(
        DEFAULT_EVENT, description="Name of the Heap event; by default the built-in integration's."
    )
    send: Literal["every_call", "on_change"] = Field(
        "every_call",
        description="every_call: as Flagsmith's own integration. on_change: only what differs from before.",
    )
    heartbeat: Duration = Field(86400.0, description="on_change: repeat an unchanged state this often; 0: never.")
    remember: Count = Field(1_000_000, description="on_change: identities remembered.")
    when_behind: WhenBehindConfig = WhenBehindConfig()
    features: NamesConfig = Field(NamesConfig(), description="Features that become properties of the event.")
    identities: NamesConfig = Field(NamesConfig(), description="Identities whose events are sent.")
    sample: Sample = Field(1.0, description="Part of the identities whose events are sent, always the same ones.")
    transient: Literal["send", "skip"] = Field("send", description="Events of transient identities.")
    empty: Literal["send", "skip"] = Field("send", description="Events without a single flag.")
    extra_properties: Properties = Field({}, description="Static properties of each event; a feature's name wins.")
    variants: Boolean = Field(False, description='true: adds "<feature>.variant" where Flagsmith gives one.')
    identity: IdentityConfig = IdentityConfig()
    shadow: Boolean = Field(False, description="true: everything runs, nothing is sent, no event is stored.")
    daily_cap: DailyCapConfig = DailyCapConfig()


class EnvironmentEntry(Rules):
    """One environment as written: its Flagsmith keys, its Heap app, and the rules that differ from `defaults`."""

    name: Word = Field(description="Its name in logs, metrics and commands.", examples=["production"])
    keys: Annotated[tuple[FlagsmithKey, ...], fits(bool, 'is empty; write keys: ["${FLAGSMITH_CLIENT_KEY}"]')] = Field(
        description="Its Flagsmith keys, client's and server's, by reference.",
        examples=[["${FLAGSMITH_CLIENT_KEY}"]],
        json_schema_extra={"minItems": 1},
    )


class EnvironmentConfig(EnvironmentEntry):
    """One environment with the rules of `defaults` merged in: its own stand over them, key by key."""

    heap: HeapConfig = Field(description="Where they go.", examples=[{"app_id": "${HEAP_APP_ID}", "region": "us"}])

    @field_validator("features", "identities", mode="after")
    @classmethod
    def _something_can_match(cls, names: NamesConfig) -> NamesConfig:
        if fault := names.fault():
            raise mistake(fault)
        return names

    @field_validator("identity", mode="after")
    @classmethod
    def _a_hash_has_a_key(cls, identity: IdentityConfig) -> IdentityConfig:
        if identity.mode == "hmac_sha256" and not identity.key:
            raise mistake('has mode hmac_sha256 and no key; write key: "${HMAC_KEY}"')
        return identity

    def environment(self) -> Environment:
        """It as the capture half needs it, with all patterns compiled."""
        return Environment(
            self.name,
            self.heap.lane(),
            self.event,
            blocks=compile_blocks(self.identity.block),
            identities=compile_globs(self.identities.include, self.identities.exclude),
            features=compile_globs(self.features.include, self.features.exclude),
            skip_transient=self.transient == "skip",
            skip_empty=self.empty == "skip",
            sample=self.sample,
            extra_properties=self.extra_properties,
            variants=self.variants,
            hash_key=self.identity.hash_key(),
            shadow=self.shadow,
            on_change=OnChange(self.heartbeat, self.remember) if self.send == "on_change" else None,
            latest=Latest(self.when_behind.after, self.heap.share) if self.when_behind.then == "latest" else None,
        )
