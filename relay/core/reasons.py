"""The closed sets of words that metrics have for labels; all but the first and the last two are the books', too."""

# Captured, and to be sent.
SENT = ("every_call", "first_seen", "flags_changed", "heartbeat")
# Captured, and rightly not sent.
SKIPPED = (
    "no_identity",
    "not_flags",
    "unchanged",
    "sampled_out",
    "filtered",
    "blocked",
    "transient",
    "empty",
    "shadow",
    "over_cap",
    "already_captured",
)
# Captured, but could not be kept.
REFUSED = ("memory", "too_large", "undecodable", "outbox_full", "outbox_error")
# Set aside: at capture, by Heap's answer, or by age.
DEAD = (
    "identity_too_long",
    "identity_unacceptable",
    "event_too_large",
    "refused_by_heap",
    "too_large_for_heap",
    "expired",
)
# Removed by a stated cap, or by an operator.
DROPPED = ("dead_letters_full", "dead_letter_expired", "operator", "orphaned", "forgotten")
# Why the relay answered 502 or 504 in place of Flagsmith.
UPSTREAM = (
    "busy",
    "connect_failed",
    "connect_timeout",
    "dns_failed",
    "loop",
    "read_timeout",
    "reset",
    "tls_failed",
    "truncated",
    "unreadable",
)
# What became of a changed configuration file.
RELOADED = ("applied", "refused")
