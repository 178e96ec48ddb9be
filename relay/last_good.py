"""The last configuration without mistakes, kept beside the outbox: a restart on a broken file runs on it."""

import os
from collections.abc import Mapping
from pathlib import Path

from relay.config import Findings, examine
from relay.config.salvage import outboxes
from relay.config.source import read_yaml


def beside(outbox: Path) -> Path:
    """Where the copy lies."""
    return outbox.with_name(f"{outbox.name}.last-good.yaml")


def keep(outbox: Path, content: bytes) -> None:
    """Return once *content* would be found after a crash; until then what was kept before is.

    Its references stay references, and it is for the relay's user alone all the same. Raises OSError or ValueError.
    """
    place = beside(outbox)
    if place.exists() and place.read_bytes() == content:
        return
    new = place.with_name(f"{place.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(place)
    _flush_folder(place.parent)


def _flush_folder(folder: Path) -> None:
    """A new name survives a power cut once its folder was flushed, too (man 2 fsync)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find(path: Path, environ: Mapping[str, str], broken: bytes) -> Findings | None:
    """The copy kept for the YAML at *path*, which holds *broken* now; None where there is none without mistakes."""
    for outbox in outboxes(path, environ, broken):
        try:
            findings = examine(path, environ, read_yaml(beside(outbox)))
        except (OSError, ValueError):
            continue
        if findings.config:
            return findings
    return None
