"""JSON Schemas for editors: of flow files, with every installed component's fields, and of ``hub.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from hub.config.flows import Retry
from hub.config.settings import Settings
from hub.model.flow import InputType
from hub.model.naming import PublicJsonSchema
from hub.plugin.component import Component
from hub.registry import Registry

_ID = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$", "maxLength": 100}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_EXPRESSION = {"type": "string", "pattern": r"\{\{|\{%"}


def flow_schema(registry: Registry) -> dict[str, Any]:
    """A JSON Schema (2020-12) of a flow file."""
    definitions: dict[str, Any] = {"Retry": _model(Retry, "Retry")}
    task_common = {
        "id": _ID,
        "type": {"enum": sorted(registry.tasks)},
        "when": {"description": "Run it only when this holds."},
        "retry": {"$ref": "#/$defs/Retry"},
        "timeout": {"type": "string", "description": "How long an attempt may take, `PT30S`."},
        "allowFailure": {**_FLAG, "description": "A failure ends as WARNING and the flow goes on."},
        "description": _TEXT,
        "disabled": _FLAG,
    }
    trigger_common = {
        "id": _ID,
        "type": {"enum": sorted(registry.triggers)},
        "when": {"description": "Start the flow only when this holds."},
        "inputs": {"type": "object", "description": "The flow's inputs, from `trigger`."},
        "description": _TEXT,
        "disabled": _FLAG,
    }
    definitions["Task"] = _choice(registry.tasks, task_common, definitions, "task")
    definitions["Trigger"] = _choice(registry.triggers, trigger_common, definitions, "trigger")
    tasks = {"type": "array", "items": {"$ref": "#/$defs/Task"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "asynchub flow",
        "type": "object",
        "required": ["id", "namespace", "tasks"],
        "additionalProperties": False,
        "properties": {
            "id": _ID,
            "namespace": {"type": "string", "description": "Names joined by dots."},
            "description": _TEXT,
            "labels": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
            "disabled": _FLAG,
            "inputs": {"type": "array", "items": _input()},
            "variables": {"type": "object"},
            "concurrency": {
                "type": "object",
                "required": ["limit"],
                "additionalProperties": False,
                "properties": {
                    "limit": {"type": "integer", "minimum": 1},
                    "key": {"description": "Count executions of one key apart from others."},
                    "behavior": {"enum": ["QUEUE", "CANCEL", "FAIL"]},
                },
            },
            "tasks": {**tasks, "minItems": 1},
            "triggers": {"type": "array", "items": {"$ref": "#/$defs/Trigger"}},
            "errors": {**tasks, "description": "Run when a task has failed."},
            "finally": {**tasks, "description": "Run at the end, however it went."},
            "outputs": {"type": "array", "items": _output()},
        },
        "$defs": definitions,
    }


def settings_schema(registry: Registry) -> dict[str, Any]:
    """A JSON Schema (2020-12) of ``hub.yaml``, with the settings of every plugin that has some."""
    schema = Settings.model_json_schema(by_alias=True)
    schema.pop("description", None)
    enabled = {"enabled": {**_FLAG, "description": "false leaves the plugin out."}}
    plugins: dict[str, Any] = {}
    definitions = schema.setdefault("$defs", {})
    for report in registry.plugins:
        model = registry.settings.get(report.name)
        name = f"plugin.{report.name}"
        own: dict[str, Any] = _model(model, name) if model is not None else {"type": "object"}
        own["properties"] = {**enabled, **own.get("properties", {})}
        definitions[name] = own
        plugins[report.name] = {"$ref": f"#/$defs/{name}"}
    schema["properties"]["plugins"].update(properties=plugins)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "asynchub settings",
    }


def _input() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "type"],
        "additionalProperties": False,
        "properties": {
            "id": _ID,
            "type": {"enum": [kind.value for kind in InputType]},
            "required": _FLAG,
            "defaults": {},
            "description": _TEXT,
            "values": {"type": "array", "items": _TEXT},
        },
    }


def _output() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "value"],
        "additionalProperties": False,
        "properties": {
            "id": _ID,
            "type": {"enum": [kind.value for kind in InputType]},
            "value": {},
            "description": _TEXT,
        },
    }


def _choice(
    components: Mapping[str, type[Component]],
    common: Mapping[str, Any],
    definitions: dict[str, Any],
    kind: str,
) -> dict[str, Any]:
    """One of the components, told apart by ``type``."""
    branches = []
    for name, component in sorted(components.items()):
        definition = f"{kind}.{name}"
        own = _model(component, definition)
        own["properties"] = {
            **common,
            **{key: _or_expression(value) for key, value in own.get("properties", {}).items()},
        }
        own["additionalProperties"] = False
        definitions[definition] = own
        branches.append(
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"$ref": f"#/$defs/{definition}"},
            }
        )
    return {"type": "object", "required": ["id", "type"], "properties": dict(common), "allOf": branches}


def _model(model: type[BaseModel], prefix: str) -> dict[str, Any]:
    """A model's schema with its own definitions inside it."""
    schema = model.model_json_schema(
        ref_template=f"#/$defs/{prefix}/$defs/{{model}}", schema_generator=PublicJsonSchema
    )
    schema.pop("title", None)
    found: dict[str, Any] = _shared(schema)
    return found


def _shared(value: Any) -> Any:
    """Child tasks are the flow's own ``Task``, whatever component holds them."""
    if isinstance(value, dict):
        if value.get("x-hub") == "task":
            return {"$ref": "#/$defs/Task"}
        return {key: _shared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    return value


def _or_expression(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A field takes its own type or an expression that gives it."""
    if schema.get("type") == "string" and not {"pattern", "enum", "format"} & schema.keys():
        return dict(schema)
    about = {key: schema[key] for key in ("description", "default", "title") if key in schema}
    rest = {key: value for key, value in schema.items() if key not in about}
    return {**about, "anyOf": [rest, _EXPRESSION]}
