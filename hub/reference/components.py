"""One component's page, as Markdown and as JSON: for ``hub plugins docs`` and the reference.

Both say the same: summary, fields in groups, defaults, outputs, examples, and how it fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from hub.model.naming import PublicJsonSchema
from hub.plugin.component import Component
from hub.plugin.task import Task
from hub.plugin.trigger import Trigger
from hub.reference.fields import Field, fields_of
from hub.reference.pages import component_page
from hub.registry import Registry

_FAILS = {
    "task": "A failure ends the attempt with its reason; `retry`, `allowFailure` and `errors` decide what follows.",
    "trigger": "A failure is shown in `hub triggers list`, and it is started again with back-off.",
    "notifier": "A failure is tried again by `schedule`; `hub notices list` shows why.",
}
_KINDS = (("task", "tasks"), ("trigger", "triggers"), ("notifier", "notifiers"))


def components(registry: Registry) -> Iterator[tuple[str, type[Component]]]:
    """Every component with its kind, by name."""
    for kind, attribute in _KINDS:
        for _, component in sorted(getattr(registry, attribute).items()):
            yield kind, component


def component_text(component: type[Component], kind: str) -> str:
    """A component's page as Markdown."""
    return f"{component_page(component, kind)}\n{_FAILS[kind]}\n"


def component_data(component: type[Component], kind: str, plugin: str) -> dict[str, Any]:
    """The same as plain data, without its JSON Schema."""
    summary, _, rest = inspect.cleandoc(component.__doc__ or "").replace("``", "`").partition("\n")
    return {
        "type": component.type,
        "kind": kind,
        "plugin": plugin,
        "summary": summary,
        "description": rest.strip(),
        "fields": {
            group: [_field(one) for one in fields] for group, fields in _groups(component).items() if fields
        },
        "outputs": [_field(one) for one in _model_fields(_given(component))],
        "examples": list(component.examples),
        "failure": _FAILS[kind],
    }


def component_schema(component: type[Component]) -> dict[str, Any]:
    """The JSON Schema of what users write."""
    return component.model_json_schema(by_alias=True, schema_generator=PublicJsonSchema)


def _groups(component: type[Component]) -> Mapping[str, list[Field]]:
    """What has to be given, and what may be."""
    fields = fields_of(component)
    return {
        "required": [one for one in fields if one.default == "required"],
        "optional": [one for one in fields if one.default != "required"],
    }


def _given(component: type[Component]) -> type[BaseModel] | None:
    if issubclass(component, Task):
        return component.Output
    return component.Data if issubclass(component, Trigger) else None


def _model_fields(model: type[BaseModel] | None) -> list[Field]:
    return fields_of(model) if model is not None else []


def _field(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": field.kind,
        "default": None if field.default in ("", "required") else field.default.strip("`"),
        "description": field.about,
    }
