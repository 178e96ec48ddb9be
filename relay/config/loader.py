"""From a YAML file to a Config, or to every mistake in it at once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relay.config.document import Flaw, Node, Unreadable, parse
from relay.config.mistakes import Mistake, flaws_of, mistake_in, told_once
from relay.config.models import Config
from relay.config.references import Resolver
from relay.config.relations import needless_spool, one_port, reminder, repeated, two_shares, warnings
from relay.config.rules import Rules
from relay.config.source import YAML_BYTES, Source, read_yaml
from relay.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration without mistakes."""

    config: Config
    source: Source
    warnings: tuple[Mistake, ...]
    # What the operator is to know whatever the file says; may be empty.
    reminder: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that can be said of a file; there is a config exactly where there are no mistakes."""

    mistakes: tuple[Mistake, ...]
    source: Source
    warnings: tuple[Mistake, ...] = ()
    config: Config | None = None
    # What the operator is to know whatever the file says; may be empty.
    reminder: str = ""

    def loaded(self) -> Loaded:
        """The configuration. Raises ConfigError with every mistake, one per line."""
        if self.config is None:
            raise ConfigError("\n".join(map(str, self.mistakes)))
        return Loaded(self.config, self.source, self.warnings, self.reminder)


def load(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Read the YAML file at *path*; references take their values from *environ*.

    Raises ConfigError with every mistake, one per line.
    """
    return examine(path, environ).loaded()


def examine(path: Path, environ: Mapping[str, str], content: bytes | None = None) -> Findings:
    """Find every mistake in the YAML file at *path*; raises nothing whatever the file holds.

    *content* is read as if it stood there.
    """
    try:
        content = _read(path) if content is None else content
    except ConfigError as error:
        return Findings((Mistake(str(path), None, "", str(error)),), Source.of(None, {}))
    try:
        return _examine(path, environ, content)
    except ConfigError as error:
        mistake = Mistake(str(path), None, "", str(error))
    except Unreadable as error:
        mistake = mistake_in(str(path), error.flaw)
    return Findings((mistake,), Source.of(content, {}))


def _examine(path: Path, environ: Mapping[str, str], content: bytes) -> Findings:
    """Raises Unreadable or ConfigError for what is no YAML."""
    written, flaws = parse(_decode(content))
    if flaw := _flaw_of_root(written):
        raise Unreadable(flaw.line, flaw.text)
    resolver = Resolver(environ, path.parent)
    config, found = _validate(resolver.resolve(written), path.parent)
    mistakes = told_once(str(path), [*flaws, *resolver.flaws, *found])
    source = Source.of(content, resolver.files)
    if mistakes or config is None:
        return Findings(mistakes, source)
    return Findings((), source, told_once(str(path), warnings(written, config)), config, reminder(config))


def _read(path: Path) -> bytes:
    """The file's bytes. Raises ConfigError with what to do."""
    try:
        return read_yaml(path)
    except FileNotFoundError:
        raise ConfigError("there is no such file; give the YAML's path with -c") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no usable file name"
        raise ConfigError(f"the file cannot be read ({reason}); give the path of a readable YAML with -c") from error


def _decode(content: bytes) -> str:
    """The file's text. Raises ConfigError with what to do."""
    if len(content) > YAML_BYTES:
        raise ConfigError("the file is larger than 1 MiB; give the path of the relay's YAML with -c")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"the file is not UTF-8 (line {line}); save it as UTF-8") from error


def _flaw_of_root(root: Node) -> Flaw | None:
    if root.value is None:
        return Flaw(1, "", "the file is empty; write at least one of environments:, as in config.example.yaml")
    if not isinstance(root.value, dict):
        return Flaw(root.line, "", "the file is not a mapping; begin with a section and a colon, like environments:")
    return None


def _validate(root: Node, folder: Path) -> tuple[Config | None, list[Flaw]]:
    """Check `defaults` alone, so that its mistakes are told there; then all of it, merged."""
    merged, defaults = _merged(root)
    context = {"folder": folder}
    flaws: list[Flaw] = []
    config = None
    try:
        Rules.model_validate(_plain(defaults), context=context)
    except ValidationError as error:
        flaws += flaws_of(error, defaults, Rules, "defaults")
    try:
        config = Config.model_validate(_plain(merged), context=context)
    except ValidationError as error:
        flaws += flaws_of(error, merged, Config)
    else:
        flaws += [*two_shares(merged, config), *needless_spool(merged, config)]
    return config, [*flaws, *one_port(merged), *repeated(merged)]


def _merged(root: Node) -> tuple[Node, Node]:
    """The file with the rules of `defaults` merged into each environment; and those defaults."""
    # Written or not, the outbox is read: its file is relative to the YAML's folder.
    entries = {"outbox": Node(None, root.line), **root.entries()}
    defaults = entries.pop("defaults", Node(None, root.line))
    if environments := entries.get("environments"):
        merged = [over(defaults, each) for each in environments.items()]
        entries["environments"] = replace(environments, value=merged) if environments.items() else environments
    return replace(root, value=entries), defaults


def over(base: Node, own: Node) -> Node:
    """*own*'s values over *base*'s, key by key and nested; lists are replaced whole, an empty section adds nothing."""
    if not isinstance(base.value, dict) or not isinstance(own.value, dict | None):
        return own
    entries = {key: replace(value, inherited=True) for key, value in base.entries().items()}
    for key, value in own.entries().items():
        entries[key] = over(entries[key], value) if key in entries else value
    return replace(own, value=entries)


def _plain(node: Node) -> Any:
    """The tree without its lines."""
    match node.value:
        case dict() as entries:
            return {key: _plain(each) for key, each in entries.items()}
        case list() as items:
            return [_plain(each) for each in items]
        case value:
            return value
