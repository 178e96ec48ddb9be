"""A bound on a process's memory, as a cluster sets it (docs.kernel.org/admin-guide/cgroup-v2.html)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from faults.fault import NotRun

ROOT = Path("/sys/fs/cgroup")
# Older systems have a tree for memory alone, with other names in it.
FILES = {
    ROOT / "memory": ("memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    ROOT: ("memory.max", "memory.peak"),
}
NUMBERS = count()


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that may have so much memory together, the page cache that they need included."""

    folder: Path
    peak_file: str

    @property
    def through(self) -> tuple[str, ...]:
        """The command that joins it and becomes the one that follows."""
        return "sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.folder / "cgroup.procs")

    @property
    def peak(self) -> int:
        """The most bytes that they had at once."""
        return int((self.folder / self.peak_file).read_text())


@contextmanager
def group(most: int) -> Iterator[Group]:
    """A group with *most* bytes, gone after its last process. Raises NotRun where this user may not make it."""
    tree = next((tree for tree in FILES if tree.is_dir()), ROOT)
    limit, peak = FILES[tree]
    folder = tree / f"relay-faults-{os.getpid()}-{next(NUMBERS)}"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(most))
    except OSError as failure:
        raise NotRun(f"no memory limit can be set: {failure}") from failure
    try:
        yield Group(folder, peak)
    finally:
        with suppress(OSError):
            folder.rmdir()
