"""Mistakes in an operator's words: where it is, what is wrong, what to write instead."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from relay.config.document import Flaw, Node, Scalar, join
from relay.config.rules import EnvironmentConfig
from relay.config.section import Section, in_yaml

SERVER_KEY = re.compile(r"\bser\.[A-Za-z0-9_-]{6,}")

# Characters of a value that a line repeats, and of one that should be digits, and may be a key.
SHOWN, ABRIDGED = 60, 2

PLACE = re.compile(r"^(defaults|environments\[\d+\])\.")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One line for the operator; a warning has the same form."""

    file: str
    # None where the file could not be read at all.
    line: int | None
    # "environments[0].heap.share"; empty where it is about the file.
    path: str
    text: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, self.path, self.text) if part)


def told_once(file: str, flaws: Iterable[Flaw]) -> tuple[Mistake, ...]:
    """In the file's order. One line says one thing of a setting: what stands in `defaults`, is shared by an alias,
    or is a reference that leads nowhere, is found more than once.
    """
    told: dict[tuple[int, str], Flaw] = {}
    for flaw in flaws:
        told.setdefault((flaw.line, PLACE.sub("", flaw.path)), flaw)
    return tuple(mistake_in(file, flaw) for flaw in sorted(told.values(), key=lambda flaw: flaw.line))


def mistake_in(file: str, flaw: Flaw) -> Mistake:
    """The last lock: not even as a key does a Flagsmith secret get into a line."""
    return Mistake(file, flaw.line, SERVER_KEY.sub("ser.***", flaw.path), SERVER_KEY.sub("ser.***", flaw.text))


def flaws_of(error: ValidationError, root: Node, model: type[Section], path: str = "") -> Iterator[Flaw]:
    """What pydantic found in *root*, which stands at *path* of the file, told with lines and in our words."""
    for details in error.errors(include_url=False, include_input=False):
        place = _place(details["loc"], root, model, path)
        yield Flaw(place.line, place.path, _text(details, place))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a mistake is: in the file, and in the models."""

    line: int
    path: str
    # What is written there; None where nothing is.
    value: object
    field: FieldInfo | None
    # The section it is about, or stands in.
    model: type[Section]


def _place(loc: tuple[int | str, ...], root: Node, model: type[Section], path: str) -> _Place:
    """Follow *loc* as far as the file goes; what is missing is missed where its section begins."""
    node, line, field = root, root.line, None
    for step in loc:
        inner = _inner(node, step)
        if inner is None and not isinstance(node.value, dict | None):
            break  # a step of pydantic's own: which member of a union it was
        if isinstance(step, str):
            field = model.model_fields.get(step)
        model = section_of(field) or model
        path = join(path, step) if isinstance(step, str) else f"{path}[{step}]"
        if inner is None:
            return _Place(line, path, None, field, model)
        node, line = inner, line if inner.inherited else inner.line
    return _Place(node.line, path, node.value, field, model)


def _inner(node: Node, step: str | int) -> Node | None:
    if isinstance(step, str):
        return node.entries().get(step)
    return node.items()[step] if step < len(node.items()) else None


def section_of(field: FieldInfo | None) -> type[Section] | None:
    """The section that *field* holds, alone or in a tuple."""
    annotations = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((each for each in annotations if isinstance(each, type) and issubclass(each, Section)), None)


def _text(details: ErrorDetails, place: _Place) -> str:
    name = str(details["loc"][-1]) if details["loc"] else ""
    shown = _shown(place.value, details["type"])
    context: Mapping[str, Any] = details.get("ctx", {})
    match details["type"]:
        case "mistake" | "secret_mistake" | "abridged_mistake":
            return f"{shown} {context['text']}".strip()
        case "missing":
            return f"is missing; write {name}: {_example(place.field)}"
        case "extra_forbidden":
            return f"is no setting here; {_instead(name, place.model)}"
        case "literal_error":
            flaw = f"{shown} is not one of its values" if shown else _nothing_plain(place.value)
            return f"{flaw}; write {context['expected'].replace(chr(39), '')}"
        case "tuple_type" | "list_type" if section_of(place.field):
            return "is not a list; begin each of its entries with a dash, as in config.example.yaml"
        case "tuple_type" | "list_type":
            return "is not a list; write its values in brackets, [a, b], or each on a line of its own after a dash"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"is not a section; write its settings below it, indented{_names(place.model)}"
        case _:
            return f"cannot be used ({details['msg'].lower()}); compare with config.example.yaml"


def _nothing_plain(value: object) -> str:
    return "is empty" if value is None else "is not one plain value"


def _shown(value: object, kind: str) -> str:
    """A literal of the file may be repeated, unless it is, or may hold, a secret; text from outside never is."""
    if not isinstance(value, Scalar):
        return ""
    if value.origin:
        return f"the value of {value.origin}"
    if kind == "secret_mistake" or "@" in value or SERVER_KEY.search(value):
        return "the value"
    most = ABRIDGED if kind == "abridged_mistake" and not value.isdecimal() else SHOWN
    text = value if len(value) <= most else f"{value[:most]}…"
    return f"'{text}'" if text.isprintable() else ascii(text)


def _example(field: FieldInfo | None) -> str:
    return in_yaml(field.examples[0]) if field and field.examples else "…"


def _instead(name: str, model: type[Section]) -> str:
    """The nearest setting by name; or the section the setting belongs to; or all there are."""
    if close := difflib.get_close_matches(name, model.model_fields, n=1, cutoff=0.7):
        return f"write {close[0]} instead"
    for section, field in model.model_fields.items():
        if (inner := section_of(field)) and name in inner.model_fields:
            return f"write it below {section}:"
    if name in EnvironmentConfig.model_fields:
        return "write it in an environment"
    return f"delete it{_names(model)}"


def _names(model: type[Section]) -> str:
    return f" (there are: {', '.join(model.model_fields)})"
