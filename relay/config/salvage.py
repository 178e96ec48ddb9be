"""What can still be read of a file with mistakes: where its outbox is."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relay.config.document import Unreadable, parse
from relay.config.models import OutboxConfig
from relay.config.references import Resolver

SQLITE = re.compile(r"""sqlite:///[^\s"'?#,}\]]+""")


def outboxes(path: Path, environ: Mapping[str, str], content: bytes) -> tuple[Path, ...]:
    """The files that may be the outbox of *content* as the YAML at *path*, the likeliest first.

    The one of its setting where that can be read (none where that is memory://); else whatever looks like one, and
    the default.
    """
    text = content.decode(errors="replace")
    try:
        found = [_file(_url(path, environ, text), path.parent)]
    except (Unreadable, ValidationError):
        found = list(_guesses(text, path.parent))
    return tuple(file for file in dict.fromkeys(found) if file)


def _url(path: Path, environ: Mapping[str, str], text: str) -> Any:
    """The value of outbox.url, references replaced; None where there is none. Raises Unreadable."""
    root, _ = parse(text)
    if not isinstance(root.value, dict):
        raise Unreadable(root.line, "no mapping")
    outbox = root.entries().get("outbox")
    url = outbox and outbox.entries().get("url")
    return Resolver(environ, path.parent).resolve(url).value if url else None


def _guesses(text: str, folder: Path) -> Iterator[Path | None]:
    for url in SQLITE.findall(text):
        try:
            yield _file(url, folder)
        except ValidationError:
            continue
    yield _file(None, folder)


def _file(url: Any, folder: Path) -> Path | None:
    """Raises ValidationError for what is no address of an outbox."""
    written = {} if url is None else {"url": url}
    return OutboxConfig.model_validate(written, context={"folder": folder}).path
