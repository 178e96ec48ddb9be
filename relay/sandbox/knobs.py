"""What nobody outside Heap knows about its answers: each field is one open question, its default the strict guess."""

from dataclasses import dataclass
from typing import Literal

AcceptOrRefuse = Literal["accept", "refuse"]


@dataclass(frozen=True, slots=True)
class Knobs:
    """One Heap that may be the real one. A client is right only if it is right under every setting."""

    # Another or no Content-Type than application/json. Heap documents JSON only; refused with 415.
    other_content_type: AcceptOrRefuse = "refuse"
    # The longest request body is not published. Heap's collectors take 800,000 bytes of one message, its mobile SDK
    # stops at 1,000,000 per upload (github.com/heap/heap-swift-core-sdk).
    max_body_bytes: int = 1_000_000
    too_large_status: Literal[413, 400] = 413
    # JSON leaves a key that occurs twice in one object undefined (RFC 8259, section 4).
    duplicate_keys: AcceptOrRefuse = "refuse"
    # An app_id of the other region's data centre: 200 and lost, as an unknown one is, or 400.
    other_region: Literal["lost", "refuse"] = "lost"
    # "events": []
    empty_events: AcceptOrRefuse = "refuse"
    # One bad event among good ones: all refused, or the good ones stored and 200 or 400 answered.
    bad_event: Literal["refuse_all", "store_others_200", "store_others_400"] = "refuse_all"
    # Heap's SDKs count UTF-16 units; a JSON Schema validator counts code points, of which there are never more.
    length_unit: Literal["utf16", "code_points"] = "utf16"
    # NUL and lone surrogates are legal in JSON, and text columns of most stores refuse them.
    unstorable_text: AcceptOrRefuse = "refuse"
    # Documented: fewer than 1,024 characters; Heap's SDKs drop property keys above 512.
    max_property_key: int = 1_023
    # Not in the documented types, yet sent by well-known clients.
    booleans: AcceptOrRefuse = "accept"
    nulls: AcceptOrRefuse = "accept"
    # A text property above 1,023 characters: refused, or cut in silence.
    long_values: Literal["refuse", "cut"] = "refuse"
    # An object as a property value: refused, or the property vanishes and 200 is answered.
    nested_objects: Literal["refuse", "drop"] = "refuse"
    # Milliseconds since 1970 instead of ISO 8601, as a number or as text.
    epoch_timestamps: AcceptOrRefuse = "refuse"
    # Whether old events are taken; the documents name no bound. None: of any age.
    max_age_days: float | None = None
    old_events: Literal["refuse", "drop"] = "refuse"
    # An idempotency key of fewer than 8 characters: refused, or ignored, so that a repeat is stored twice.
    short_keys: Literal["refuse", "ignore"] = "refuse"
    # One idempotency key twice in one request.
    repeated_keys: Literal["refuse", "first_wins"] = "refuse"
    # Fields that the documents do not name.
    extra_fields: AcceptOrRefuse = "accept"
    # What a request above a rate limit gets; "drop" answers 200 and stores none of its events.
    over_limit: Literal["429", "429_seconds", "429_date", "400", "drop"] = "429"
    # Seconds in the Retry-After of the two 429 that carry one.
    retry_after: int = 5
    # How long, and by what, a repeated event is known.
    dedupe: Literal["forever", "day", "key_and_timestamp"] = "forever"
    # What a success looks like; the documents say 200 and {}.
    success: Literal["json", "no_content", "ok_text"] = "json"
