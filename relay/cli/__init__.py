"""The command `relay`: one file per command, imported when it is called, so that each starts fast."""

import gc
import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from relay import __version__
from relay.errors import ConfigError, RelayError

# Each is a module of this package that holds a click command of the same name, with _ for -. What they do stands here
# too, so that `relay --help` imports none of them.
COMMANDS = {
    "run": "The relay.",
    "check": "Find every mistake in the YAML; show the merged result, secrets masked; probe it with --live.",
    "status": "How the relay is doing: the status page in the terminal.",
    "trace": "What happened to one identity's last evaluations, and why.",
    "dead-letters": "What was set aside: list, show, replay, drop.",
    "orphans": "What waits for Heap apps that no environment names: list, move, drop.",
    "forget": "Erase one identity from the outbox.",
    "schema": "JSON Schema of the YAML, for editors.",
    "preview": "Show the exact Heap event of one identity; send nothing.",
    "sandbox": "The whole path on one machine, with nothing else.",
    "health": "Ask a running relay how it is, for exec probes.",
}


class Commands(click.Group):
    """Finds commands by name, and turns the relay's errors into lines on stderr and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        open_what_is_closed()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # click itself ends without a word where nobody reads any more
            with suppress(OSError):
                click.echo(f"relay: cannot go on: {error}; make room, or write the output elsewhere", err=True)
            write_nowhere()
            sys.exit(1)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        # All of it stays: to look through it for garbage, 150 times meanwhile, takes a twelfth of the start, measured.
        gc.disable()
        try:
            command = getattr(importlib.import_module(f"relay.cli.{module}"), module)
        finally:
            gc.freeze()
            gc.enable()
        assert isinstance(command, click.Command)  # noqa: S101 - a mistake of ours, not of the caller
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(error, err=True)
            ctx.exit(2)
        except RelayError as error:
            click.echo(f"relay: {error}", err=True)
            ctx.exit(1)
        except ImportError as missing:
            click.echo(f"relay: {missing}; install the relay with all of requirements/run.txt", err=True)
            ctx.exit(1)


def open_what_is_closed() -> None:
    """Point each standard stream that the caller closed at nothing.

    Python has no stream there then; and the first file or connection would take its number, and get what is written
    to it.
    """
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            # The lowest free number, which it takes, is the missing one.
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open as long as the process


def write_nowhere() -> None:
    """Let what is still in the streams' buffers go nowhere: Python would fail on it once more, and exit with 120."""
    with Path(os.devnull).open("w") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay")
def main() -> None:
    """Forward Flagsmith's flag calls untouched, and tell Heap which flags each identity saw."""
