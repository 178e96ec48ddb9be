"""relay check: every mistake in the YAML at once, else the merged result."""

import dataclasses
import json
import os
from pathlib import Path

import click
import yaml

from relay.cli.options import config_file
from relay.cli.running import Comparison, compare
from relay.config import Findings, examine


@click.command()
@config_file
@click.option("--strict", is_flag=True, help="Take warnings for mistakes.")
@click.option("--running", is_flag=True, help="Ask the running relay whether it serves this file.")
@click.option("--json", "as_json", is_flag=True, help="Print mistakes, warnings and the merged result as JSON.")
@click.pass_context
def check(ctx: click.Context, path: Path, *, strict: bool, running: bool, as_json: bool) -> None:
    """Find every mistake in the YAML; show the merged result, secrets masked.

    Exit code 0 where there are none, 2 where there are. Nothing is started and nobody is asked, but with --running
    the relay at the file's admin port: 1 where that does not serve this file as it stands.
    """
    findings = examine(path, os.environ)
    comparison = compare(findings.config, findings.source) if running and findings.config else None
    if as_json:
        click.echo(json.dumps(_as_json(findings, comparison), indent=2, ensure_ascii=False))
    else:
        _tell(findings)
        for line in comparison.told if comparison else ():
            click.echo(f"running: {line}", err=True)
    if findings.mistakes or (strict and findings.warnings):
        ctx.exit(2)
    if comparison and not comparison.same:
        ctx.exit(1)


def _as_json(findings: Findings, comparison: Comparison | None) -> dict[str, object]:
    asked = {"running": dataclasses.asdict(comparison)} if comparison else {}
    return {
        "mistakes": [dataclasses.asdict(each) for each in findings.mistakes],
        "warnings": [dataclasses.asdict(each) for each in findings.warnings],
        "reminder": findings.reminder,
        "config": findings.config and findings.config.masked(),
        **asked,
    }


def _tell(findings: Findings) -> None:
    """One line for each mistake, warning and reminder on stderr, the merged result on stdout."""
    for mistake in findings.mistakes:
        click.echo(mistake, err=True)
    for warning in findings.warnings:
        click.echo(f"warning: {warning}", err=True)
    if findings.reminder:
        click.echo(f"reminder: {findings.reminder}", err=True)
    if findings.config:
        click.echo(yaml.safe_dump(findings.config.masked(), sort_keys=False, allow_unicode=True), nl=False)
