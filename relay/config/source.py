"""What a configuration is read from: the bytes of the YAML, and those of the files that it names."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# A ConfigMap holds at most 1 MiB (kubernetes.io/docs/concepts/configuration/configmap).
YAML_BYTES = 2**20
# A secret is a line of text; a larger file is the wrong one.
VALUE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Source:
    """What stood in the YAML and in the files it names when they were read, all in one load."""

    # SHA-256 of it in hex. Of a YAML that names no file it is the one that `sha256sum` prints.
    digest: str
    # The YAML, its references unresolved; None where it could not be read.
    text: bytes | None = field(repr=False)
    # Each PATH of a `${file:PATH}`, missing files too.
    files: tuple[str, ...]

    @classmethod
    def of(cls, text: bytes | None, files: Mapping[str, bytes | None]) -> "Source":
        """The source of *text* and of *files* by their names, None for what cannot be read."""
        names = tuple(sorted(files))
        digest = hashlib.sha256(text or b"")
        for name in names:
            content = files[name]
            size = "unreadable" if content is None else len(content)
            digest.update(f"\0{name}\0{size}\0".encode(errors="surrogatepass"))
            digest.update(content or b"")
        return cls(digest.hexdigest(), text, names)

    @classmethod
    def now(cls, path: Path, files: Iterable[str]) -> "Source":
        """What stands at *path*, and in *files* beside it, at this moment; raises nothing, and waits for no pipe."""
        contents = {name: _or_none(read_value, path.parent / name) for name in files}
        return cls.of(None if path.is_fifo() else _or_none(read_yaml, path), contents)


def read_yaml(path: Path) -> bytes:
    """The YAML; one byte more than it may have tells that there are more. Raises OSError or ValueError."""
    return _start(path, YAML_BYTES)


def read_value(path: Path) -> bytes | None:
    """A file with a value, likewise; None for what is no file: a pipe would be waited for. Raises as `read_yaml`."""
    return None if path.exists() and not path.is_file() else _start(path, VALUE_BYTES)


def _start(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most + 1)


def _or_none(read: Callable[[Path], bytes | None], path: Path) -> bytes | None:
    try:
        return read(path)
    except (OSError, ValueError):
        return None
