"""The preload that lets a process meet faults of its system, and the numbers that tell it which."""

import mmap
import shutil
import struct
import subprocess
import time
from pathlib import Path

from faults.fault import NotRun

SOURCE = Path(__file__).with_name("shim.c")
# As in shim.c.
NUMBERS = (
    "wall_ahead",
    "rate",
    "began_wall",
    "began_monotonic",
    "flush_fails",
    "flush_hangs",
    "read_only",
    "nameless",
)


class Shim:
    """One preload with numbers of its own, for the processes that are started in `environ`."""

    def __init__(self, library: Path, folder: Path, rate: float) -> None:
        control = folder / "control"
        control.write_bytes(bytes(8 * len(NUMBERS)))
        with control.open("r+b") as file:
            self._numbers = mmap.mmap(file.fileno(), 0)
        self.environ = {"LD_PRELOAD": str(library), "RELAY_FAULTS_CONTROL": str(control)}
        self.set(rate=rate, began_wall=float(int(time.time())), began_monotonic=float(int(time.monotonic())))

    def set(self, **numbers: float) -> None:
        """Hold from now on, in processes that run already, too."""
        for name, number in numbers.items():
            struct.pack_into("d", self._numbers, 8 * NUMBERS.index(name), number)

    @property
    def began_monotonic(self) -> float:
        """The moment from which a clock that runs fast does so."""
        return float(struct.unpack_from("d", self._numbers, 8 * NUMBERS.index("began_monotonic"))[0])


def build(folder: Path) -> Path:
    """The compiled preload in *folder*. Raises NotRun without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotRun("no C compiler: apt-get install gcc libc6-dev")
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotRun(f"the preload does not compile: {done.stderr.strip().splitlines()[-1]}")
    return library
