"""YAML text as a tree of scalars, mappings and lists that know their lines.

PyYAML reads the syntax. What a scalar means is not guessed here, as YAML 1.1 does (`no` a boolean, `1:30` a number
of base 60, `1e3` a text): it stays text, and the setting it is for reads it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Union

import yaml

# Aliases can make a small file expand without end; a thousand environments need a fifth of this.
MAX_NODES = 100_000
# The settings go six levels deep.
MAX_DEPTH = 32

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
SURROGATE = re.compile("[\ud800-\udfff]")
# What PyYAML says, and what to do about it. Its own words may quote the file, and with it a secret.
ADVICE = {
    "mapping values are not allowed": "there is a second colon on this line, or a wrong indent; "
    "write text that contains a colon and a space in quotes",
    "could not find expected ':'": 'this line has no colon after its key; write "key: value"',
    "cannot start any token": "a tab, or one of @ ` %, begins a value; indent with spaces, and put such text in quotes",
    "expected <block end>": "this line is indented unlike the lines above it; write it at the same column",
    "expected ',' or": 'brackets are not closed here, or a reference in them lacks quotes; write ["${NAME}"]',
    "while parsing a flow": 'brackets are not closed here, or a reference in them lacks quotes; write ["${NAME}"]',
    "unexpected end of stream": "a quote is not closed; write the same quote at the end of the text",
    "escape": "an unknown escape in double quotes; write \\\\ for a backslash, or use single quotes",
    "undefined tag handle": "a value begins with an exclamation mark; write it in quotes",
}


class Scalar(str):
    """The text of a scalar, with what is known about where it came from."""

    # Written without quotes: a plain 123 is a number to every other reader of the file.
    plain: bool = False
    # "${NAME}" where the text, or part of it, came from outside of the file; such text is never shown.
    origin: str = ""

    @classmethod
    def of(cls, text: str, *, plain: bool = False, origin: str = "") -> "Scalar":
        scalar = cls(text)
        scalar.plain, scalar.origin = plain, origin
        return scalar


@dataclass(frozen=True, slots=True)
class Node:
    """One value of the file, and the line where it (or its key) is written."""

    value: Union[Scalar, dict[str, "Node"], list["Node"], None]  # noqa: UP007 - a name in quotes takes no |
    line: int
    # A section that only `defaults` has, as seen from an environment: its line is elsewhere.
    inherited: bool = False

    def entries(self) -> dict[str, "Node"]:
        """What it holds by key; nothing where it is no mapping."""
        return self.value if isinstance(self.value, dict) else {}

    def items(self) -> list["Node"]:
        """What it holds in order; nothing where it is no list."""
        return self.value if isinstance(self.value, list) else []


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong in the file: where, and what to write instead."""

    line: int
    # "environments[0].heap.share"; empty for the file as a whole.
    path: str
    text: str


class Unreadable(Exception):
    """The text is no YAML that can be gone on with."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.flaw = Flaw(line, "", text)


def parse(text: str) -> tuple[Node, list[Flaw]]:
    """Read one YAML document. Raises Unreadable; anything that can be gone on from is a flaw in the list."""
    try:
        return _Composer(text).document()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, "a control character stands here; delete it") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Unreadable(mark.line + 1 if mark else 1, _advice(error)) from error
    except (ValueError, OverflowError) as error:  # PyYAML's chr() of an escape that is no character
        raise Unreadable(1, "an escape in double quotes names no character; write the character itself") from error


def _advice(error: yaml.MarkedYAMLError) -> str:
    said = f"{error.problem or ''} {error.context or ''}"
    known = (advice for words, advice in ADVICE.items() if words in said)
    return f"this is not YAML: {next(known, 'something is out of place here; compare with config.example.yaml')}"


class _Composer:
    """Builds the tree from PyYAML's events, and stops before it grows too deep or too large."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self._anchors: dict[str, Node] = {}
        self._flaws: list[Flaw] = []
        self._nodes = 0

    def document(self) -> tuple[Node, list[Flaw]]:
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return Node(None, 1), []
        root = self._node(next(self._events), "", 0)
        next(self._events)  # the document ends
        following = next(self._events)
        if not isinstance(following, yaml.StreamEndEvent):
            raise Unreadable(_line(following), 'a second document begins here; delete the line "---" and what follows')
        return root, self._flaws

    def _node(self, event: yaml.Event, path: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise Unreadable(_line(event), f"values are nested more than {MAX_DEPTH} deep here; nothing goes that deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if getattr(event, "tag", None) is not None:
            self._flaw(event, path, "has a tag; write the value in quotes instead, without the exclamation mark")
        node = self._content(event, path, depth)
        if anchor := getattr(event, "anchor", None):
            self._anchors[anchor] = node
        return node

    def _content(self, event: yaml.Event, path: str, depth: int) -> Node:
        self._count(event, 1)
        match event:
            case yaml.ScalarEvent():
                return Node(self._scalar(event, path), _line(event))
            case yaml.SequenceStartEvent():
                return self._list(event, path, depth)
            case _:
                return self._mapping(event, path, depth)

    def _scalar(self, event: yaml.ScalarEvent, path: str) -> Scalar | None:
        plain = event.style is None
        if plain and event.value in NULLS:
            return None
        if SURROGATE.search(event.value):
            self._flaw(event, path, "has an escape that is half a character; write the character itself")
            return Scalar("")
        return Scalar.of(event.value, plain=plain)

    def _list(self, start: yaml.Event, path: str, depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return Node(items, _line(start))

    def _mapping(self, start: yaml.Event, path: str, depth: int) -> Node:
        entries: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, path, depth)
            inner = join(path, key)
            value = replace(self._node(next(self._events), inner, depth + 1), line=_line(event))
            if key == "<<":
                merged = self._merge(event, merged, value, depth)
            elif key in entries:
                self._flaw(event, inner, f"is written twice, first in line {entries[key].line}; delete one of them")
            else:
                entries[key] = value
        return Node({**merged, **entries}, _line(start))

    def _key(self, event: yaml.Event, path: str, depth: int) -> str:
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        self._flaw(event, path, "has a list, a mapping or an alias as a key; write a plain word")
        self._node(event, path, depth + 1)
        return "?"

    def _alias(self, event: yaml.AliasEvent, depth: int) -> Node:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            raise Unreadable(
                _line(event),
                "an alias stands here without an anchor of that name before it; "
                "define the anchor first, or write text that begins with an asterisk in quotes",
            )
        self._expand(event, node, depth)
        return replace(node, line=_line(event))

    def _merge(self, event: yaml.Event, merged: dict[str, Node], source: Node, depth: int) -> dict[str, Node]:
        """Take over the keys of `<<`; of several sources the first one has precedence, as YAML says."""
        sources = source.value if isinstance(source.value, list) else [source]
        for each in sources:
            if not isinstance(each.value, dict):
                raise Unreadable(_line(event), "a merge key takes a mapping; write <<: and an alias of a mapping")
            self._expand(event, each, depth)
            merged = {**each.value, **merged}
        return merged

    def _expand(self, event: yaml.Event, node: Node, depth: int) -> None:
        """Count what stands once in the file, and is used once more, as if it were written twice."""
        self._count(event, 1)
        if depth > MAX_DEPTH:
            raise Unreadable(
                _line(event), f"an alias here nests values more than {MAX_DEPTH} deep; nothing goes that deep"
            )
        for inner in (*node.entries().values(), *node.items()):
            self._expand(event, inner, depth + 1)

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise Unreadable(_line(event), f"more than {MAX_NODES:,} values, aliases expanded; use fewer aliases")

    def _flaw(self, event: yaml.Event, path: str, text: str) -> None:
        self._flaws.append(Flaw(_line(event), path, text))


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def join(path: str, key: str) -> str:
    """The path of *key* below *path*; a key that is no plain word is shown escaped and shortened."""
    shown = key if re.fullmatch(r"[\w.$-]{1,60}", key) else ascii(key[:40])
    return f"{path}.{shown}" if path else shown
