"""Write the relay's own schema into the chart's: Helm then refuses a typo in `config` before anything is deployed."""

import json
from pathlib import Path

from relay.config.schema import json_schema

PATH = Path(__file__).parent.parent / "helm/flagsmith-heap-relay/values.schema.json"


def embedded(chart: dict, relay: dict) -> dict:
    """*chart* with *relay* as the schema of its `config`, definitions beside its own."""
    properties = {name: value for name, value in relay.items() if name not in {"$schema", "$defs", "title"}}
    return {**chart, "$defs": {**relay["$defs"], "config": properties}}


if __name__ == "__main__":
    PATH.write_text(json.dumps(embedded(json.loads(PATH.read_text()), json_schema()), indent=2) + "\n")
