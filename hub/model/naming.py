"""One spelling for everybody: snake_case in Python, camelCase in YAML, JSON and expressions.

The hub's own models say so themselves. Plugins' ``Output`` and ``Data`` models, and their settings, are often
plain pydantic models: here their names are spelled as users write them, an explicit alias as it stands.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

_LISTS = (list, tuple, Sequence)
_MAPPINGS = (dict, Mapping)


def spelled(value: Any, model: type[BaseModel] | None = None) -> Any:
    """A model as plain data, or plain data that ``model`` describes, with the names that users write."""
    if isinstance(value, BaseModel):
        return renamed(value, value.model_dump(by_alias=True))
    if model is not None and isinstance(value, dict | Mapping) and (fields := _fields(model)):
        return {fields.get(name, name): _inside(item, model, name) for name, item in value.items()}
    return value


def renamed(value: Any, dumped: Any) -> Any:
    """What a model's own dump gave, with the names that users write; ``dumped`` is by alias."""
    if isinstance(value, BaseModel) and isinstance(dumped, dict):
        names = _dumped_names(type(value))
        return {
            names[key][1] if key in names else key: (
                renamed(getattr(value, names[key][0], None), item) if key in names else item
            )
            for key, item in dumped.items()
        }
    if isinstance(value, list | tuple) and isinstance(dumped, list | tuple) and len(value) == len(dumped):
        return [renamed(one, item) for one, item in zip(value, dumped, strict=True)]
    if isinstance(value, Mapping) and isinstance(dumped, dict) and value.keys() == dumped.keys():
        return {key: renamed(value[key], item) for key, item in dumped.items()}
    return dumped


@cache
def _dumped_names(model: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Attribute and public name of each member, by the key of the model's own dump."""
    found = {
        field.serialization_alias or name: (name, field.serialization_alias or to_camel(name))
        for name, field in model.model_fields.items()
    }
    for name, computed in model.model_computed_fields.items():
        found[computed.alias or name] = (name, computed.alias or to_camel(name))
    return found


@cache
def _fields(model: type[BaseModel]) -> dict[str, str]:
    """The public names of a model's fields, where anything in it is spelled otherwise; else nothing."""
    names = {name: field.serialization_alias or to_camel(name) for name, field in model.model_fields.items()}
    has_more = any(_reader(field.annotation) for field in model.model_fields.values())
    return names if has_more or any(name != public for name, public in names.items()) else {}


def _inside(value: Any, model: type[BaseModel], name: str) -> Any:
    field = model.model_fields.get(name)
    reader = _reader(field.annotation) if field is not None else None
    return reader(value) if reader is not None else spelled(value)


def _reader(annotation: Any) -> Callable[[Any], Any] | None:
    """How data of a type is spelled, None where it holds no model."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return lambda value: spelled(value, annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _reader(arguments[0])
    if origin in (typing.Union, types.UnionType):
        found = [reader for one in arguments if (reader := _reader(one)) is not None]
        return found[0] if len(found) == 1 else None
    inner = _reader(arguments[-1 if origin in _MAPPINGS else 0]) if arguments else None
    if inner is None:
        return None
    if origin in _LISTS:
        return lambda value: [inner(one) for one in value] if isinstance(value, list | tuple) else value
    if origin in _MAPPINGS:
        return lambda value: (
            {key: inner(one) for key, one in value.items()} if isinstance(value, Mapping) else value
        )
    return None


class PublicJsonSchema(GenerateJsonSchema):
    """JSON Schemas with the names that users write, whoever wrote the model."""

    def model_fields_schema(self, schema: core_schema.ModelFieldsSchema) -> JsonSchemaValue:
        fields: dict[str, core_schema.ModelField] = {}
        for name, field in schema["fields"].items():
            public = to_camel(name)
            aliases: Any = {"validation_alias": public, "serialization_alias": public}
            fields[name] = {**aliases, **field}
        computed = [
            core_schema.ComputedField({**one, "alias": one.get("alias", to_camel(one["property_name"]))})
            for one in schema.get("computed_fields", [])
        ]
        return super().model_fields_schema({**schema, "fields": fields, "computed_fields": computed})


def unreadable_names(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    """The fields in the models inside a model that are read by their Python name only."""
    seen: set[type[BaseModel]] = set()
    waiting = [model]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        for name, field in one.model_fields.items():
            if one is not model and field.validation_alias is None and to_camel(name) != name:
                yield one, name
            waiting += _models_in(field.annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for one in typing.get_args(annotation) for found in _models_in(one)]
