"""What can still be read of a file with mistakes: where its outbox, or its spool, is."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relay.config.document import Unreadable, parse
from relay.config.models import OutboxConfig
from relay.config.references import Resolver

SQLITE = re.compile(r"""sqlite:///[^\s"'?#,}\]]+""")


def own_files(path: Path, environ: Mapping[str, str], content: bytes) -> tuple[Path, ...]:
    """The files that may be the outbox (or with Redis the spool) of *content* as the YAML at *path*, likeliest first.

    The one of its settings where they can be read (none where that is in memory); else whatever looks like one, and
    the default.
    """
    text = content.decode(errors="replace")
    try:
        found = [_file(_settings(path, environ, text), path.parent)]
    except (Unreadable, ValidationError):
        found = list(_guesses(text, path.parent))
    return tuple(file for file in dict.fromkeys(found) if file)


def _settings(path: Path, environ: Mapping[str, str], text: str) -> dict[str, Any]:
    """The values of outbox.url and outbox.spool where they are written, references replaced. Raises Unreadable."""
    root, _ = parse(text)
    if not isinstance(root.value, dict):
        raise Unreadable(root.line, "no mapping")
    outbox = root.entries().get("outbox")
    resolver = Resolver(environ, path.parent)
    written = {name: node for name, node in (outbox.entries() if outbox else {}).items() if name in {"url", "spool"}}
    return {name: resolver.resolve(node).value for name, node in written.items()}


def _guesses(text: str, folder: Path) -> Iterator[Path | None]:
    for url in SQLITE.findall(text):
        try:
            yield _file({"url": url}, folder)
        except ValidationError:
            continue
    yield _file({}, folder)


def _file(settings: Mapping[str, Any], folder: Path) -> Path | None:
    """Raises ValidationError for what are no addresses."""
    return OutboxConfig.model_validate(settings, context={"folder": folder}).own_file
