"""relay schema: the JSON Schema of the YAML."""

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of the YAML, for editors."""
    from relay.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
