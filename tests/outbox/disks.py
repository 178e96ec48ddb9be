"""Small disks for the tests, and somebody else who fills them."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lacking import lacking


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A disk of that size at *folder*."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if done.returncode:
        lacking("this user may not mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def take_room(disk: Path, leave: int) -> Path:
    """Somebody else's file, which leaves so many bytes of *disk* free."""
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * (shutil.disk_usage(disk).free - leave))
    return ballast
