"""The tree of a parsed template; every node keeps the characters it was made of.

Nodes are never changed after they are made. They are not frozen: frozen ones take three times as long to
make, and a flow has thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Node:
    """``start`` and ``end`` are offsets into the template."""

    start: int
    end: int
    depth: int = field(init=False, default=1)
    """How many nodes are below each other here, for the parser's bound."""


@dataclass(slots=True, eq=False)
class Literal(Node):
    value: Any


@dataclass(slots=True, eq=False)
class Name(Node):
    name: str


@dataclass(slots=True, eq=False)
class Member(Node):
    """``of.key`` or ``of[key]``."""

    of: Node
    key: Node


@dataclass(slots=True, eq=False)
class SliceOf(Node):
    of: Node
    first: Node | None
    last: Node | None
    step: Node | None


@dataclass(slots=True, eq=False)
class ListOf(Node):
    items: tuple[Node, ...]


@dataclass(slots=True, eq=False)
class MappingOf(Node):
    entries: tuple[tuple[Node, Node], ...]


@dataclass(slots=True, eq=False)
class Unary(Node):
    """``-``, ``+`` or ``not``."""

    operator: str
    operand: Node


@dataclass(slots=True, eq=False)
class Binary(Node):
    """Arithmetic and ``~``."""

    operator: str
    left: Node
    right: Node


@dataclass(slots=True, eq=False)
class Logic(Node):
    """``and`` or ``or``; gives the deciding operand, as Jinja2 does."""

    operator: str
    left: Node
    right: Node


@dataclass(slots=True, eq=False)
class Compare(Node):
    """A chain of comparisons: ``first op operand op operand``."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(slots=True, eq=False)
class Coalesce(Node):
    """``left ?? right``."""

    left: Node
    right: Node


@dataclass(slots=True, eq=False)
class Condition(Node):
    """``a ? b : c`` or ``b if a else c``; without an ``else`` it is missing where it does not hold."""

    test: Node
    then: Node
    otherwise: Node | None


@dataclass(slots=True, eq=False)
class Call(Node):
    """A function call; ``name_end`` bounds the name."""

    name: str
    name_end: int
    arguments: tuple[Node, ...]
    named: tuple[tuple[str, Node], ...]


@dataclass(slots=True, eq=False)
class Filter(Node):
    """``of | name(arguments)``."""

    of: Node
    name: str
    name_start: int
    arguments: tuple[Node, ...]
    named: tuple[tuple[str, Node], ...]


@dataclass(slots=True, eq=False)
class Test(Node):
    """``of is name(argument)``."""

    of: Node
    name: str
    name_start: int
    arguments: tuple[Node, ...]
    negated: bool


@dataclass(slots=True, eq=False)
class Text(Node):
    text: str


@dataclass(slots=True, eq=False)
class Output(Node):
    value: Node


@dataclass(slots=True, eq=False)
class If(Node):
    branches: tuple[tuple[Node, tuple[Node, ...]], ...]
    otherwise: tuple[Node, ...]


@dataclass(slots=True, eq=False)
class For(Node):
    targets: tuple[str, ...]
    values: Node
    condition: Node | None
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TemplateTree:
    """A parsed template."""

    source: str
    parts: tuple[Node, ...]

    @property
    def single(self) -> Node | None:
        """The expression, where the template is exactly one (a closing line break aside)."""
        parts = self.parts
        if len(parts) == 2 and isinstance(parts[1], Text) and not parts[1].text.strip("\r\n"):
            parts = parts[:1]
        if len(parts) == 1 and isinstance(parts[0], Output):
            return parts[0].value
        return None


def children(node: Node) -> Iterator[Node]:
    """The expressions directly below an expression."""
    for name in _FIELDS.get(type(node), ()):
        value = getattr(node, name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from _nodes_in(value)


def _nodes_in(values: tuple[Any, ...]) -> Iterator[Node]:
    for value in values:
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from _nodes_in(value)


_FIELDS: dict[type[Node], tuple[str, ...]] = {
    Member: ("of", "key"),
    SliceOf: ("of", "first", "last", "step"),
    ListOf: ("items",),
    MappingOf: ("entries",),
    Unary: ("operand",),
    Binary: ("left", "right"),
    Logic: ("left", "right"),
    Compare: ("first", "rest"),
    Coalesce: ("left", "right"),
    Condition: ("test", "then", "otherwise"),
    Call: ("arguments", "named"),
    Filter: ("of", "arguments", "named"),
    Test: ("of", "arguments"),
}


def walk(part: Node) -> Iterator[Node]:
    """A part of a template and everything below it, statements' bodies included."""
    todo = [part]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, Output):
            todo.append(node.value)
        elif isinstance(node, If):
            for test, body in node.branches:
                todo += [test, *body]
            todo += node.otherwise
        elif isinstance(node, For):
            todo += [node.values, *node.body, *node.otherwise]
            todo += [node.condition] if node.condition is not None else []
        else:
            todo += children(node)


def names_in(parts: Iterable[Node]) -> Iterator[str]:
    """The names that parts of a template read or call."""
    for part in parts:
        for node in walk(part):
            if isinstance(node, Name | Call):
                yield node.name


def constant_path(node: Node) -> tuple[Any, ...] | None:
    """``("trigger", "body", 0)`` for ``trigger.body[0]``; None where a key is not a literal."""
    keys: list[Any] = []
    while isinstance(node, Member):
        if not isinstance(node.key, Literal) or isinstance(node.key.value, bool | float | type(None)):
            return None
        keys.append(node.key.value)
        node = node.of
    if not isinstance(node, Name):
        return None
    return (node.name, *reversed(keys))
