"""What every section of the YAML has in common."""

import json
from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """One mapping of the YAML: frozen, no unknown keys; without a value (all commented out) it is all defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_all_defaults(cls, value: Any) -> Any:
        return {} if value is None else value

    def differing(self, other: Self, path: str) -> Iterator[str]:
        """The settings below *path* that have another value in *other*, "outbox.dead_letters.max_age"."""
        for name in type(self).model_fields:
            own, others = getattr(self, name), getattr(other, name)
            if isinstance(own, Section):
                yield from own.differing(others, f"{path}.{name}")
            elif own != others:
                yield f"{path}.{name}"

    @classmethod
    def default_shown(cls, name: str) -> Any:
        """The default of the setting *name* as it would stand in the YAML."""
        return cls.model_construct().model_dump(mode="json", include={name})[name]


def in_yaml(value: Any) -> str:
    """*value* in one line of YAML, without quotes where none are needed."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {in_yaml(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(in_yaml(each) for each in value) + "]"
        case str() if value.replace("_", "").isalnum():
            return value
        case _:
            return json.dumps(value)
