"""The JSON Schema of the YAML, for editors; what only `relay check` can see, it lets through."""

from typing import Any, Literal

from pydantic import Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from relay.config.mistakes import section_of
from relay.config.models import Config
from relay.config.rules import EnvironmentEntry, Rules
from relay.config.section import Section
from relay.config.values import REFERENCE


class Written(Config):
    """The configuration of the relay from Flagsmith to Heap, as it is written."""

    defaults: Rules = Field(Rules(), description="Rules of every environment that says nothing else.")
    environments: tuple[EnvironmentEntry, ...] = Field(  # type: ignore[assignment]  # for editors only
        (), description="Flagsmith environments and their Heap apps."
    )


class _Generator(GenerateJsonSchema):
    """Without titles, which would repeat the keys; and with references where a word of a closed set belongs."""

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return {"anyOf": [super().literal_schema(schema), {"type": "string", "pattern": REFERENCE}]}

    def field_title_should_be_set(self, schema: Any) -> Literal[False]:  # noqa: ARG002 - pydantic's signature
        return False


def json_schema() -> dict[str, Any]:
    """The schema as it goes into a file, draft 2020-12."""
    schema = Written.model_json_schema(schema_generator=_Generator)
    _finish(schema, Written)
    for model in sections_below(Written):
        _finish(schema["$defs"][model.__name__], model)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def sections_below(model: type[Section]) -> set[type[Section]]:
    """The sections that stand below *model*, at any depth."""
    below = {inner for field in model.model_fields.values() if (inner := section_of(field))}
    return below.union(*map(sections_below, below))


def _finish(schema: dict[str, Any], model: type[Section]) -> None:
    """Show defaults as they would be written ("4MiB"), and drop the class's name."""
    del schema["title"]
    for name, setting in schema["properties"].items():
        if "default" in setting:
            setting["default"] = model.default_shown(name)
