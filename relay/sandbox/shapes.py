"""How core, the Edge API and the Edge Proxy write down what they decided (docs.flagsmith.com/performance/edge-api)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from relay.sandbox.flags import Served, ServedEnvironment, StandInFlag

CREATED = "2026-01-05T10:00:00.000000Z"


def full_flag(served: Served, *, sensitive: bool) -> dict[str, Any]:
    """A flag as core answers it; where *sensitive* data is hidden the keys stay and their values are null."""
    flag = served.flag
    feature = {
        "id": served.feature_id,
        "name": flag.name,
        "created_date": None if sensitive else CREATED,
        "description": None if sensitive else flag.description,
        "initial_value": None if sensitive or flag.value is None else str(flag.value),
        "default_enabled": None if sensitive else flag.enabled,
        "type": flag.kind,
    }
    return {
        "id": None if sensitive else served.state_id,
        "feature": feature,
        "feature_state_value": served.value,
        "environment": None if sensitive else 1,
        "identity": None,
        "feature_segment": None,
        "enabled": flag.enabled,
    }


def slim_flag(served: Served) -> dict[str, Any]:
    """A flag as the Edge API and the Edge Proxy answer it."""
    return {
        "feature": {"id": served.feature_id, "name": served.flag.name, "type": served.flag.kind},
        "enabled": served.flag.enabled,
        "feature_state_value": served.value,
    }


def document(environment: ServedEnvironment) -> dict[str, Any]:
    """The environment document, from which SDKs in local evaluation decide by themselves."""
    states = [_state(number, flag) for number, flag in enumerate(environment.flags, start=1)]
    return {
        "id": 1,
        "name": "Sandbox",
        "api_key": environment.client_key,
        "updated_at": datetime.fromtimestamp(environment.updated_at, UTC).isoformat(),
        "hide_disabled_flags": environment.hide_disabled,
        "hide_sensitive_data": environment.hide_sensitive,
        "project": _project(environment),
        "feature_states": states,
        "identity_overrides": [],
    }


def _project(environment: ServedEnvironment) -> dict[str, Any]:
    organisation = {
        "id": 1,
        "name": "Sandbox",
        "feature_analytics": False,
        "stop_serving_flags": False,
        "persist_trait_data": True,
    }
    return {
        "id": 1,
        "name": "Sandbox",
        "hide_disabled_flags": environment.hide_disabled,
        "enable_realtime_updates": False,
        "server_key_only_feature_ids": _server_key_only(environment.flags),
        "organisation": organisation,
        "segments": [],
    }


def _server_key_only(flags: Sequence[StandInFlag]) -> list[int]:
    return [number for number, flag in enumerate(flags, start=1) if flag.server_key_only]


def _state(number: int, flag: StandInFlag) -> dict[str, Any]:
    return {
        "django_id": 100 + number,
        "featurestate_uuid": _uuid(1, number),
        "feature": {"id": number, "name": flag.name, "type": flag.kind},
        "feature_state_value": flag.value,
        "enabled": flag.enabled,
        "feature_segment": None,
        "multivariate_feature_state_values": [
            {
                "id": 1_000 * number + place,
                "mv_fs_value_uuid": _uuid(2, 1_000 * number + place),
                "percentage_allocation": variant.share,
                "multivariate_feature_option": {"id": place, "key": variant.key, "value": variant.value},
            }
            for place, variant in enumerate(flag.variants, start=1)
        ],
    }


def _uuid(kind: int, number: int) -> str:
    return f"00000000-0000-4000-800{kind}-{number:012}"
