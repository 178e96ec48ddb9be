"""Patterns of the YAML: names with * and ?, and regular expressions of identities that are never sent.

Neither takes more than linear time, whatever the pattern and whatever the name: names come from anybody.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import SchemaError, SchemaValidator, core_schema

from relay.config.values import Text, fits, read_text, refuse

EMAIL = "email"
# An address of a host with a dot in it, anywhere in the identity, percent-encoded too.
ADDRESS = r"[^\s@](?:@|%40)[^\s@.]+\.[^\s@.]"
# Halves of surrogate pairs: JSON can spell them, and they belong to no text that an expression is matched against.
HALVES = re.compile("[\ud800-\udfff]")

Glob = Annotated[Text, fits(bool, 'is empty, and no name is; write "*" for all names, or delete it')]

# Names with * and ?.


def compile_globs(include: Sequence[str], exclude: Sequence[str]) -> re.Pattern[str] | None:
    """What the whole of a name has to match to be of *include* and not of *exclude*; None where every name does."""
    if "*" in include and not exclude:
        return None
    meant, left_out = ("|".join(map(_expression, patterns)) for patterns in (include, exclude))
    unless = rf"(?!(?:{left_out})\Z)" if exclude else ""
    return re.compile(f"{unless}(?:{meant})", re.DOTALL)


def covers(wide: str, narrow: str) -> bool:
    """Whether *wide* certainly matches each name that *narrow* does."""
    return re.fullmatch(_expression(wide, any_one="[^*]"), narrow) is not None


def _expression(glob: str, any_one: str = ".") -> str:
    """Of each piece between two asterisks the first place that fits is the best one, so no other is ever tried."""
    first, *others = ("".join(any_one if each == "?" else re.escape(each) for each in part) for part in glob.split("*"))
    if not others:
        return first
    *inner, last = others
    return first + "".join(f"(?>.*?{piece})" for piece in inner if piece) + f".*{last}"


# Regular expressions.

BLOCK_ADVICE = "write email, or an expression like '^test-' (look-arounds and back-references are not known)"


def read_block(value: Any) -> str:
    """The word email, or a regular expression that can be searched for in linear time."""
    text = read_text(value, BLOCK_ADVICE) or refuse(f"is empty, and would block every identity; {BLOCK_ADVICE}")
    try:
        _compile(text)
    except SchemaError as error:
        reason = str(error).rpartition("error: ")[2].rpartition("SchemaError: ")[2].strip().rstrip(".").lower()
        return refuse(f"is no regular expression ({reason}); {BLOCK_ADVICE}")
    return text


Block = Annotated[str, BeforeValidator(read_block), WithJsonSchema({"type": "string", "minLength": 1})]


def compile_blocks(blocks: Sequence[str]) -> Callable[[str], bool] | None:
    """Whether any of *blocks* is found in an identity; None where there are none."""
    if not blocks:
        return None
    searches = [_compile(ADDRESS if block == EMAIL else block).isinstance_python for block in blocks]
    return lambda identity: any(search(HALVES.sub("\ufffd", identity)) for search in searches)


def _compile(expression: str) -> SchemaValidator:
    """A search for *expression* anywhere in a text. Raises SchemaError.

    Python's own engine can take for ever over one identity, and holds up all flags meanwhile. Pydantic's takes time in
    proportion to the text (docs.pydantic.dev, ConfigDict.regex_engine; docs.rs/regex).
    """
    return SchemaValidator(core_schema.str_schema(pattern=expression, regex_engine="rust-regex"))
