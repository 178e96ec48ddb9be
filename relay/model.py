"""The nouns that cross module boundaries: frozen values without behaviour.

Structs: a frozen dataclass takes seven times as long to make, and its class forty times, which each start waits for.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

Scalar = str | int | float | bool


class Clock(msgspec.Struct, frozen=True):
    """Where a shell reads the time; a test hands in its own."""

    # Seconds since 1970, what people and other machines mean; it may jump.
    wall: Callable[[], float] = time.time
    # Seconds since some moment; it never jumps.
    monotonic: Callable[[], float] = time.monotonic


class ConfigState(msgspec.Struct, frozen=True):
    """Whether what runs is what the configuration file says. No part of it holds a secret."""

    # SHA-256, in hex, of the content that runs; empty where the relay was started without a file.
    digest: str
    # Seconds since 1970.
    loaded_at: float
    # The file holds something else, with these mistakes: one line each, "config.yaml:3: listen.port: …".
    stale: bool = False
    mistakes: tuple[str, ...] = ()
    # Settings of the file, "listen.port", that are other than what runs and have to wait for a restart.
    needs_restart: tuple[str, ...] = ()
    # What runs is the copy kept of an earlier content, because the file had mistakes at the start.
    last_good: bool = False


class Lane(msgspec.Struct, frozen=True):
    """One Heap app: its events wait, are paced and are held together."""

    # Base address without a trailing slash, "https://heapanalytics.com".
    url: str
    # Heap's environment ID: decimal digits.
    app_id: str


class OnChange(msgspec.Struct, frozen=True):
    """How to send only what differs from before."""

    # An unchanged state is sent again after so many seconds; 0: never.
    heartbeat: float
    # Identities that are remembered.
    remember: int


class Latest(msgspec.Struct, frozen=True):
    """When a lane is so far behind that only the newest event of an identity counts."""

    # While it holds more than it sends in so many seconds, with *share* of Heap's limits.
    after: float
    share: float


class Environment(msgspec.Struct, frozen=True):
    """One environment of the YAML, as the capture half needs it."""

    # Its name in the YAML; the label in metrics and logs.
    name: str
    lane: Lane
    # The name of the Heap event.
    event: str
    # From here on its rules; by default they send what Flagsmith's own integration does.
    # Whether an identity is one that is never sent; None: none is.
    blocks: Callable[[str], bool] | None = None
    # The identities whose events are sent, and the features that become properties: a pattern of the whole name;
    # None: all.
    identities: re.Pattern[str] | None = None
    features: re.Pattern[str] | None = None
    # Whether events of transient identities, and those without a flag, are skipped.
    skip_transient: bool = False
    skip_empty: bool = False
    # The part of the identities whose events are sent.
    sample: float = 1.0
    # Properties of each event, acceptable to Heap as they are.
    extra_properties: Mapping[str, Scalar] = {}
    # Whether "<feature>.variant" is added.
    variants: bool = False
    # The key of the hash that Heap gets as the identity; None: it gets the identity itself.
    hash_key: bytes | None = None
    # Whether all is decided, and nothing sent.
    shadow: bool = False
    # Only what differs from before is sent; None: all is.
    on_change: OnChange | None = None
    # When a newer event replaces its identity's waiting ones; None: never.
    latest: Latest | None = None

    def __repr__(self) -> str:
        """Without its key."""
        return f"Environment({self.name!r})"


class Cap(msgspec.Struct, frozen=True):
    """How many events a UTC day may bring."""

    events: int
    # Whether the rest of the day is skipped; else it is only told.
    stops: bool


class Pace(msgspec.Struct, frozen=True):
    """What an environment's rules say of how many events are sent."""

    send: Literal["every_call", "on_change"]
    # Seconds after which on_change sends an unchanged state again; 0: never.
    heartbeat: float
    # The part of Heap's limits that may be used.
    share: float


class Exchange(msgspec.Struct, frozen=True):
    """One identity call and its 200 answer, as bytes; nothing is decoded yet."""

    environment: Environment
    method: str
    # The request's raw path and query, as it came.
    target: str
    # Content-Type and Content-Encoding of the request, empty where missing.
    request_type: str
    request_encoding: str
    request_body: bytes
    # Content-Type and Content-Encoding of the answer, empty where missing.
    answer_type: str
    answer_encoding: str
    answer_body: bytes
    # Seconds since 1970 when the answer's last byte was received.
    received_at: float


class Flag(msgspec.Struct, frozen=True):
    """What Flagsmith decided for one feature."""

    name: str
    enabled: bool
    # A JSON scalar, None for "no value", or (never seen, but JSON) a list or a dict.
    value: object
    variant: str | None


class Evaluation(msgspec.Struct, frozen=True):
    """What Flagsmith decided for one identity."""

    # As Flagsmith answered it, else as it was asked; never trimmed or changed here.
    identity: str
    flags: tuple[Flag, ...]
    transient: bool
    # What tells these flags from others; 0: nothing does.
    mark: int = 0


class Verdict(msgspec.Struct, frozen=True):
    """A decision together with its reason."""

    send: bool
    reason: str


# Somebody in one environment: its name in the YAML, and the identity as events have it.
Who = tuple[str, str]


class Sent(msgspec.Struct, frozen=True):
    """What was sent last for an identity, as far as the next decision needs it."""

    fingerprint: int
    # Seconds since 1970: when the answer was received that it was made of.
    at: float


class Repeats(msgspec.Struct, frozen=True):
    """Answers for an identity that were like what was sent last."""

    times: int
    # Seconds since 1970: when the last of them was received.
    at: float


class Coalescing(msgspec.Struct, frozen=True):
    """How the events of one put stand to those before them."""

    # The fingerprints of events that are to be remembered as sent, by their keys.
    fingerprints: Mapping[str, int] = {}
    # How many identities are remembered at most, by environment.
    remember: Mapping[str, int] = {}
    # Unchanged answers that were not told yet.
    repeats: Mapping[Who, Repeats] = {}
    # Environments where a newer event replaces its identity's waiting ones while more than so many wait in the lane.
    latest: Mapping[str, int] = {}
    # After how many seconds an unchanged state is sent again, 0 for never, by environment.
    heartbeats: Mapping[str, float] = {}


class Event(msgspec.Struct, frozen=True):
    """What Heap will store. All of it is fixed before the first attempt."""

    # Idempotency key, at least 32 ASCII characters.
    key: str
    # The environment's name in the YAML.
    environment: str
    lane: Lane
    identity: str
    # Seconds since 1970: when Flagsmith's answer was received.
    captured_at: float
    # One JSON object as it stands inside Heap's "events" array; the same bytes on every attempt.
    body: bytes


class Cause(msgspec.Struct, frozen=True):
    """Why an event became a dead letter."""

    # A short word from a closed set, "refused_by_heap".
    reason: str
    # The other side's own words, may be empty; at most 1,000 characters.
    detail: str = ""


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that will not be sent again by itself, with its cause."""

    event: Event
    cause: Cause


class StoredLetter(msgspec.Struct, frozen=True):
    """A dead letter as it is stored."""

    # Ascending in the order of storage; never another's while it is stored.
    number: int
    letter: DeadLetter
    # Seconds since 1970.
    made_at: float
    # Requests to Heap that carried it.
    attempts: int


class Which(msgspec.Struct, frozen=True):
    """A choice of dead letters; None is any."""

    # The environment's name in the YAML when they were captured.
    environment: str | None = None
    # Of their causes.
    reason: str | None = None
    # Seconds since 1970: made at or after the one, and before the other.
    since: float | None = None
    until: float | None = None


class Forgotten(msgspec.Struct, frozen=True):
    """How much of an identity was erased."""

    waiting: int
    dead_letters: int
    # Entries.
    journal: int
    # Environments that remembered what was sent last for it.
    memory: int = 0


class Claim(msgspec.Struct, frozen=True):
    """An event leased from the outbox; ours until the lease ends."""

    id: int
    event: Event
    # Requests to Heap that carried it so far.
    attempts: int


class Lease(msgspec.Struct, frozen=True):
    """Claims of one lane, taken together; the token proves whose they are."""

    token: str
    claims: tuple[Claim, ...]


class Attempt(msgspec.Struct, frozen=True):
    """A request to Heap that carried an event, and how it ended."""

    # Whole seconds since 1970: when it was answered, or given up.
    at: int
    # What Heap said, from a closed set: "delivered 200", "busy 503", "unreachable".
    answer: str


class Settlement(msgspec.Struct, frozen=True):
    """What becomes of claims, by their id. Times are seconds since 1970."""

    # Heap has them.
    ack: frozenset[int] = frozenset()
    # Due again at.
    retry: Mapping[int, float] = {}
    dead_letter: Mapping[int, Cause] = {}
    # The requests that carried them under this lease, oldest first; none where it is not named.
    attempts: Mapping[int, Sequence[Attempt]] = {}


class JournalEntry(msgspec.Struct, frozen=True):
    """One evaluation and what was decided about it."""

    identity: str
    # The environment's name in the YAML.
    environment: str
    # Seconds since 1970: when Flagsmith's answer was received.
    at: float
    # Of the call, "GET" or "POST".
    method: str
    verdict: Verdict
    # One JSON object: the properties of the event, sent or not; empty where none was made.
    properties: bytes
    # The event's idempotency key, empty where no event was made.
    key: str


# Where an evaluation's event is. not_sent: there is none. gone: dropped, superseded or forgotten; neither stored nor
# delivered.
Fate = Literal["not_sent", "waiting", "claimed", "delivered", "dead_letter", "gone"]


class Trace(msgspec.Struct, frozen=True):
    """What became of one evaluation. Times are seconds since 1970."""

    environment: str
    at: float
    method: str
    verdict: Verdict
    properties: bytes
    key: str
    # Settled requests to Heap that carried the event, before a replay too; and the last five of them, oldest first.
    attempts: int
    answers: Sequence[Attempt]
    place: Fate
    # When one that waits may be sent.
    due: float | None
    # Of a dead letter; and of what is gone because it was superseded.
    cause: Cause | None
    # Later answers that were like it, so that nothing was sent for them, and when the last of them was received.
    unchanged: int = 0
    unchanged_at: float | None = None


class Ready(msgspec.Struct, frozen=True):
    """What one claim of a lane could take right now."""

    # Due events, counted up to the claim's limits.
    events: int
    # Their bodies' bytes.
    size: int
    # Since when the one that waits longest does; None where there is none.
    oldest: float | None
    # When the next event that is not due yet becomes due; None where there is none.
    next_due: float | None


class Level(msgspec.Struct, frozen=True):
    """What waits in one lane for one environment, claimed events too."""

    lane: Lane
    # The environment's name in the YAML when they were captured.
    environment: str
    events: int
    # Their bodies' bytes.
    size: int
    # Since when the one that waits longest does: when it was captured, or when it was replayed.
    oldest: float


class Usage(msgspec.Struct, frozen=True):
    """How full the outbox is, in bytes of storage in use."""

    size: int
    capacity: int
    # Why not even a small event could be stored, whatever its bound, in an OutboxError's words; empty where it could.
    obstacle: str = ""


class Book(msgspec.Struct, frozen=True):
    """The totals of one environment since the outbox was made. They balance:

    captured = skipped + refused + superseded + dropped + delivered + dead_letters + waiting

    What has reasons is counted by them.
    """

    captured: int = 0
    superseded: int = 0
    delivered: int = 0
    # Events waiting now, claimed ones too.
    waiting: int = 0
    # Dead letters stored now.
    dead_letters: Mapping[str, int] = {}
    skipped: Mapping[str, int] = {}
    refused: Mapping[str, int] = {}
    dropped: Mapping[str, int] = {}
