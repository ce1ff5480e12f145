"""What every component owes its readers: a summary, described fields, examples that load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import BaseModel

from hub.clock import SystemClock
from hub.config.flows import load_flow
from hub.config.notifiers import read_notifiers
from hub.config.settings import FILE_NAME, load_settings
from hub.expressions import builtin_functions
from hub.model.naming import PublicJsonSchema
from hub.plugin.component import Component
from hub.plugin.notifier import Notifier
from hub.plugin.task import Task
from hub.registry import Registry

_INPUTS = "inputs: [{id: day, type: DATE, required: false}, {id: name, type: STRING, required: false}]\n"
_HOOK = "triggers: [{id: given, type: webhook, key: given}]\n"
_STEP = "tasks: [{id: done, type: log, message: x}]\n"


def check_described(component: type[Component]) -> None:
    """Fail where a page about the component would have a hole."""
    summary = (component.__doc__ or "").strip().split("\n")[0]
    assert summary, f"{component.type} has no docstring: its first line is what users read in lists"
    assert summary.endswith("."), f"{component.type}: the docstring's first line is no sentence: {summary!r}"
    for name, field in component.model_fields.items():
        assert field.description, f'{component.type}: the field "{name}" has no description'
    assert component.examples, f"{component.type} has no examples: give at least one, as YAML"


def check_examples(component: type[Component], registry: Registry) -> None:
    """Fail where an example could not be saved inside a flow."""
    functions = builtin_functions(SystemClock().now).with_functions(registry.functions)
    for example in component.examples:
        item = indent(example.strip("\n"), "    ").replace("    ", "  - ", 1)
        if issubclass(component, Task):
            source = f"id: x\nnamespace: y\n{_INPUTS}{_HOOK}tasks:\n{item}\n"
        else:
            source = f"id: x\nnamespace: y\ntriggers:\n{item}\n{_STEP}"
        load_flow(source, file=f"an example of {component.type}", registry=registry, functions=functions)


def check_notifier_examples(component: type[Notifier], registry: Registry, folder: Path) -> None:
    """Fail where an example could not stand under ``notifiers:`` in a ``hub.yaml``."""
    functions = builtin_functions(SystemClock().now).with_functions(registry.functions)
    for example in component.examples:
        (folder / FILE_NAME).write_text("notifiers:\n  told:\n" + indent(example.strip("\n"), "    ") + "\n")
        found = load_settings({}, folder=folder).settings
        read_notifiers(found, registry, functions)
    (folder / FILE_NAME).unlink(missing_ok=True)


def check_data(data: Mapping[str, Any], model: type[BaseModel], what: str) -> None:
    """Fail where data is something else than its model says."""
    schema = model.model_json_schema(mode="validation", schema_generator=PublicJsonSchema)
    strange = sorted(set(data) - set(schema.get("properties", {})))
    if model.model_config.get("extra") != "allow":
        assert not strange, f"{what} has what {model.__name__} does not name: {', '.join(strange)}"
    for error in Draft202012Validator(schema).iter_errors(data):
        where = ".".join(str(step) for step in error.absolute_path) or "all of it"
        raise AssertionError(f"{what} is not as {model.__name__} says: {where}: {error.message}")
