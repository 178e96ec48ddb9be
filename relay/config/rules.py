"""What the YAML says of an environment: its Flagsmith keys, its Heap app, and the rules of its events."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from relay.config.addresses import AppId, EventName, FlagsmithKey, HttpUrl, Secret
from relay.config.section import Section
from relay.config.values import (
    Boolean,
    Count,
    Duration,
    Plain,
    Sample,
    Text,
    Word,
    fits,
    mistake,
    or_reference,
    read_decimal,
    reads,
)
from relay.model import Environment, Lane

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
Patterns = tuple[Text, ...]


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
        return Lane(self.url or HEAP_URLS[str(self.region)], self.app_id)


class WhenBehindConfig(Section):
    """What to do when events wait too long."""

    after: Duration = Field(600.0, description="How old the oldest waiting event may become before `then` applies.")
    then: Literal["queue", "latest"] = Field(
        "queue", description="queue: keep all. latest: a newer event replaces its identity's waiting one."
    )


class NamesConfig(Section):
    """Which names are meant, by patterns with * and ?."""

    include: Patterns = Field(("*",), description="Names that match any of these, …")
    exclude: Patterns = Field((), description="… and none of these.")


class IdentityConfig(Section):
    """How an identity becomes Heap's identity."""

    mode: Literal["pass", "hmac_sha256"] = Field("pass", description="pass: as it is. hmac_sha256: a keyed hash of it.")
    key: Secret | None = Field(None, description="The hash's key, by reference.", examples=["${HMAC_KEY}"])
    block: Patterns = Field((), description="Identities never sent: the word email, or regular expressions.")


class DailyCapConfig(Section):
    """How many events a UTC day may bring."""

    events: Count | None = Field(None, description="Events a day; null: no cap.")
    then: Literal["alert", "stop"] = Field("alert", description="alert: say so and go on. stop: drop the rest.")


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
    sample: Sample = Field(1.0, description="Part of the identities whose events are sent.")
    transient: Literal["send", "skip"] = Field("send", description="Events of transient identities.")
    empty: Literal["send", "skip"] = Field("send", description="Events without a single flag.")
    extra_properties: dict[str, Plain] = Field({}, description="Static properties of each event.")
    variants: Boolean = Field(False, description='true: adds "<feature>.variant" where Flagsmith gives one.')
    identity: IdentityConfig = IdentityConfig()
    shadow: Boolean = Field(False, description="true: everything runs, nothing is sent.")
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

    def environment(self) -> Environment:
        return Environment(self.name, self.heap.lane(), self.event)
