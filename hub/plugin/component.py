"""Components: a component is its own configuration.

One pydantic model gives parsing, checking, JSON Schema, forms and reference pages. Python names are
snake_case; YAML and JSON names are the same in camelCase, for everybody's plugins.
"""

from __future__ import annotations

import types
import typing
from functools import cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from hub.model import jsontext
from hub.plugin.fields import FieldRole, NameOf


class Model(BaseModel):
    """The base of every model that users write: unknown names are errors, names are camelCase."""

    model_config = ConfigDict(
        # most of the installed components are used by no flow: what checks them is built when one is
        defer_build=True,
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        coerce_numbers_to_str=True,
        arbitrary_types_allowed=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _spell(cls, data: Any) -> Any:
        """Words of a choice are read in either case; booleans become text as JSON spells them where text is
        wanted (numbers do by themselves)."""
        if not isinstance(data, dict):
            return data
        for name, choices in choice_fields(cls).items():
            value = data.get(name)
            if isinstance(value, str):
                data = {**data, name: choices.get(value.lower(), value)}
            elif isinstance(value, list):
                data = {
                    **data,
                    name: [choices.get(one.lower(), one) if isinstance(one, str) else one for one in value],
                }
        for name in text_fields(cls):
            value = data.get(name)
            if isinstance(value, bool):
                data = {**data, name: "true" if value else "false"}
            elif isinstance(value, dict) and any(isinstance(item, bool) for item in value.values()):
                data = {
                    **data,
                    name: {k: jsontext.dumps(v) if isinstance(v, bool) else v for k, v in value.items()},
                }
            elif isinstance(value, list) and any(isinstance(item, bool) for item in value):
                data = {**data, name: [jsontext.dumps(v) if isinstance(v, bool) else v for v in value]}
        return data


class Component(Model):
    """The base of tasks, triggers and notifiers.

    The first line of a component's docstring is its summary; ``examples`` are YAML texts that tests run.
    """

    type: ClassVar[str]
    """The name users write: ``<plugin>.<name>``, or the plugin's name for its one main component."""
    examples: ClassVar[tuple[str, ...]] = ()


@cache
def field_roles(component: type[BaseModel]) -> dict[str, FieldRole]:
    """The markers of a component's fields, by YAML name; plain fields are absent."""
    roles: dict[str, FieldRole] = {}
    for name, field in component.model_fields.items():
        for item in field.metadata:
            if isinstance(item, FieldRole):
                roles[field.alias or name] = item
    return roles


@cache
def naming_fields(model: type[BaseModel]) -> dict[str, NameOf]:
    """The fields that name things of ``hub.yaml``, by YAML name."""
    return {
        field.alias or name: item
        for name, field in model.model_fields.items()
        for item in field.metadata
        if isinstance(item, NameOf)
    }


@cache
def choice_fields(model: type[BaseModel]) -> dict[str, dict[str, str]]:
    """The fields that take words of a choice (``Literal``), by YAML and Python name: each word by its lower case.

    A field that takes any text too is none of them, and neither is a choice whose words differ in case alone.
    """
    found: dict[str, dict[str, str]] = {}
    for name, field in model.model_fields.items():
        words = [word for word in _words(field.annotation) if isinstance(word, str)]
        by_lower = {word.lower(): word for word in words}
        if words and len(by_lower) == len(words) and str not in _leaves(field.annotation):
            found[name] = by_lower
            found[field.alias or name] = by_lower
    return found


def _words(annotation: Any) -> list[Any]:
    """The words of the choices in an annotation, a list's included."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return list(arguments)
    if origin is typing.Annotated:
        return _words(arguments[0])
    if origin in (typing.Union, types.UnionType, list, tuple):
        return [word for argument in arguments for word in _words(argument)]
    return []


@cache
def text_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """YAML and Python names of the fields that take text, directly or in a mapping or list, and no boolean."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        found = _leaves(field.annotation)
        if str in found and bool not in found and Any not in found:
            names += [name] if field.alias in (None, name) else [name, str(field.alias)]
    return tuple(names)


def _leaves(annotation: Any) -> set[Any]:
    origin = typing.get_origin(annotation)
    if origin is None:
        return {annotation}
    if origin is typing.Annotated:
        return _leaves(typing.get_args(annotation)[0])
    if origin is typing.Literal:
        return set()
    arguments = typing.get_args(annotation)
    if origin is dict:
        arguments = arguments[1:]
    if origin in (typing.Union, types.UnionType, dict, list, tuple):
        return set().union(*(_leaves(argument) for argument in arguments))
    return {annotation}
