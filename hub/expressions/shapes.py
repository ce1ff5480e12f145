"""What is known about a value before it exists: enough to find a wrong name when a flow is saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """Anything may be in it."""


@dataclass(frozen=True, slots=True)
class ScalarShape(Shape):
    """Text, a number, a boolean or null; it has no members. ``noun`` names it in messages."""

    noun: str


@dataclass(frozen=True, slots=True)
class ListShape(Shape):
    """A list of ``item``."""

    item: Shape


@dataclass(frozen=True, slots=True)
class ObjectShape(Shape):
    """A mapping whose members are known.

    ``noun`` names a member in messages ("input"). ``reasons`` tell why a name that exists elsewhere is not
    here. An ``is_open`` one may hold more.
    """

    members: Mapping[str, Shape] = field(default_factory=dict)
    noun: str = "member"
    is_open: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict)
    hint: str | None = None
    """What to do about an unknown name, where that is not to name a near one."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Names that are declared and never there, with the reason: fine under ``??``, ``default`` and ``is defined``."""
    sometimes: str | None = None
    """When all of it is there, where that is not always."""


ANY = Shape()
TEXT = ScalarShape("text")
NUMBER = ScalarShape("a number")
BOOLEAN = ScalarShape("a boolean")
NULL = ScalarShape("null")


def merge(one: Shape, other: Shape) -> Shape:
    """What is known where a value may have either shape."""
    if one == other:
        return one
    if isinstance(one, ObjectShape) and isinstance(other, ObjectShape):
        names = {**one.members, **other.members}
        members = {
            name: merge(one.members.get(name, shape), other.members.get(name, shape))
            for name, shape in names.items()
        }
        return ObjectShape(members, one.noun, one.is_open or other.is_open)
    if isinstance(one, ListShape) and isinstance(other, ListShape):
        return ListShape(merge(one.item, other.item))
    return ANY


def shape_of_json_schema(schema: Mapping[str, Any], noun: str = "field") -> Shape:
    """The shape a JSON Schema describes; what it leaves open is open."""
    return _of_schema(schema, schema.get("$defs", {}), noun, 0)


def _of_schema(schema: Mapping[str, Any], definitions: Mapping[str, Any], noun: str, depth: int) -> Shape:
    if depth > 20:
        return ANY
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        return _of_schema(definitions.get(reference[8:], {}), definitions, noun, depth + 1)
    choices = schema.get("anyOf")
    if choices:
        kinds = [choice for choice in choices if choice.get("type") != "null"]
        return _of_schema(kinds[0], definitions, noun, depth + 1) if len(kinds) == 1 else ANY
    match schema.get("type"):
        case "object":
            return _of_object(schema, definitions, noun, depth)
        case "array":
            items = schema.get("items")
            return ListShape(
                _of_schema(items, definitions, noun, depth + 1) if isinstance(items, dict) else ANY
            )
        case "string":
            return TEXT
        case "integer" | "number":
            return NUMBER
        case "boolean":
            return BOOLEAN
    return ANY


def _of_object(schema: Mapping[str, Any], definitions: Mapping[str, Any], noun: str, depth: int) -> Shape:
    properties = schema.get("properties")
    if properties is None:
        extra = schema.get("additionalProperties")
        return ANY if not isinstance(extra, dict) else ObjectShape({}, noun, is_open=True)
    return ObjectShape(
        {name: _of_schema(value, definitions, noun, depth + 1) for name, value in properties.items()},
        noun,
        is_open=bool(schema.get("additionalProperties")),
    )
