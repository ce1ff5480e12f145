"""Fields as people read them: name, type in words, default, description; out of pydantic models and schemas."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hub.model import jsontext


@dataclass(frozen=True, slots=True)
class Field:
    """One row of a table."""

    name: str
    kind: str
    """Its type, in words."""
    default: str
    about: str
    model: type[BaseModel] | None = None
    """The model that the field's value, or each item of it, is."""
    is_list: bool = False

    def named(self, name: str) -> Field:
        """The same under another name."""
        return replace(self, name=name)


def fields_of(model: type[BaseModel]) -> list[Field]:
    """The fields of a model, in the order they are declared, by their YAML names."""
    schema = model.model_json_schema(by_alias=True)
    found = []
    for name, info in model.model_fields.items():
        alias = info.alias or name
        part = schema.get("properties", {}).get(alias, {})
        inner, is_list = _model_of(info.annotation)
        about = _about(info.description or part.get("description", ""))
        found.append(
            Field(alias, words(part, schema.get("$defs", {})), _default(info, part), about, inner, is_list)
        )
    return found


def fields_of_schema(schema: Mapping[str, Any]) -> list[Field]:
    """The properties of a JSON Schema."""
    required = schema.get("required", ())
    return [
        Field(
            name,
            words(part, {}),
            "required" if name in required else "",
            _about(part.get("description", "")),
        )
        for name, part in schema.get("properties", {}).items()
    ]


def words(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        return _reference(str(schema["$ref"]), definitions)
    if "enum" in schema:
        values = schema["enum"]
        return ", ".join(f"`{value}`" for value in values) if len(values) <= 12 else "one of many"
    if "const" in schema:
        return f"`{schema['const']}`"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            parts = [words(one, definitions) for one in schema[key] if not _is_aside(one)]
            return " or ".join(dict.fromkeys(parts))
    kind = schema.get("type")
    if isinstance(kind, list) and "string" in kind:
        return "text"  # numbers and flags are read as the text they spell
    if isinstance(kind, list):
        return " or ".join(_KINDS.get(str(one), str(one)) for one in kind)
    if kind == "array":
        items = schema.get("items")
        return f"list of {words(items, definitions)}" if items else "list"
    if kind == "object" and schema.get("x-hub") == "task":
        return "tasks"
    if kind == "string" and "PT30S" in schema.get("examples", ()):
        return "duration"
    return _KINDS.get(str(kind), "anything")


def _is_aside(schema: Mapping[str, Any]) -> bool:
    """Whether a form is not worth a word: nothing, an expression, a word in another case."""
    return schema.get("type") == "null" or ("pattern" in schema and "examples" not in schema)


_KINDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
    "null": "null",
}


def _reference(target: str, definitions: Mapping[str, Any]) -> str:
    name = target.rsplit("/", 1)[-1]
    found = definitions.get(name)
    if found is None or found.get("type") == "object":
        return f"mapping ({name})" if found else name.lower()
    return words(found, definitions)


def _default(info: FieldInfo, schema: Mapping[str, Any]) -> str:
    if info.is_required():
        return "required"
    if "default" in schema:
        return f"`{jsontext.dumps(schema['default'])}`" if schema["default"] is not None else ""
    return ""


def _about(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for one in typing.get_args(annotation):
            found = _model_of(one)
            if found[0] is not None:
                return found
    if origin is list:
        [inner] = typing.get_args(annotation)
        return _model_of(inner)[0], True
    return None, False
