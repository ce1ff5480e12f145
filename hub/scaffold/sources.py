"""Change a flow's text in place: its name, and the line that tells editors its schema."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from hub.config import yaml
from hub.config.yaml import Node
from hub.errors import InvalidInput
from hub.model.ids import FlowKey

SCHEMA_LINE = "# yaml-language-server: $schema="


def renamed(source: str, names: Mapping[FlowKey, FlowKey]) -> str:
    """A flow's source under its new name; every other character stays.

    ``names`` has the new name of this flow and of the flows it belongs to, by their old ones: where one of
    them is named as ``namespace/id``, or a ``namespace:`` is one of theirs, the text follows.
    """
    source = source.removeprefix("\ufeff")
    document = yaml.parse(source)
    root = document.root
    old = FlowKey(_text(root, "namespace"), _text(root, "id"))
    new = names[old]
    edits = {
        (root.value["id"].start, root.value["id"].end): new.id,
        (root.value["namespace"].start, root.value["namespace"].end): new.namespace,
    }
    spelled = {str(before): str(after) for before, after in names.items()}
    namespaces = {before.namespace: after.namespace for before, after in names.items()}
    for key, node in _scalars(root):
        if node.value in spelled:
            edits[node.start, node.end] = spelled[node.value]
        elif key == "namespace" and node.value in namespaces:
            edits[node.start, node.end] = namespaces[node.value]
    for (start, end), text in sorted(edits.items(), reverse=True):
        source = source[:start] + _plain(text) + source[end:]
    found = yaml.parse(source).root
    if FlowKey(_text(found, "namespace"), _text(found, "id")) != new:
        raise InvalidInput(f"{old} cannot be renamed: its id or namespace is not plain text")
    return source


def with_schema_line(source: str, path: Path, schema: Path) -> str:
    """A flow's source that begins by naming its schema, relative to where the flow will be."""
    if source.startswith(SCHEMA_LINE):
        source = source.partition("\n")[2]
    relative = os.path.relpath(schema.resolve(), path.parent.resolve())
    return f"{SCHEMA_LINE}{Path(relative).as_posix()}\n{source}"


def _text(root: Node, key: str) -> str:
    node = root.get(key)
    return str(node.value) if node is not None and node.kind == "scalar" else ""


def _scalars(node: Node, key: str | None = None) -> Iterator[tuple[str | None, Node]]:
    """Every text with the key it stands under."""
    if node.kind == "mapping":
        for name, child in node.value.items():
            yield from _scalars(child, name)
    elif node.kind == "list":
        for child in node.value:
            yield from _scalars(child, key)
    elif isinstance(node.value, str):
        yield key, node


def _plain(text: str) -> str:
    """A name as YAML reads it back as text: ``true`` and ``12`` need quotes."""
    value = yaml.parse(text).root.value
    return text if isinstance(value, str) else f'"{text}"'
