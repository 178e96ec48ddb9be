"""What the relay that runs on a file says of itself, and whether it serves this file's content."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relay.cli.health import ask
from relay.cli.options import visible
from relay.config import Config, Loaded, Source

# A status of a thousand environments has two.
STATUS_BYTES = 64 * 2**20

NOBODY = "nobody can be asked: the file has mistakes, and no last good content of it is kept"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a running relay serves, beside a file."""

    # It serves the file, and nothing of that waits for a restart.
    same: bool
    # Lines for the operator.
    told: tuple[str, ...]


def ask_relay(config: Config, path: str) -> tuple[bool, str]:
    """What a relay answers at *config*'s admin port: whether all is well, and its words."""
    admin = config.admin
    if not admin.port:
        return False, "nobody can be asked: admin.port is 0, any free port; write one there"
    answered, said = ask(admin.host, admin.port, path, most=STATUS_BYTES)
    return answered, said if answered else f"the file's admin port gives no status: {said}"


def compare(seen: Source, good: Loaded | None) -> Comparison:
    """Ask the relay at *good*'s admin port for what it serves, and compare that with *seen*, the file as it stands.

    Where the file has mistakes *good* is its last good content, if there is one.
    """
    if good is None:
        return Comparison(False, (NOBODY,))
    config = good.config
    answered, said = ask_relay(config, "/status.json")
    if not answered:
        return Comparison(False, (said,))
    try:
        state = json.loads(said)["config"]
        same = state["digest"] == seen.digest and not state["needs_restart"]
        return Comparison(same, tuple(map(visible, _told(state, seen, good.source))))
    except (ArithmeticError, LookupError, OSError, RecursionError, TypeError, ValueError):
        return Comparison(
            False, (f"what answers at {config.admin.host} port {config.admin.port} is no relay of this version",)
        )


def _told(state: dict[str, Any], seen: Source, good: Source) -> Iterator[str]:
    loaded = datetime.fromtimestamp(state["loaded_at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if state["digest"] == seen.digest:
        yield f"the relay serves this file, loaded {loaded}"
    elif state["digest"] == good.digest:
        yield f"this file has mistakes, and the relay serves its last good content, loaded {loaded}"
    else:
        kind = "the last good content, as its file has mistakes" if state["last_good"] else "another content"
        yield f"the relay serves {kind}, loaded {loaded}"
        yield from (f"it refused its file: {mistake}" for mistake in state["mistakes"])
        if not state["mistakes"]:
            yield "send it SIGHUP, or wait for its next look; where that does not help, it was started on another file"
    if state["needs_restart"]:
        yield f"these settings wait for a restart of the relay: {', '.join(state['needs_restart'])}"
