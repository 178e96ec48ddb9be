"""A YAML that is broken while a relay runs on it."""

import asyncio
from pathlib import Path


def append(config: Path, text: str) -> None:
    with config.open("a") as file:
        file.write(text)


async def has_a_copy(config: Path) -> None:
    """Return once the relay that runs on *config* has kept it for a restart."""
    async with asyncio.timeout(10):
        while not (config.parent / "data" / "outbox.db.last-good.yaml").exists():
            await asyncio.sleep(0.01)
