"""relay check: every mistake in the YAML at once, else the merged result."""

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import yaml

from relay.cli.options import config_file
from relay.cli.running import Comparison, compare
from relay.config import Config, Findings, examine
from relay.last_good import to_run_on

if TYPE_CHECKING:
    from relay.cli.live import Finding


@click.command()
@config_file
@click.option("--strict", is_flag=True, help="Take warnings for mistakes.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is found, and the merged result, as JSON.")
@click.option("--running", is_flag=True, help="Ask the running relay whether it serves this file.")
@click.option("--live", is_flag=True, help="Then probe Flagsmith, its keys, the outbox, Heap and this machine.")
@click.option("--send-test", metavar="ENVIRONMENT", help="With --live: send one named event to its Heap app.")
@click.option("--yes", is_flag=True, help="Send it without being asked.")
@click.pass_context
def check(
    ctx: click.Context,
    path: Path,
    *,
    strict: bool,
    as_json: bool,
    running: bool,
    live: bool,
    send_test: str | None,
    yes: bool,
) -> None:
    """Find every mistake in the YAML; show the merged result, secrets masked.

    Exit code 0 where there are none, 2 where there are. Nothing is started, and nobody is asked but by --running (the
    relay at the file's admin port, with mistakes at the one of its last good content; 1 where that does not serve this
    file as it stands) and by --live (one line for each probe instead of the merged result; 1 where one failed).
    """
    if send_test is not None and not live:
        raise click.UsageError("--send-test is a part of --live; add that")
    findings = examine(path, os.environ)
    refused = bool(findings.mistakes or (strict and findings.warnings))
    comparison = compare(findings.source, to_run_on(path, os.environ, findings)) if running else None
    if not as_json:
        _tell(findings, comparison, merged=not live)
    probed = _probe(findings.config, path, send_test, yes=yes) if live and findings.config and not refused else []
    if as_json:
        found = _as_json(findings, comparison) | ({"live": probed} if live else {})
        click.echo(json.dumps(found, default=dataclasses.asdict, indent=2, ensure_ascii=False))
    else:
        click.echo("".join(f"{finding}\n" for finding in probed), nl=False)
    if refused:
        ctx.exit(2)
    differs = comparison is not None and not comparison.same
    ctx.exit(int(differs or any(finding.result == "failed" for finding in probed)))


def _probe(settings: Config, path: Path, send_test: str | None, *, yes: bool) -> "list[Finding]":
    from relay.cli.live import look  # all of the relay, which a plain check does not wait for

    return look(settings, path, send_test=send_test, yes=yes)


def _as_json(findings: Findings, comparison: Comparison | None) -> dict[str, object]:
    asked = {"running": dataclasses.asdict(comparison)} if comparison else {}
    return {
        "mistakes": [dataclasses.asdict(each) for each in findings.mistakes],
        "warnings": [dataclasses.asdict(each) for each in findings.warnings],
        "reminder": findings.reminder,
        "config": findings.config and findings.config.masked(),
        **asked,
    }


def _tell(findings: Findings, comparison: Comparison | None, *, merged: bool) -> None:
    """One line for each mistake, warning, reminder and difference on stderr, the *merged* result on stdout."""
    for mistake in findings.mistakes:
        click.echo(mistake, err=True)
    for warning in findings.warnings:
        click.echo(f"warning: {warning}", err=True)
    if findings.reminder:
        click.echo(f"reminder: {findings.reminder}", err=True)
    for line in comparison.told if comparison else ():
        click.echo(f"running: {line}", err=True)
    if findings.config and merged:
        click.echo(yaml.safe_dump(findings.config.masked(), sort_keys=False, allow_unicode=True), nl=False)
