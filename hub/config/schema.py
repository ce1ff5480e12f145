"""JSON Schemas for editors: of flow files, with every installed component's fields, and of ``hub.yaml``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from pydantic import BaseModel

from hub.config.flow_tasks import MOST_AT_ONCE, Retry
from hub.config.notify import Notify
from hub.config.settings import Settings
from hub.model.execution import QueueBehavior
from hub.model.flow import InputType, RetryType
from hub.model.ids import MAX_ID_LENGTH, MAX_NAMESPACE_LENGTH
from hub.model.naming import PublicJsonSchema
from hub.plugin.component import Component, field_roles
from hub.plugin.fields import CASES, CHILDREN, DURATION_PATTERN
from hub.registry import Registry

_NAME = "[A-Za-z0-9][A-Za-z0-9_-]*"
# a number is an id's text too, as YAML reads it
_ID = {"type": ["string", "integer"], "pattern": f"^{_NAME}$", "maxLength": MAX_ID_LENGTH, "minimum": 0}
_NAMESPACE = {
    "type": ["string", "number"],
    "description": "Names joined by dots.",
    "pattern": rf"^{_NAME}(\.{_NAME})*$",
    "maxLength": MAX_NAMESPACE_LENGTH,
    "minimum": 0,
}
_SCALAR = ["string", "number", "boolean"]
_TEXT = {"type": [*_SCALAR, "null"]}
_FLAG = {"type": "boolean"}
_EXPRESSION = {"type": "string", "pattern": r"\{\{|\{%"}
_DURATION = {
    "anyOf": [{"type": "string", "pattern": DURATION_PATTERN, "examples": ["PT30S", "5m"]}, _EXPRESSION]
}
_MAY_BE_EMPTY = {"errors", "finally", "else"}
"""Lists of tasks that may be empty."""


def flow_schema(registry: Registry) -> dict[str, Any]:
    """A JSON Schema (2020-12) of a flow file."""
    retry = _model(Retry, "Retry")
    retry["properties"]["type"].update(_word(RetryType))
    retry["properties"]["type"].pop("type", None)
    definitions: dict[str, Any] = {"Retry": retry, "Notify": _spoken(_model(Notify, "Notify"))}
    task_common = {
        "id": _ID,
        "type": {"enum": sorted(registry.tasks)},
        "when": {"description": "Run it only when this holds."},
        "retry": {"$ref": "#/$defs/Retry"},
        "timeout": {
            **_DURATION,
            "description": "How long an attempt may take, its waiting included, `PT30S`.",
        },
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
            "namespace": _NAMESPACE,
            "description": _TEXT,
            "labels": {"type": "object", "additionalProperties": {"type": _SCALAR}},
            "disabled": _FLAG,
            "inputs": {"type": "array", "items": _input()},
            "variables": {"type": "object"},
            "concurrency": {
                "type": "object",
                "required": ["limit"],
                "additionalProperties": False,
                "properties": {
                    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_AT_ONCE},
                    "key": {"description": "Count executions of one key apart from others."},
                    "behavior": _word(QueueBehavior),
                },
            },
            "timeout": {**_DURATION, "description": "How long its tasks may take together, `PT1H`."},
            "tasks": {**tasks, "minItems": 1},
            "triggers": {"type": "array", "items": {"$ref": "#/$defs/Trigger"}},
            "errors": {**tasks, "description": "Run when a task has failed."},
            "finally": {**tasks, "description": "Run at the end, however it went."},
            "outputs": {"type": "array", "items": _output()},
            "notify": {
                "description": "Who is told of an execution's end; one rule or a list of them.",
                "anyOf": [
                    {"$ref": "#/$defs/Notify"},
                    {"type": "array", "items": {"$ref": "#/$defs/Notify"}},
                ],
            },
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
    definitions["Notifier"] = _choice(
        registry.notifiers, {"type": {"enum": sorted(registry.notifiers)}}, definitions, "notifier"
    )
    definitions["Notifier"]["required"] = ["type"]
    schema["properties"]["notifiers"]["additionalProperties"] = {"$ref": "#/$defs/Notifier"}
    rule = {"$ref": "#/$defs/NotifyRuleSettings"}
    _spoken(definitions["NotifyRuleSettings"])
    about = schema["properties"]["notify"]["description"]
    schema["properties"]["notify"] = {
        "description": about,
        "anyOf": [rule, {"type": "array", "items": rule}],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "asynchub settings",
    }


def _spoken(notify: dict[str, Any]) -> dict[str, Any]:
    """The schema of ``notify`` with its states in either case, and one of them standing for a list."""
    states = _either_case(notify["properties"]["on"]["items"]["enum"])
    one = {"anyOf": list(states)}
    on = {
        key: value for key, value in notify["properties"]["on"].items() if key in ("description", "default")
    }
    notify["properties"]["on"] = {**on, "anyOf": [*states, {"type": "array", "items": one, "minItems": 1}]}
    return notify


def _input() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "type"],
        "additionalProperties": False,
        "properties": {
            "id": _ID,
            "type": _word(InputType),
            "required": _FLAG,
            "defaults": {},
            "description": _TEXT,
            "values": {"type": "array", "items": {"type": _SCALAR}},
        },
        "if": {"properties": {"type": _word([InputType.SELECT])}},
        "then": {"required": ["values"], "properties": {"values": {"minItems": 1}}},
    }


def _output() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "value"],
        "additionalProperties": False,
        "properties": {
            "id": _ID,
            "type": _word([kind for kind in InputType if kind is not InputType.SELECT]),
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
        own, roles = _model(component, definition), field_roles(component)
        for inner in own.get("$defs", {}).values():
            inner.update(_inside(inner))
        own["properties"] = {
            **common,
            **{
                key: _tasks(key, value) if roles.get(key) in (CHILDREN, CASES) else _as_written(value)
                for key, value in own.get("properties", {}).items()
            },
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


def _tasks(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A field of child tasks, or of lists of them by key; most must hold one."""
    found = dict(schema)
    if name not in _MAY_BE_EMPTY and schema.get("type") == "array":
        found["minItems"] = 1
    cases = schema.get("additionalProperties")
    if isinstance(cases, dict):
        found["additionalProperties"] = {**cases, "minItems": 1}
    return found


def _as_written(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What may be written for a value: text as a number or flag, words in either case, any of it an expression."""
    about = {key: schema[key] for key in ("description", "default", "title", "examples") if key in schema}
    forms = _forms({key: value for key, value in schema.items() if key not in about})
    if not any(_takes_any_text(form) for form in forms):
        forms.append(_EXPRESSION)
    return {**about, **forms[0]} if len(forms) == 1 else {**about, "anyOf": forms}


def _forms(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "anyOf" in schema:
        return [form for branch in schema["anyOf"] for form in _forms(branch)]
    if "enum" in schema and all(isinstance(word, str) for word in schema["enum"]):
        return list(_either_case(schema["enum"]))
    if schema.get("type") == "string" and not {"pattern", "format", "const"} & schema.keys():
        return [{**schema, "type": _SCALAR}]
    return [_inside(schema)]


def _inside(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A list or mapping with what it holds as it may be written."""
    found = dict(schema)
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), dict):
            found[name] = _as_written(found[name])
    if "properties" in found:
        found["properties"] = {key: _as_written(value) for key, value in found["properties"].items()}
    return found


def _takes_any_text(schema: Mapping[str, Any]) -> bool:
    return not schema or (schema.get("type") == _SCALAR and "pattern" not in schema)


def _word(kind: Iterable[Enum]) -> dict[str, Any]:
    """One of an enum's words, in either case."""
    return {"anyOf": list(_either_case([str(member.value) for member in kind]))}


def _either_case(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The words as editors propose them, and a pattern of them in any case."""
    spelled = (
        "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else re.escape(c) for c in word) for word in words
    )
    return {"enum": list(words)}, {"type": "string", "pattern": f"^(?:{'|'.join(spelled)})$"}
