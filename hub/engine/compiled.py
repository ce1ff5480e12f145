"""A flow made ready to run: component classes found, expressions compiled, constant tasks built once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hub.config.expressions import nested_deferred
from hub.engine.rendering import Field
from hub.errors import InvalidInput, PluginError
from hub.expressions import FunctionTable, strip_raw
from hub.model.flow import Flow, NotifyRule, TaskDeclaration, TriggerDeclaration
from hub.model.ids import FlowKey
from hub.plugin.component import Component, field_roles
from hub.plugin.fields import CASES, CHILDREN, DECIDED, DEFERRED, SCRIPT, STATIC
from hub.plugin.task import Task
from hub.plugin.trigger import Trigger
from hub.registry import Registry


class CompiledTask:
    """One task of a compiled flow."""

    __slots__ = (
        "component",
        "decided",
        "declaration",
        "fields",
        "is_async",
        "is_group",
        "ready",
        "static",
        "timeout",
        "when",
    )

    def __init__(self, declaration: TaskDeclaration, component: type[Task], functions: FunctionTable) -> None:
        roles = field_roles(component)
        self.declaration = declaration
        self.component = component
        self.is_group = any(role is CHILDREN or role is CASES for role in roles.values())
        self.is_async = inspect.iscoroutinefunction(component.run)
        self.static: dict[str, Any] = _groups(declaration)
        self.fields: dict[str, Field] = {}
        self.decided: dict[str, Field] = {}
        for name, raw in declaration.properties.items():
            role = roles.get(name)
            if role is SCRIPT:
                self.static[name] = strip_raw(raw) if isinstance(raw, str) else raw
            elif role is STATIC or role is DEFERRED:
                self.static[name] = raw
            else:
                field = Field(raw, functions)
                if field.is_constant:
                    self.static[name] = raw
                elif role is DECIDED:
                    self.decided[name] = field
                else:
                    self.fields[name] = field
        self.when = None if declaration.when is None else Field(declaration.when, functions)
        self.timeout = None if declaration.timeout is None else Field(declaration.timeout, functions)
        self.ready: Task | None = None
        """The instance every run uses, where nothing in it is an expression."""
        if not self.fields and not self.decided:
            self.ready = build(component, self.static, declaration.id)

    def instance(self, rendered: Mapping[str, Any]) -> Task:
        """The task with its rendered fields. Raises ``InvalidInput``."""
        made: Task = build(self.component, {**self.static, **rendered}, self.declaration.id)
        return made


def _groups(declaration: TaskDeclaration) -> dict[str, Any]:
    """Child tasks by field; those of the cases of one field in a mapping of their own."""
    found: dict[str, Any] = {}
    for name, tasks in declaration.children.items():
        field, _, key = name.partition(".")
        if key:
            found.setdefault(field, {})[key] = tasks
        else:
            found[field] = tasks
    return found


class CompiledTrigger:
    """One trigger of a compiled flow: its guard and the inputs it gives."""

    __slots__ = ("declaration", "inputs", "when")

    def __init__(self, declaration: TriggerDeclaration, functions: FunctionTable) -> None:
        self.declaration = declaration
        self.when = None if declaration.when is None else Field(declaration.when, functions)
        self.inputs = Field(declaration.inputs, functions) if declaration.inputs else None


class CompiledRule:
    """A rule with its templates compiled, and what tells its notices from those of others."""

    __slots__ = ("rule", "scope", "texts")

    def __init__(self, rule: NotifyRule, scope: str, functions: FunctionTable) -> None:
        self.rule = rule
        self.scope = scope
        self.texts: dict[str, Field] = {}
        for name in ("subject", "message", "html"):
            text = getattr(rule.template, name)
            if text is not None:
                self.texts[name] = Field(text, functions)

    def covers(self, key: FlowKey) -> bool:
        """Whether the rule is about a flow."""
        namespace, flow = self.rule.namespace, self.rule.flow
        if flow is not None and flow != key.id:
            return False
        if namespace is None or namespace == key.namespace:
            return True
        return flow is None and key.namespace.startswith(f"{namespace}.")


class CompiledFlow:
    """A flow revision ready to run."""

    def __init__(self, flow: Flow, revision: int, registry: Registry, functions: FunctionTable) -> None:
        self.flow = flow
        self.revision = revision
        self.tasks = {
            task.id: CompiledTask(task, component_class(registry.tasks, task.type), functions)
            for task in flow.walk()
        }
        self.triggers = {trigger.id: CompiledTrigger(trigger, functions) for trigger in flow.triggers}
        self._prepares = _prepares(flow, registry)
        # those of them that hold no expression, built once
        self._ready_triggers: dict[str, Trigger] = {}
        self.variables = Field(dict(flow.variables), functions)
        self.variable_fields = {name: Field(value, functions) for name, value in flow.variables.items()}
        self.decided_variables = {
            name
            for name, field in self.variable_fields.items()
            # a secret is never stored, not even inside a variable: it is asked for on every walk
            if not field.is_constant and "secret" not in repr(flow.variables[name])
        }
        """Those that must be the same on every walk."""
        self.outputs = [(output, Field(output.value, functions)) for output in flow.outputs]
        self.notify = [CompiledRule(rule, str(flow.key), functions) for rule in flow.notify]
        concurrency = flow.concurrency
        self.queue_key = (
            Field(concurrency.key, functions)
            if concurrency is not None and concurrency.key is not None
            else None
        )
        self.shows_execution = "execution" in repr(flow)
        """Whether any expression may name ``execution``; made for each run only then."""
        self.names: dict[str, Any] = {
            "id": flow.id,
            "namespace": flow.namespace,
            "revision": revision,
            "labels": dict(flow.labels),
        }
        """What expressions see as ``flow``."""

    def prepares(self, trigger: str) -> bool:
        """Whether the trigger of that id has to prepare an execution before it goes on."""
        return trigger in self._prepares

    async def preparing(self, trigger: str, functions: FunctionTable, vault: Any) -> Trigger | None:
        """The trigger of that id, if it has to prepare an execution before it goes on. Raises ``HubError``."""
        ready = self._ready_triggers.get(trigger)
        if ready is not None or trigger not in self._prepares:
            return ready
        declaration, component = self._prepares[trigger]
        text = str(declaration.properties)
        names: dict[str, Any] = {"flow": self.names, "vars": {}}
        if "vars" in text:
            names["vars"] = await self.variables.render(names, vault)
        made = await build_trigger(declaration, component, functions, vault, names)
        if "{{" not in text and "{%" not in text:
            self._ready_triggers[trigger] = made
        return made


def _prepares(flow: Flow, registry: Registry) -> dict[str, tuple[TriggerDeclaration, type[Trigger]]]:
    found: dict[str, tuple[TriggerDeclaration, type[Trigger]]] = {}
    for trigger in flow.triggers:
        component = registry.triggers.get(trigger.type)
        if component is not None and component.prepare is not Trigger.prepare:
            found[trigger.id] = (trigger, component)
    return found


def component_class(known: Mapping[str, type[Any]], type_name: str) -> type[Any]:
    """The class behind a type name. Raises ``PluginError`` when its plugin is not there."""
    found = known.get(type_name)
    if found is None:
        raise PluginError(f'no installed plugin brings the type "{type_name}"')
    return found


async def build_trigger(
    declaration: TriggerDeclaration,
    component: type[Trigger],
    functions: FunctionTable,
    vault: Any,
    scope: Any,
) -> Trigger:
    """A trigger with its fields rendered. Raises ``InvalidInput``, ``ExpressionError``, ``NotFound``."""
    roles = field_roles(component)
    values: dict[str, Any] = {}
    for name, raw in declaration.properties.items():
        if roles.get(name) in (STATIC, DEFERRED, SCRIPT):
            values[name] = raw
        else:
            # nested models may hold deferred texts: those are left to the component
            values[name] = await _render_but_deferred(component, name, raw, functions, vault, scope)
    made: Trigger = build(component, values, declaration.id)
    return made


async def _render_but_deferred(
    component: type[Component], name: str, raw: Any, functions: FunctionTable, vault: Any, scope: Any
) -> Any:
    deferred = nested_deferred(component, name)
    if isinstance(raw, Mapping) and deferred:
        rendered = {}
        for key, value in raw.items():
            rendered[key] = value if key in deferred else await Field(value, functions).render(scope, vault)
        return rendered
    return await Field(raw, functions).render(scope, vault)


def build(component: type[Any], values: Mapping[str, Any], owner: str) -> Any:
    """An instance of a component. Raises ``InvalidInput`` in the user's words."""
    try:
        # what model_validate does, and no more
        return component.__pydantic_validator__.validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidInput(
            f'"{owner}" ({component.type}): {where + ": " if where else ""}{message}'
        ) from error
