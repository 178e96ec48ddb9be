"""What a probe found."""

from dataclasses import dataclass
from enum import StrEnum

from relay.errors import RelayError


class Result(StrEnum):
    """How bad it is."""

    OK = "ok"
    # The relay works, but not well, or not for long.
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found, in words that hold no key and nobody's identity."""

    # What was looked at: "flagsmith.tls".
    probe: str
    result: Result
    detail: str
    # What to do; there is always something where the result is not OK.
    advice: str = ""
    # What it took, where that tells something.
    seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.result:<8}{self.probe}: {self.detail}" + (f"; {self.advice}" if self.advice else "")


def failure(probe: str, error: RelayError) -> Finding:
    """What *error* says: what is wrong, and behind a semicolon what to do."""
    detail, _, advice = str(error).partition("; ")
    return Finding(probe, Result.FAILED, detail, advice)


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms"
