"""Options that several commands share, and how their values are read."""

import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

# The commands read the file themselves, so that every mistake about it is told in one way.
config_file = click.option(
    "-c", "--config", "path", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The YAML file."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Moment(click.ParamType[float]):
    """Seconds since 1970, from a date, a date with a time (UTC unless it says otherwise), or an age."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        if age := re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII):
            return time.time() - int(age[1]) * UNITS[age[2]]
        try:
            at = datetime.fromisoformat(text)
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            self.fail("is no moment; write 2026-11-24, 2026-11-24T14:00 (UTC), or an age like 2h or 7d", param, ctx)


def read_identity(argument: str) -> str:
    """The identity that was given; - reads standard input, so that it is not in the list of processes.

    Raises UsageError for none: a pipe that brings nothing must not look like an identity without a trace.
    """
    if argument == "-":
        argument = sys.stdin.buffer.read().decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")
    if not argument:
        raise click.UsageError("the identity is empty; write it, or - and send it to standard input")
    return argument


def in_json(value: Any, indent: int | None = 2) -> str:
    """*value* for machines, and for terminals."""
    return visible(json.dumps(value, indent=indent, ensure_ascii=False))


def visible(text: str) -> str:
    """*text* for terminals: what cannot be seen, and might control one, is escaped as in JSON."""
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def stamp(at: float) -> str:
    """ "2026-11-24 14:02:11", in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def iso(at: float) -> str:
    """ "2026-11-24T14:02:11.123Z", for machines."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
