"""What a program of Python asks of the system, seen from the outside."""

import subprocess
import sys
from pathlib import Path

from tests.lacking import lacking


def traced(folder: Path, calls: str, program: str, *arguments: str) -> str:
    """The system *calls* that *program* makes, one a line in their order. *folder* is for the trace."""
    trace = folder / "trace"
    command = ["strace", "-f", "-e", f"trace={calls}", "-o", str(trace), sys.executable, "-c", program, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        lacking("strace is not installed")
    if done.returncode:
        lacking("this user may not trace")
    return trace.read_text()
