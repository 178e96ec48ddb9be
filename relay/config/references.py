"""References of the YAML to what stands outside of it: `${NAME}`, `${NAME:-default}`, `${file:PATH}`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from relay.config.document import SURROGATE, Flaw, Node, Scalar, join
from relay.config.source import VALUE_BYTES, read_value

REFERENCE = re.compile(
    r"""
    (?P<literal>\$\$\{)
    | \$\{ file: (?P<file>[^{}]+) \}
    | \$\{ (?P<name>[A-Za-z_][A-Za-z0-9_]*) (?: :- (?P<default>[^{}]*) )? \}
    | (?P<broken>\$\{)
    """,
    re.VERBOSE,
)


class _Unresolved(Exception):
    """A reference leads nowhere; the text says what to do."""


@dataclass(slots=True)
class Resolver:
    """Replaces references in scalars, once, never in keys; what leads nowhere is a flaw and becomes empty text."""

    environ: Mapping[str, str]
    # PATH in `${file:PATH}` is relative to it.
    folder: Path
    flaws: list[Flaw] = field(default_factory=list)
    # The bytes of each file that was named, read once; None where that cannot be.
    files: dict[str, bytes | None] = field(default_factory=dict)

    def resolve(self, node: Node, path: str = "") -> Node:
        """*node* with every reference in it replaced."""
        match node.value:
            case dict() as entries:
                return replace(node, value={key: self.resolve(each, join(path, key)) for key, each in entries.items()})
            case list() as items:
                return replace(node, value=[self.resolve(each, f"{path}[{at}]") for at, each in enumerate(items)])
            case Scalar() as scalar if "${" in scalar:
                return replace(node, value=self._scalar(scalar, node.line, path))
            case _:
                return node

    def _scalar(self, scalar: Scalar, line: int, path: str) -> Scalar:
        origins = [found.group() for found in REFERENCE.finditer(scalar) if not found["literal"]]
        try:
            text = REFERENCE.sub(self._replacement, scalar)
        except _Unresolved as problem:
            self.flaws.append(Flaw(line, path, str(problem)))
            text = ""
        return Scalar.of(text, plain=scalar.plain and not origins, origin=_without_default(origins))

    def _replacement(self, found: re.Match[str]) -> str:
        if found["literal"]:
            return "${"
        if found["broken"]:
            raise _Unresolved(
                "has an unfinished reference; write ${NAME}, ${NAME:-default} or ${file:PATH}, or $${ for a plain ${"
            )
        text = self._file(found["file"]) if found["file"] else self._variable(found["name"], found["default"])
        if SURROGATE.search(text):
            raise _Unresolved(f"{_without_default([found.group()])} is not UTF-8; write it as UTF-8")
        return text

    def _variable(self, name: str, default: str | None) -> str:
        """As in a shell, a default also stands in for an empty value."""
        value = self.environ.get(name)
        if default is not None:
            return value or default
        if value is None:
            raise _Unresolved(
                f"the environment variable {name} is not set; set it for the relay, or write ${{{name}:-default}}"
            )
        return value

    def _file(self, name: str) -> str:
        content = self._content(name)
        if len(content) > VALUE_BYTES:
            raise _Unresolved(f"the file {name} is larger than 64 KiB; name the file that holds only the value")
        try:
            return content.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise _Unresolved(f"the file {name} is not UTF-8; write it as UTF-8") from error

    def _content(self, name: str) -> bytes:
        content = self.files.setdefault(name, None)
        if content is not None:
            return content
        try:
            content = self.files[name] = read_value(self.folder / name)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no usable file name"
            raise _Unresolved(
                f"the file {name} cannot be read ({reason}); make it readable for the relay, or name another one"
            ) from error
        if content is None:
            raise _Unresolved(f"{name} is not a file; name the file that holds the value instead")
        return content


def _without_default(origins: list[str]) -> str:
    """The references by name; a default may be a secret."""
    return " and ".join(re.sub(r":-[^}]*", "", origin) for origin in origins)
