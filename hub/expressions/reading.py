"""What an expression reads: its paths and their values, to tell people why it came out as it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from hub.expressions import nodes
from hub.expressions.nodes import Node
from hub.expressions.parse import parse_template

_MISSING = object()


def values_read(source: str, scope: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The plain paths of a template, as written, with their values over ``scope``; missing ones are left out.

    Raises ``ExpressionError`` where the template cannot be parsed.
    """
    found: dict[str, Any] = {}
    for node in _paths(parse_template(source)):
        value = _value(node, scope)
        if value is not _MISSING:
            found.setdefault(source[node.start : node.end], value)
    return list(found.items())


def _paths(thing: Any) -> Iterator[Node]:
    """The longest plain paths below a node, in order."""
    if isinstance(thing, nodes.Member) and _is_plain(thing):
        yield thing
    elif isinstance(thing, tuple):
        for part in thing:
            yield from _paths(part)
    elif hasattr(thing, "__dataclass_fields__"):
        for field in fields(thing):
            yield from _paths(getattr(thing, field.name))


def _is_plain(node: Node) -> bool:
    while isinstance(node, nodes.Member):
        if not isinstance(node.key, nodes.Literal):
            return False
        node = node.of
    return isinstance(node, nodes.Name)


def _value(node: Node, scope: Mapping[str, Any]) -> Any:
    if isinstance(node, nodes.Name):
        return scope.get(node.name, _MISSING)
    if not isinstance(node, nodes.Member) or not isinstance(node.key, nodes.Literal):
        return _MISSING
    of, key = _value(node.of, scope), node.key.value
    if isinstance(of, Mapping):
        return of.get(key, _MISSING)
    if isinstance(of, list) and isinstance(key, int) and -len(of) <= key < len(of):
        return of[key]
    return _MISSING
