"""The pages, each as Markdown text under its file name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from hub.config.schema import flow_schema
from hub.config.settings import ENVIRONMENT, Settings
from hub.expressions import FunctionTable
from hub.plugin.component import Component
from hub.plugin.task import Task
from hub.plugin.trigger import Trigger
from hub.reference.fields import Field, fields_of, fields_of_schema
from hub.registry import Registry

_MADE = "<!-- made by `hub reference docs/reference`; change the code, not this page -->\n\n"


def pages(registry: Registry, functions: FunctionTable) -> dict[str, str]:
    """Every page by its file name."""
    tasks = {name: task for name, task in sorted(registry.tasks.items()) if _is_built_in(task)}
    triggers = {name: one for name, one in sorted(registry.triggers.items()) if _is_built_in(one)}
    notifiers = {name: one for name, one in sorted(registry.notifiers.items()) if _is_built_in(one)}
    return {
        "notifiers.md": _MADE + _components("Notifiers", "notifier", notifiers),
        "tasks.md": _MADE + _components("Tasks", "task", tasks),
        "triggers.md": _MADE + _components("Triggers", "trigger", triggers),
        "flow.md": _MADE + _flow(registry),
        "settings.md": _MADE + _settings(),
        "expressions.md": _MADE + _expressions(functions),
    }


def _is_built_in(component: type[Component]) -> bool:
    return component.__module__.startswith("plugins_core.")


def _components(title: str, kind: str, components: Mapping[str, type[Component]]) -> str:
    listed = "\n".join(
        f"| [`{name}`](#{_anchor(name)}) | {_summary(component)} |" for name, component in components.items()
    )
    parts = [f"# {title}\n\n| type | what it does |\n|---|---|\n{listed}\n"]
    parts += [component_page(component, kind) for component in components.values()]
    return "\n".join(parts)


def _plain(text: str) -> str:
    """A docstring as Markdown."""
    return inspect.cleandoc(text).replace("``", "`")


def component_page(component: type[Component], kind: str) -> str:
    """A component as a section of a page: summary, fields, what it gives, examples."""
    lines = [f"## {component.type}\n", _plain(component.__doc__ or "") + "\n"]
    fields = fields_of(component)
    if fields:
        lines.append(_table(fields))
    given = _given(component)
    if given:
        word = "Outputs" if kind == "task" else "What expressions see as `trigger`"
        lines.append(f"{word}:\n\n" + _table(given, required=False))
    for example in component.examples:
        shown = _named(example) if kind == "notifier" else _listed(example)
        lines.append(f"```yaml\n{shown}\n```\n")
    return "\n".join(lines)


def _given(component: type[Component]) -> list[Field]:
    model: type[BaseModel] | None = None
    if issubclass(component, Task):
        model = component.Output
    elif issubclass(component, Trigger):
        model = component.Data
    return fields_of(model) if model is not None else []


def _flow(registry: Registry) -> str:
    schema = flow_schema(registry)
    parts = ["# The flow file\n", _table(fields_of_schema(schema))]
    for title, name in (
        ("Every task", "Task"),
        ("Every trigger", "Trigger"),
        ("retry", "Retry"),
        ("notify", "Notify"),
    ):
        part = schema["$defs"][name]
        parts.append(f"## {title}\n\n" + _table(fields_of_schema(part)))
    return "\n".join(parts)


def _settings() -> str:
    named = {".".join(path): name for name, path in ENVIRONMENT.items()}
    parts = [
        "# Settings\n",
        "`hub.yaml`, each overridden by its environment variable, that by its flag. Every variable also works as"
        " `NAME_FILE`, the path of a file that holds the value.\n",
    ]
    lines = ["| setting | variable | default | what it is |", "|---|---|---|---|"]
    for field in _deep(Settings, ""):
        variable = f"`{named[field.name]}`" if field.name in named else ""
        lines.append(f"| `{field.name}` | {variable} | {field.default} | {field.about} |")
    return "\n".join([*parts, *lines, ""])


def _deep(model: type[BaseModel], prefix: str) -> list[Field]:
    found: list[Field] = []
    for field in fields_of(model):
        inner = field.model
        name = prefix + field.name
        if inner is not None:
            found += _deep(inner, f"{name}." if not field.is_list else f"{name}[].")
        else:
            found.append(field.named(name))
    return found


def _expressions(functions: FunctionTable) -> str:
    parts = ["# Expressions: functions and filters\n"]
    for title, table in (("Functions", functions.functions), ("Filters", functions.filters)):
        lines = ["| name | arguments | what it gives |", "|---|---|---|"]
        for name, function in sorted(table.items()):
            lines.append(f"| `{name}` | {_arguments(function)} | {function.summary} |")
        parts.append(f"## {title}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _arguments(function: Any) -> str:
    if function.order:
        return ", ".join(f"`{name}`" for name in function.order)
    if function.most is None:
        return f"{function.least} or more"
    return str(function.least) if function.least == function.most else f"{function.least} to {function.most}"


def _table(fields: Sequence[Field], *, required: bool = True) -> str:
    if required:
        lines = ["| field | type | default | what it is |", "|---|---|---|---|"]
        lines += [f"| `{one.name}` | {one.kind} | {one.default} | {one.about} |" for one in fields]
    else:
        lines = ["| field | type | what it is |", "|---|---|---|"]
        lines += [f"| `{one.name}` | {one.kind} | {one.about} |" for one in fields]
    return "\n".join(lines) + "\n"


def _summary(component: type[Component]) -> str:
    return _plain(component.__doc__ or "").split("\n", 1)[0]


def _listed(example: str) -> str:
    """An example as an item of a list, as it stands in a flow."""
    return "- " + example.replace("\n", "\n  ")


def _named(example: str) -> str:
    """An example as it stands in ``hub.yaml``."""
    return "notifiers:\n  oncall:\n    " + example.replace("\n", "\n    ")


def _anchor(name: str) -> str:
    return name.lower().replace(".", "")
