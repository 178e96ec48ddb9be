"""Options that several commands share."""

from pathlib import Path

import click

# The commands read the file themselves, so that every mistake about it is told in one way.
config_file = click.option(
    "-c", "--config", "path", metavar="FILE", type=click.Path(path_type=Path), required=True, help="The YAML file."
)
