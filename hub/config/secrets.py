"""Which secrets a flow names, as far as its text tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hub.errors import ExpressionError
from hub.expressions import parse_template
from hub.expressions.nodes import Call, Literal, walk


def secrets_named(data: Any) -> list[str]:
    """The names in every ``secret('NAME')`` of a flow's plain data, sorted; computed names are not known."""
    return sorted({name for text in _texts(data) for name in _in_text(text)})


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value)


def _in_text(text: str) -> Iterator[str]:
    if "secret" not in text:
        return
    try:
        tree = parse_template(text)
    except ExpressionError:
        return  # a script's body may hold braces that are not ours; other mistakes are found by the check
    for part in tree.parts:
        for node in walk(part):
            if isinstance(node, Call) and node.name == "secret" and node.arguments:
                name = node.arguments[0]
                if isinstance(name, Literal) and isinstance(name.value, str):
                    yield name.value
