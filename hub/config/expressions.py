"""Check every expression of a flow against what exists where it stands.

A task sees the inputs, the variables, the trigger's data and the outputs of the tasks that have run by then:
those before it, and around it. Tasks of another branch, of a loop's inside, or later ones are named as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from hub.config.yaml import Node
from hub.errors import ExpressionError
from hub.expressions import (
    ANY,
    BOOLEAN,
    NULL,
    NUMBER,
    TEXT,
    Finding,
    ListShape,
    ObjectShape,
    Shape,
    check_template,
    find_expressions_naming,
    merge,
    names_in,
    parse_template,
    shape_of_json_schema,
    shape_of_template,
)
from hub.model.flow import Flow, InputType, TaskDeclaration, TriggerDeclaration
from hub.model.naming import PublicJsonSchema
from hub.plugin.component import Component, field_roles
from hub.plugin.fields import CASES, CHILDREN, DEFERRED, SCRIPT, STATIC

if TYPE_CHECKING:
    from hub.config.reading import Reading

_SCRIPT_NAMES = frozenset({"inputs", "outputs", "trigger", "vars", "item", "secret"})
_INPUT_SHAPES: Mapping[InputType, Shape] = {
    InputType.INT: NUMBER,
    InputType.FLOAT: NUMBER,
    InputType.BOOLEAN: BOOLEAN,
    InputType.JSON: ANY,
}
_FLOW = ObjectShape(
    {"id": TEXT, "namespace": TEXT, "revision": NUMBER, "labels": ObjectShape({}, "label", is_open=True)},
    "member",
)
_LABELS = ObjectShape({}, "label", is_open=True)
_EXECUTION = ObjectShape({"id": TEXT, "createdAt": TEXT, "startedAt": TEXT, "trigger": TEXT}, "member")
_ERROR = ObjectShape({"task": TEXT, "message": TEXT}, "member")
_MAYBE_ERROR = replace(_ERROR, sometimes="when a task has failed")
NOTICE_NAMES: Mapping[str, Shape] = {
    "flow": _FLOW,
    "labels": _LABELS,
    "inputs": ANY,
    "outputs": ANY,
    "state": TEXT,
    "error": ObjectShape({"message": TEXT}, "member"),
    "execution": ObjectShape(
        dict.fromkeys(("id", "createdAt", "startedAt", "endedAt", "duration", "trigger", "url"), TEXT),
        "member",
    ),
}
"""What the template of a notice sees."""
_NOTHING = ObjectShape({}, "output", hint="this type of task gives none")


class _Known:
    """The outputs in reach at one place of the tree.

    One is kept for the whole walk and changed on the way: a group takes back what its inside has added.
    """

    def __init__(
        self, shapes: dict[str, Shape], reasons: dict[str, str], absent: dict[str, str] | None = None
    ) -> None:
        self.shapes = shapes
        self.reasons = reasons
        self.absent = absent or {}

    def copy(self) -> _Known:
        return _Known(dict(self.shapes), dict(self.reasons), dict(self.absent))

    def outputs(self) -> ObjectShape:
        return ObjectShape(self.shapes, "task", reasons=self.reasons, absent=self.absent)

    def add(self, task: TaskDeclaration, shape: Shape) -> None:
        """Let a task have run."""
        self.reasons.pop(task.id, None)
        if task.disabled:
            self.absent[task.id] = f'task "{task.id}" is disabled'
        else:
            self.shapes[task.id] = shape

    def hide(self, names: Iterable[str], why: str) -> None:
        """Let tasks be out of reach."""
        for name in names:
            self.shapes.pop(name, None)
            self.absent.pop(name, None)
            self.reasons[name] = f'task "{name}" {why}'

    def only(self, names: Iterable[str]) -> _Known:
        """What is known of these tasks."""
        return _Known(*({name: one[name] for name in names if name in one} for one in self._parts()))

    def update(self, other: _Known) -> None:
        """Take over what another knows."""
        for name in (*other.shapes, *other.reasons, *other.absent):
            for mine, theirs in zip(self._parts(), other._parts(), strict=True):
                mine.pop(name, None)
                if name in theirs:
                    mine[name] = theirs[name]

    def _parts(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return self.shapes, self.reasons, self.absent


class ExpressionChecker:
    """Walks a flow in the order it runs."""

    def __init__(self, reading: Reading, flow: Flow) -> None:
        self._reading = reading
        self._flow = flow
        self._root = reading.document.root
        inputs = {one.id: _INPUT_SHAPES.get(one.type, TEXT) for one in flow.inputs}
        self._inputs = ObjectShape(inputs, "input")
        self._trigger = self._trigger_shape()
        self._vars = ObjectShape({}, "variable")

    def check(self) -> None:
        flow = self._flow
        around: dict[str, Shape] = {"flow": _FLOW, "labels": _LABELS}
        self._vars = self._variables({**around, "inputs": self._inputs, "trigger": self._trigger})
        self._triggers(around)
        self._names: dict[str, Shape] = {
            **around,
            "inputs": self._inputs,
            "vars": self._vars,
            "trigger": self._trigger,
            "execution": _EXECUTION,
        }
        if "concurrency" in self._root.value and flow.concurrency is not None:
            key = self._root.value["concurrency"].get("key")
            if key is not None:
                self._expressions(
                    key, {**around, "inputs": self._inputs, "trigger": self._trigger, "vars": self._vars}
                )
        known = _Known({}, {})
        known.hide((task.id for task in flow.walk()), _LATER)
        self._sequence(flow.tasks, known, {})
        # whatever was begun may have ended before something failed
        self._sequence(flow.errors, known, {"error": _ERROR})
        self._sequence(flow.finally_, known, {"error": _MAYBE_ERROR})
        for output in flow.outputs:
            node = self._reading.nodes[id(output)].value["value"]
            self._expressions(node, self._scope(known, {}))
        self._notify(self._root.get("notify"))

    def _notify(self, node: Node | None) -> None:
        """What templates of notices say of an end; see ``NOTICE_NAMES``."""
        if node is None:
            return
        for item in node.value if node.kind == "list" else [node]:
            template = item.get("template") if item.kind == "mapping" else None
            if template is not None:
                self._expressions(template, {**NOTICE_NAMES, "inputs": self._inputs})

    def _scope(self, known: _Known, more: Mapping[str, Shape]) -> dict[str, Shape]:
        return {**self._names, "outputs": known.outputs(), **more}

    # -- the parts around the tasks

    def _trigger_shape(self) -> Shape:
        """What ``trigger`` may hold: the members of any of the flow's triggers."""
        shape: Shape | None = None
        for trigger in self._flow.triggers:
            one = self._data_of(trigger)
            shape = one if shape is None else merge(shape, one)
        return shape if shape is not None else ObjectShape({}, "member", hint="the flow has no triggers")

    def _data_of(self, trigger: TriggerDeclaration) -> Shape:
        component = self._reading.registry.triggers.get(trigger.type)
        if component is None or component.Data is None:
            return ANY
        return model_shape(component.Data, "member")

    def _variables(self, names: Mapping[str, Shape]) -> ObjectShape:
        node = self._root.get("variables")
        if node is None or node.kind != "mapping":
            return ObjectShape({}, "variable")
        self._expressions(node, names)
        return ObjectShape(
            {name: self._value_shape(value, names) for name, value in node.value.items()}, "variable"
        )

    def _value_shape(self, node: Node, names: Mapping[str, Shape]) -> Shape:
        if node.kind == "list":
            return ListShape(ANY)
        if node.kind == "mapping":
            members = {name: self._value_shape(value, names) for name, value in node.value.items()}
            return ObjectShape(members, "member")
        if isinstance(node.value, str):
            if "{" not in node.value:
                return TEXT
            try:
                return shape_of_template(parse_template(node.value), names, self._reading.functions)
            except ExpressionError:
                return ANY
        if isinstance(node.value, bool):
            return BOOLEAN
        return NULL if node.value is None else NUMBER

    def _triggers(self, around: Mapping[str, Shape]) -> None:
        names = {**around, "vars": self._vars}
        for trigger in self._flow.triggers:
            node = self._reading.nodes[id(trigger)]
            event = {**names, "trigger": self._data_of(trigger)}
            component = self._reading.registry.triggers.get(trigger.type)
            for key in ("when", "inputs"):
                if key in node.value:
                    self._expressions(node.value[key], event)
            if component is not None:
                # what a trigger renders itself it may render when the flow has ended
                deferred = {**event, "outputs": ANY, "state": TEXT}
                for name in trigger.properties:
                    self._property(component, name, node.value[name], names, deferred)
            self._given_inputs(trigger, node)

    def _given_inputs(self, trigger: TriggerDeclaration, node: Node) -> None:
        declared = {one.id: one for one in self._flow.inputs}
        given = node.get("inputs")
        for name in trigger.inputs:
            if name not in declared and given is not None:
                self._reading.at(
                    given.keys[name], f'unknown input "{name}"', self._reading.near(name, list(declared))
                )
        for name, one in declared.items():
            if one.required and one.defaults is None and name not in trigger.inputs:
                self._reading.problem(
                    f'trigger "{trigger.id}" gives no value for the required input "{name}"',
                    node.position,
                    "add it under inputs:, or give the input defaults: or required: false",
                    severity="warning",
                )

    # -- tasks

    def _sequence(self, tasks: tuple[TaskDeclaration, ...], known: _Known, more: Mapping[str, Shape]) -> None:
        for task in tasks:
            self._task(task, known, more)

    def _task(self, task: TaskDeclaration, known: _Known, more: Mapping[str, Shape]) -> None:
        node = self._reading.nodes[id(task)]
        for key in ("when", "timeout"):
            if key in node.value:
                self._expressions(node.value[key], self._scope(known, more))
        if more.get("error") is _MAYBE_ERROR and "error" in _names_of(node.get("when")):
            # the guard has looked after it
            more = {**more, "error": _ERROR}
        scope = self._scope(known, more)
        component = self._reading.registry.tasks.get(task.type)
        if component is not None:
            for name in task.properties:
                self._property(component, name, node.value[name], scope, scope)
            self._children(task, component, known, more)
        known.add(task, self._output_of(component))

    def _output_of(self, component: type[Any] | None) -> Shape:
        if component is None:
            return ANY
        if component.Output is None:
            return _NOTHING if _returns_nothing(component) else ANY
        return model_shape(component.Output, "output")

    def _children(
        self, task: TaskDeclaration, component: type[Any], known: _Known, more: Mapping[str, Shape]
    ) -> None:
        kind = getattr(component, "branches", "sequence")
        if kind == "loop":
            item = ObjectShape({"index": NUMBER, "key": ANY, "value": ANY, "parent": ANY}, "member")
            for children in task.children.values():
                self._sequence(children, known, {**more, "item": item})
            known.hide(_ids_below((task,)), f'is inside the loop "{task.id}"; its outputs stay there')
        elif kind in ("parallel", "alternatives"):
            branches = list(task.children.values())
            if kind == "parallel":
                branches = [(child,) for children in branches for child in children]
            self._branches(branches, known, more, _BESIDE if kind == "parallel" else _ELSEWHERE)
        else:
            for children in task.children.values():
                self._sequence(children, known, more)

    def _branches(
        self,
        branches: list[tuple[TaskDeclaration, ...]],
        known: _Known,
        more: Mapping[str, Shape],
        why: str,
    ) -> None:
        """Tasks of which none sees those of another branch; what comes after them sees all."""
        ids = [[child.id for child in branch] + _ids_below(branch) for branch in branches]
        for names in ids:
            known.hide(names, why)
        gained: list[_Known] = []
        for branch, names in zip(branches, ids, strict=True):
            known.hide(names, _LATER)
            self._sequence(branch, known, more)
            gained.append(known.only(names))
            known.hide(names, why)
        for one in gained:
            known.update(one)

    # -- expressions

    def _property(
        self,
        component: type[Component],
        name: str,
        node: Node,
        scope: Mapping[str, Shape],
        deferred: Mapping[str, Shape],
    ) -> None:
        role = field_roles(component).get(name)
        if role is STATIC or role is CHILDREN or role is CASES:
            return
        if role is SCRIPT:
            self._script(node, component, name)
        elif role is DEFERRED:
            self._expressions(node, deferred)
        else:
            inner = nested_deferred(component, name) if node.kind == "mapping" else frozenset()
            for key in inner:
                if key in node.value:
                    self._expressions(node.value[key], deferred)
            self._expressions(node, scope, leave=inner)

    def _script(self, node: Node, component: type[Component], field: str) -> None:
        """A body is never rendered; an expression of ours in it is a mistake, unless it is said to be meant."""
        if node.kind == "list":
            for part in node.value:
                self._script(part, component, field)
        if not isinstance(node.value, str):
            return
        what = "a script" if field == "script" else f'"{field}"'
        for start, end, name in find_expressions_naming(node.value, _SCRIPT_NAMES):
            self._reading.problem(
                f'{what} is never rendered, and this names "{name}"',
                self._reading.document.place(node, start),
                f"{_passed_by(component, node.value[start:end])}, or write {{% raw %}}…{{% endraw %}} around it",
                length=end - start,
            )

    def _expressions(
        self, node: Node, names: Mapping[str, Shape], leave: frozenset[str] = frozenset()
    ) -> None:
        """Check every text at and below a node."""
        if node.kind == "mapping":
            for key, value in node.value.items():
                if key not in leave:
                    self._expressions(value, names)
        elif node.kind == "list":
            for value in node.value:
                self._expressions(value, names)
        elif isinstance(node.value, str) and "{" in node.value:
            self._template(node, names)

    def _template(self, node: Node, names: Mapping[str, Shape]) -> None:
        reading = self._reading
        near = None if reading.is_full else reading.near
        try:
            findings = check_template(parse_template(node.value), names, reading.functions, near)
        except ExpressionError as error:
            findings = [Finding(error.message, error.start, error.end, error.hint)]
        for finding in findings:
            place = reading.document.place(node, finding.start)
            length = finding.end - finding.start
            reading.problem(finding.message, place, finding.hint, length=length, severity=finding.severity)


_LATER = "has not run by then"
_BESIDE = "runs beside this one"
_ELSEWHERE = "is in the other branch"


def _ids_below(tasks: Iterable[TaskDeclaration]) -> list[str]:
    return [one.id for task in tasks for one in task.walk() if one is not task]


def _names_of(node: Node | None) -> frozenset[str]:
    """The names that a text reads; none where it cannot be parsed."""
    if node is None or not isinstance(node.value, str):
        return frozenset()
    try:
        return frozenset(names_in(parse_template(node.value).parts))
    except ExpressionError:
        return frozenset()


def _returns_nothing(component: type[Any]) -> bool:
    """Whether a task says of itself that it gives nothing: its ``run`` is declared to return None."""
    declared = getattr(component.run, "__annotations__", {}).get("return", ANY)
    return declared is None or declared == "None"


@cache
def model_shape(model: type[BaseModel], noun: str) -> Shape:
    """The shape of a component's ``Output`` or ``Data`` model."""
    return shape_of_json_schema(
        model.model_json_schema(mode="serialization", schema_generator=PublicJsonSchema), noun
    )


@cache
def nested_deferred(component: type[Component], name: str) -> frozenset[str]:
    """The names of the deferred texts inside a field that is itself a model."""
    import typing

    for python_name, field in component.model_fields.items():
        if name not in (python_name, field.alias):
            continue
        found: set[str] = set()
        for candidate in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                found |= {key for key, role in field_roles(candidate).items() if role is DEFERRED}
        return frozenset(found)
    return frozenset()


def _passed_by(component: type[Component], expression: str) -> str:
    """How a component takes what a text of it must not hold."""
    if "env" in component.model_fields:
        return f'pass it by env: {{NAME: "{expression}"}}'
    if "parameters" in component.model_fields:
        return f'pass it by parameters: ["{expression}"]'
    return "pass it by a field that is rendered"
