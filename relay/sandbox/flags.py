"""The features that a stand-in Flagsmith serves, and how it decides them for one identity."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

FlagValue = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the other values of a multivariate flag."""

    key: str
    value: str | int | bool
    # Per cent of the identities that get it; the control value takes what is left.
    share: float


@dataclass(frozen=True, slots=True)
class StandInFlag:
    """One feature; with variants its value is the control value."""

    name: str
    value: FlagValue = None
    enabled: bool = True
    variants: tuple[Variant, ...] = ()
    # Left out for client keys.
    server_key_only: bool = False
    description: str | None = None

    @property
    def kind(self) -> str:
        return "MULTIVARIATE" if self.variants else "STANDARD"


# One of each kind that Flagsmith's users have: no value, text, whole numbers, and the values that count as false.
DEFAULT_FLAGS = (
    StandInFlag("dark_mode"),
    StandInFlag("new_navigation", enabled=False),
    StandInFlag(
        "checkout_copy",
        "Buy now",
        variants=(Variant("order", "Place your order", 30), Variant("pay", "Pay securely", 30)),
        description="Words on the last button of the checkout",
    ),
    StandInFlag("max_upload_mb", 25),
    StandInFlag("free_trial_days", 0),
    StandInFlag("beta_api", value=False),
    StandInFlag("maintenance_banner", ""),
    StandInFlag("legacy_search", "v1", enabled=False),
    StandInFlag("price_factor", "1.5"),
    StandInFlag("greeting", "Grüße aus Zürich 👋"),
    StandInFlag("margin_model", "cost plus", server_key_only=True),
)


@dataclass(frozen=True, slots=True)
class Served:
    """One feature as one identity gets it. The numbers are those that Flagsmith's database would give."""

    flag: StandInFlag
    feature_id: int
    state_id: int
    value: FlagValue
    # None for a flag without variants, "control" for one whose identity got none of them.
    variant: str | None


@dataclass(frozen=True, slots=True)
class ServedEnvironment:
    """One Flagsmith environment: its features, its two keys, its settings."""

    flags: tuple[StandInFlag, ...]
    client_key: str
    server_key: str
    # Leave disabled flags out of answers.
    hide_disabled: bool = False
    # Blank everything in answers that is not needed to use a flag.
    hide_sensitive: bool = False
    # When it was last changed, seconds since 1970.
    updated_at: float = field(default=0.0, kw_only=True)

    def knows(self, key: str) -> bool:
        return key in {self.client_key, self.server_key}

    def serve(self, key: str, identifier: str | None, *, hide_disabled: bool) -> list[Served]:
        """What *key* may see, decided for *identifier*; without one multivariate flags give their control value."""
        return [
            served
            for served in self._decide(identifier)
            if (key == self.server_key or not served.flag.server_key_only)
            and (served.flag.enabled or not hide_disabled)
        ]

    def _decide(self, identifier: str | None) -> Iterator[Served]:
        for number, flag in enumerate(self.flags, start=1):
            state_id = 100 + number
            value, variant = flag.value, None
            if identifier is not None and flag.variants:
                value, variant = _pick(flag, f"{state_id},{self.client_key}_{identifier}")
            yield Served(flag, number, state_id, value, variant)


def _pick(flag: StandInFlag, seed: str) -> tuple[FlagValue, str]:
    """The same identity always gets the same variant, here and in an SDK's local evaluation."""
    at = _percentage(seed)
    start = 0.0
    for variant in flag.variants:
        if start <= at < start + variant.share:
            return variant.value, variant.key
        start += variant.share
    return flag.value, "control"


def _percentage(seed: str) -> float:
    """Where *seed* falls between 0 and 100: Flagsmith's own hash (github.com/Flagsmith/flagsmith-engine)."""
    digest = hashlib.md5(seed.encode(), usedforsecurity=False).hexdigest()
    return int(digest, 16) % 9999 / 9998 * 100
