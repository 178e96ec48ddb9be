"""Relays of a fleet in processes of their own, that can be killed and started again."""

from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any

from relay.fleet import Role
from tests.fleet.conftest import Fleet
from tests.processes import RelayProcess, relay_process


class Members:
    """Those of one *role*, by name; *changes* are to their YAML."""

    def __init__(self, fleet: Fleet, role: Role, names: Iterable[str], stack: AsyncExitStack, **changes: Any) -> None:
        self.running: dict[str, RelayProcess] = {}
        self._paths = {name: fleet.write(name, log={"format": "json"}, **changes) for name in names}
        self._role = role
        self._stack = stack

    def urls(self) -> list[str]:
        """Of those that run."""
        return [relay.url for relay in self.running.values()]

    async def start(self, name: str) -> None:
        """Return once it serves."""
        fresh = await self._stack.enter_async_context(relay_process(self._paths[name], None, "--role", self._role))
        await fresh.wait_for("relay.started")
        self.running[name] = fresh

    async def kill(self, name: str) -> None:
        """End it without a word."""
        relay = self.running.pop(name)
        relay.kill()
        await relay.ended()
