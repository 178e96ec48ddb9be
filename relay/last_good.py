"""What to run on: the configuration file, or where that is broken the last good content, kept beside the outbox."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.config import Findings, Loaded, Mistake, Source, examine
from relay.config.salvage import own_files
from relay.config.source import read_yaml


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The YAML that a process was started with, and what it runs on."""

    path: Path
    environ: Mapping[str, str]
    # What it held at the start, and the mistakes in it.
    seen: Source
    mistakes: tuple[Mistake, ...]
    # What is run on: the same, or where that has mistakes the last good copy.
    loaded: Loaded


def open_file(path: Path, environ: Mapping[str, str]) -> ConfigFile:
    """The YAML at *path* and what to run on. Raises ConfigError with every mistake where nothing can be run on.

    A path to nothing readable is a mistake of whoever typed it: no old content runs in its stead.
    """
    findings = examine(path, environ)
    loaded = to_run_on(path, environ, findings) or findings.loaded()
    return ConfigFile(path, environ, findings.source, findings.mistakes, loaded)


def to_run_on(path: Path, environ: Mapping[str, str], findings: Findings) -> Loaded | None:
    """What was found in the YAML at *path*, or where that has mistakes in its last good copy; None where in neither."""
    if findings.mistakes and findings.source.text is not None:
        findings = find(path, environ, findings.source.text) or findings
    return findings.loaded() if findings.config else None


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
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a path has no modes
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
    for outbox in own_files(path, environ, broken):
        try:
            findings = examine(path, environ, read_yaml(beside(outbox)))
        except (OSError, ValueError):
            continue
        if findings.config:
            return findings
    return None
