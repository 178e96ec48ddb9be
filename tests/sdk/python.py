"""The Python SDK: python.py URL KEY IDENTITY TRAITS FALLBACK → the flags it gives its app, as JSON."""

import json
import sys

from flagsmith import Flagsmith
from flagsmith.models import DefaultFlag


def main(url: str, key: str, identity: str, traits: str, fallback: str) -> None:
    """Ask once, as an app would, and print the answer."""
    defaults = json.loads(fallback)
    flagsmith = Flagsmith(
        api_url=f"{url}/api/v1/",
        environment_key=key,
        enable_local_evaluation=key.startswith("ser."),
        default_flag_handler=lambda name: DefaultFlag(**defaults[name]),
    )
    given = flagsmith.get_identity_flags(identity, json.loads(traits))
    names = [flag.feature_name for flag in given.all_flags()] or list(defaults)
    flags = {name: given.get_flag(name) for name in names}
    sys.stdout.write(json.dumps({name: {"enabled": flag.enabled, "value": flag.value} for name, flag in flags.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
