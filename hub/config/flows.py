"""From a flow's YAML to ``Flow``: every mistake found, each with its place.

``load_flow`` reads the text, builds the declarations, checks each component's fields with its own model and
then every expression (``hub.config.expressions``). All problems are collected before any is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic import Field as field_of

from hub.config import yaml
from hub.config.components import ComponentChecker, holds_expression, spelled
from hub.config.constants import ConstantChecker
from hub.config.expressions import ExpressionChecker
from hub.config.inputs import convert
from hub.config.notify import Notify
from hub.config.yaml import MOST_PROBLEMS, Document, Node
from hub.errors import InvalidFlow, Position, Problem, did_you_mean
from hub.expressions import FunctionTable
from hub.model import jsontext
from hub.model.execution import QueueBehavior
from hub.model.flow import (
    Concurrency,
    Flow,
    InputDeclaration,
    InputType,
    NotifyRule,
    OutputDeclaration,
    RetryPolicy,
    RetryType,
    TaskDeclaration,
    TriggerDeclaration,
)
from hub.model.ids import is_id, is_namespace
from hub.plugin.component import Model, field_roles, naming_fields
from hub.plugin.fields import CASES, CHILDREN, Duration
from hub.plugin.task import COMMON
from hub.plugin.trigger import HttpTrigger, collide
from hub.registry import Registry

# the standard library's log: it writes to stderr in commands too, where nobody has set up another
log = logging.getLogger("hub.flows")

E = TypeVar("E", bound=Enum)

FLOW_KEYS = (
    "id",
    "namespace",
    "description",
    "labels",
    "disabled",
    "inputs",
    "variables",
    "concurrency",
    "timeout",
    "tasks",
    "triggers",
    "errors",
    "finally",
    "outputs",
    "notify",
)
TASK_KEYS = COMMON
TRIGGER_KEYS = ("id", "type", "when", "inputs", "description", "disabled")
_INPUT_KEYS = ("id", "type", "required", "defaults", "description", "values")
_OUTPUT_KEYS = ("id", "type", "value", "description")
_CONCURRENCY_KEYS = ("limit", "key", "behavior")
_MOST_TASKS = 2_000
_MOST_COMPARED = 20_000
MOST_AT_ONCE = 1_000_000
"""The largest limit of executions or attempts: nobody means more, and every storage can keep it."""


class Retry(Model):
    """When a failed attempt is tried again."""

    type: str = field_of("constant", description="How the delay grows: constant, exponential or random.")
    interval: Duration = field_of(..., description="The first delay; the shortest one for `random`.")
    max_interval: Duration | None = field_of(None, description="The longest delay.")
    max_attempts: int | None = field_of(
        None, ge=1, le=MOST_AT_ONCE, description="How many attempts at most, the first included."
    )
    max_duration: Duration | None = field_of(
        None, description="No attempt begins later than this after the first."
    )
    delay_factor: float = field_of(
        2.0, ge=1, le=100, description="What `exponential` multiplies the delay by."
    )
    jitter: bool = field_of(False, description="Shorten each delay by up to half, by chance.")
    warning_on_retry: bool = field_of(
        False, description="End with WARNING when it took more than one attempt."
    )


@dataclass(frozen=True)
class LoadedFlow:
    """A flow that may be saved."""

    flow: Flow
    warnings: tuple[Problem, ...]
    id_position: Position
    trigger_positions: Mapping[str, Position] = field(default_factory=dict)
    """Where each trigger stands, by its id."""


@dataclass
class Reading:
    """What the reading of one file has found so far."""

    document: Document
    registry: Registry
    functions: FunctionTable
    problems: list[Problem] = field(default_factory=list)
    nodes: dict[int, Node] = field(default_factory=dict)
    """The node behind a declaration, by the declaration's ``id()``."""
    compared: int = 0
    """How many names were looked at for hints."""

    @property
    def is_full(self) -> bool:
        """Whether there are as many problems as are shown: hints for more would be thrown away."""
        return len(self.problems) >= MOST_PROBLEMS

    def near(self, name: str, known: Sequence[str]) -> str | None:
        """A hint with the nearest of the known names, as long as the file has not asked for too many."""
        if self.is_full or self.compared > _MOST_COMPARED:
            return None
        self.compared += len(known)
        return did_you_mean(name, known)

    def problem(
        self,
        message: str,
        position: Position,
        hint: str | None = None,
        *,
        length: int = 1,
        severity: str = "error",
    ) -> None:
        self.problems.append(
            Problem(message, position, hint, severity, file=self.document.file, length=max(length, 1))
        )

    def at(self, node: Node, message: str, hint: str | None = None) -> None:
        length = node.end - node.start if node.kind == "scalar" and node.style not in ("|", ">") else 1
        self.problem(message, node.position, hint, length=min(length, 80))


def load_flow(
    source: str, *, file: str | None = None, registry: Registry, functions: FunctionTable
) -> LoadedFlow:
    """The flow a source declares. Raises ``InvalidFlow`` with every problem, in file order.

    Nothing else is raised: a fault of ours, or of a plugin's model, is a problem of that one file and must
    not end the hub that reads a folder of them.
    """
    try:
        return _load(source, file, registry, functions)
    except InvalidFlow:
        raise
    except Exception as error:
        log.exception("internal error while reading the flow %s", file or "")
        problem = Problem(
            f"internal error while reading this file: {type(error).__name__}",
            Position(1, 1),
            "the log has the details; please report them",
            file=file,
        )
        raise InvalidFlow([problem]) from error


def _load(source: str, file: str | None, registry: Registry, functions: FunctionTable) -> LoadedFlow:
    document = yaml.parse(source, file)
    reading = Reading(document, registry, functions, problems=list(document.problems))
    flow = _FlowReader(reading).read()
    if flow is not None:
        ExpressionChecker(reading, flow).check()
        if not any(problem.severity == "error" for problem in reading.problems):
            ConstantChecker(reading, flow).check()
    found = _shown(reading.problems)
    if flow is None or any(problem.severity == "error" for problem in found):
        raise InvalidFlow(found)
    id_node = document.root.get("id")
    position = id_node.position if id_node is not None else Position(1, 1)
    places = {trigger.id: reading.nodes[id(trigger)].position for trigger in flow.triggers}
    return LoadedFlow(flow, tuple(found), position, places)


def _shown(problems: Sequence[Problem]) -> list[Problem]:
    """The problems in file order, each once (an alias brings its text's again), and no more than can be read."""
    found = sorted(dict.fromkeys(problems), key=lambda p: (p.position.line, p.position.column))
    shown, rest = found[:MOST_PROBLEMS], found[MOST_PROBLEMS:]
    if not rest:
        return shown
    errors = sum(problem.severity == "error" for problem in rest)
    severity = "error" if errors else "warning"
    more = f"and {len(rest):,} more, {errors:,} of them errors"
    return [*shown, Problem(more, rest[0].position, severity=severity, file=rest[0].file)]


class _FlowReader:
    """Builds the declarations of one document."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._components = ComponentChecker(reading)
        self._ids: dict[str, Node] = {}
        self._count = 0

    def read(self) -> Flow | None:
        root = self._reading.document.root
        if root.kind != "mapping":
            self._reading.at(
                root, f"a flow is a mapping, got {_kind(root)}", "start with id:, namespace: and tasks:"
            )
            return None
        self._only(root, FLOW_KEYS, "flow")
        flow_id = self._required_text(root, "id", "flow")
        namespace = self._required_text(root, "namespace", "flow")
        if flow_id and not is_id(flow_id):
            self._reading.at(root.value["id"], f'"{flow_id}" cannot be an id', _ID_HINT)
        if namespace and not is_namespace(namespace):
            self._reading.at(root.value["namespace"], f'"{namespace}" cannot be a namespace', _NAMESPACE_HINT)
        if "tasks" not in root.value:
            self._reading.problem('"tasks" is required', root.position, "add tasks: with at least one task")
        tasks = self._tasks(root.get("tasks"), "tasks")
        errors = self._tasks(root.get("errors"), "errors")
        finally_ = self._tasks(root.get("finally"), "finally")
        flow = Flow(
            id=flow_id or "",
            namespace=namespace or "",
            tasks=tasks,
            description=self._text(root, "description"),
            labels=self._labels(root.get("labels")),
            disabled=self._flag(root, "disabled"),
            inputs=self._list(root, "inputs", self._input),
            variables=self._variables(root.get("variables")),
            concurrency=self._concurrency(root.get("concurrency")),
            timeout=self._flow_timeout(root.get("timeout")),
            triggers=self._distinct(self._list(root, "triggers", self._trigger)),
            errors=errors,
            finally_=finally_,
            outputs=self._list(root, "outputs", self._output),
            notify=self._notify(root.get("notify")),
        )
        self._in_one_line(flow)
        if self._count > _MOST_TASKS:
            self._reading.problem(
                f"a flow has at most {_MOST_TASKS:,} tasks, got {self._count:,}", root.position
            )
        return flow

    # -- tasks and triggers

    def _tasks(self, node: Node | None, where: str) -> tuple[TaskDeclaration, ...]:
        if node is None:
            return ()
        if node.kind != "list":
            self._reading.at(
                node, f'"{where}" is a list of tasks, got {_kind(node)}', "begin each task with -"
            )
            return ()
        if not node.value and where not in ("errors", "finally", "else"):
            self._reading.at(node, f'"{where}" has no task')
        found = [self._task(item) for item in node.value]
        return tuple(task for task in found if task is not None)

    def _task(self, node: Node) -> TaskDeclaration | None:
        self._count += 1
        if node.kind != "mapping":
            self._reading.at(node, f"a task is a mapping, got {_kind(node)}", "write id: and type:")
            return None
        task_id = self._new_id(node, "task", self._ids)
        type_name = self._required_text(node, "type", "task")
        component = self._reading.registry.tasks.get(type_name) if type_name else None
        if type_name and component is None:
            self._unknown_type(node.value["type"], "task", type_name, task_id, self._reading.registry.tasks)
        roles = field_roles(component) if component is not None else {}
        children = self._children(node, component, roles)
        if "retry" in node.value and any(role in (CHILDREN, CASES) for role in roles.values()):
            hint = "put it on the tasks inside"
            self._reading.at(node.value["retry"], "retry: a group is not tried again as a whole", hint)
        groups = {name.split(".")[0] for name in children}
        properties = {
            name: child.plain()
            for name, child in node.value.items()
            if name not in TASK_KEYS and name not in groups
        }
        declaration = TaskDeclaration(
            id=task_id or "",
            type=type_name or "",
            properties=properties,
            children=children,
            when=self._plain(node, "when"),
            retry=self._retry(node.get("retry")),
            timeout=self._timeout(node.get("timeout")),
            allow_failure=self._flag(node, "allowFailure"),
            description=self._text(node, "description"),
            disabled=self._flag(node, "disabled"),
        )
        self._reading.nodes[id(declaration)] = node
        if component is not None:
            owner = f'task "{task_id}"' if task_id else "a task"
            empty: dict[str, Any] = {name: {} if roles.get(name) is CASES else () for name in groups}
            self._components.check(component, node, properties, TASK_KEYS, empty, owner)
            self._check_names(component, node)
        return declaration

    def _check_names(self, model: type[BaseModel], node: Node) -> None:
        """Warn of a name that ``hub.yaml`` does not have: it may get it before anybody is to be told."""
        known = self._reading.registry.notifier_names
        if known is None or node.kind != "mapping":
            return
        for key in naming_fields(model):
            named = node.get(key)
            for item in (named.value if named.kind == "list" else [named]) if named is not None else ():
                name = item.value
                if isinstance(name, str) and name not in known and "{" not in name:
                    hint = self._reading.near(name, sorted(known))
                    self._reading.problem(
                        f'no notifier is called "{name[:60]}" in hub.yaml',
                        item.position,
                        hint or f"add it there: notifiers: {{{name[:60]}: {{type: …}}}}",
                        length=min(item.end - item.start, 80),
                        severity="warning",
                    )

    def _children(
        self, node: Node, component: type[Any] | None, roles: Mapping[str, Any]
    ) -> dict[str, tuple[TaskDeclaration, ...]]:
        """The child tasks of a task, by the field they stand in; those of a case as ``cases.KEY``."""
        found: dict[str, tuple[TaskDeclaration, ...]] = {}
        for name, child in node.value.items():
            if roles.get(name) is CASES and child.kind == "mapping":
                for key, tasks in child.value.items():
                    found[f"{name}.{key}"] = self._tasks(tasks, f"{name}.{key}")
            elif roles.get(name) is CHILDREN or (component is None and _looks_like_tasks(child)):
                found[name] = self._tasks(child, name)
        return found

    def _trigger(self, node: Node, ids: dict[str, Node]) -> TriggerDeclaration | None:
        trigger_id = self._new_id(node, "trigger", ids)
        type_name = self._required_text(node, "type", "trigger")
        component = self._reading.registry.triggers.get(type_name) if type_name else None
        if type_name and component is None:
            known = self._reading.registry.triggers
            self._unknown_type(node.value["type"], "trigger", type_name, trigger_id, known)
        given = node.get("inputs")
        if given is not None and given.kind != "mapping":
            self._reading.at(given, f'"inputs" of a trigger is a mapping, got {_kind(given)}')
            given = None
        properties = {name: child.plain() for name, child in node.value.items() if name not in TRIGGER_KEYS}
        declaration = TriggerDeclaration(
            id=trigger_id or "",
            type=type_name or "",
            properties=properties,
            when=self._plain(node, "when"),
            inputs=given.plain() if given is not None else {},
            description=self._text(node, "description"),
            disabled=self._flag(node, "disabled"),
        )
        self._reading.nodes[id(declaration)] = node
        if component is not None:
            owner = f'trigger "{trigger_id}"' if trigger_id else "a trigger"
            self._components.check(component, node, properties, TRIGGER_KEYS, {}, owner)
        return declaration

    def _distinct(self, triggers: tuple[TriggerDeclaration, ...]) -> tuple[TriggerDeclaration, ...]:
        """Find triggers that would never receive a request, because an earlier one has their address."""
        known: list[tuple[TriggerDeclaration, HttpTrigger]] = []
        for declaration in triggers:
            trigger = self._receiver(declaration)
            if trigger is None:
                continue
            first = next((one for one, other in known if collide(other, trigger)), None)
            if first is not None:
                self._reading.at(
                    self._reading.nodes[id(declaration)].value["key"],
                    f'trigger "{declaration.id}" has the key of trigger "{first.id}"',
                    "give it another key, or methods of its own",
                )
            known.append((declaration, trigger))
        return triggers

    def _in_one_line(self, flow: Flow) -> None:
        """Find triggers that put executions in order, where the flow's own limit has them in another line."""
        if flow.concurrency is None:
            return
        for declaration in flow.triggers:
            component = self._reading.registry.triggers.get(declaration.type)
            if component is not None and component.orders(declaration.properties):
                self._reading.at(
                    self._reading.nodes[id(declaration)],
                    f'trigger "{declaration.id}" puts executions in order and the flow has a concurrency limit:'
                    " an execution stands in one line",
                    "take out concurrency:, or the trigger's order",
                )

    def _receiver(self, declaration: TriggerDeclaration) -> HttpTrigger | None:
        """An enabled trigger that receives requests at an address that is known already."""
        component = self._reading.registry.triggers.get(declaration.type)
        key = str(declaration.properties.get("key", "{{"))
        if declaration.disabled or component is None or not issubclass(component, HttpTrigger):
            return None
        if "{{" in key or "{%" in key:
            return None
        try:
            return component.model_validate(declaration.properties)
        except ValidationError:
            return None  # said already, or an expression that is judged later

    def _unknown_type(
        self, node: Node, kind: str, name: str, owner: str | None, known: Mapping[str, object]
    ) -> None:
        hint = self._reading.registry.explain(kind, name) or self._reading.near(name, list(known))
        other = self._reading.registry.triggers if kind == "task" else self._reading.registry.tasks
        if hint is None and name in other:
            hint = f"{name} is a {'trigger' if kind == 'task' else 'task'}"
        if hint is None:
            hint = "hub plugins list shows what is installed"
        self._reading.at(
            node, f'unknown {kind} type "{name}"' + (f' in {kind} "{owner}"' if owner else ""), hint
        )

    def _retry(self, node: Node | None) -> RetryPolicy | None:
        if node is None:
            return None
        given = node.get("type")
        kind = self._enum(RetryType, given, RetryType.CONSTANT.value)
        found = self._components.model(Retry, node, "retry", but=("type",))
        if found is None or kind is None:
            return None
        if kind is RetryType.RANDOM and found.max_interval is None:
            self._reading.at(node, "a random retry needs maxInterval", "add maxInterval: PT30S")
        if found.max_interval is not None and found.max_interval < found.interval:
            place = node.value["maxInterval"]
            self._reading.at(place, "maxInterval is shorter than interval", "it is the longest delay")
        return RetryPolicy(
            type=kind,
            interval=found.interval,
            max_interval=found.max_interval,
            max_attempts=found.max_attempts,
            max_duration=found.max_duration,
            delay_factor=found.delay_factor,
            jitter=found.jitter,
            warning_on_retry=found.warning_on_retry,
        )

    def _timeout(self, node: Node | None) -> Any:
        if node is None:
            return None
        if isinstance(node.value, str) and "{{" in node.value:
            return node.value
        found = self._components.model(_Timeout, node, "timeout", wrap="timeout")
        if found is not None and not found.timeout:
            self._reading.at(node, "a timeout is longer than nothing", "leave it out to have none")
        return node.value if node.kind == "scalar" else None

    # -- the rest of the flow

    def _flow_timeout(self, node: Node | None) -> timedelta | None:
        if node is None:
            return None
        if isinstance(node.value, str) and "{{" in node.value:
            self._reading.at(node, "a flow's timeout is no expression", "write a length such as PT1H")
            return None
        found = self._components.model(_Timeout, node, "timeout", wrap="timeout")
        if found is not None and found.timeout <= timedelta():
            self._reading.at(node, "a timeout is longer than nothing", "leave it out to have none")
            return None
        return found.timeout if found is not None else None

    def _input(self, node: Node, ids: dict[str, Node]) -> InputDeclaration | None:
        self._only(node, _INPUT_KEYS, "input")
        name = self._new_id(node, "input", ids)
        type_node = node.get("type")
        if type_node is None:
            self._reading.problem(
                '"type" is required in an input', node.position, f"one of {_all(InputType)}"
            )
            return None
        kind = self._enum(InputType, type_node)
        if kind is None or name is None:
            return None
        choices = self._choices(node.get("values"))
        if kind is InputType.SELECT and not (node.value["values"].value if "values" in node.value else None):
            self._reading.problem("a SELECT input needs values", node.position, "add values: [one, other]")
        defaults = node.get("defaults")
        default = defaults.plain() if defaults is not None else None
        if defaults is not None and default is not None and (kind is not InputType.SELECT or choices):
            try:
                convert(kind, default, choices)
            except ValueError as error:
                self._reading.at(defaults, f'defaults of input "{name}": {error}')
            else:
                self._never_rendered(defaults, f'defaults of input "{name}"')
        return InputDeclaration(
            id=name,
            type=kind,
            required=self._flag(node, "required", True),
            defaults=default,
            description=self._text(node, "description"),
            values=choices,
        )

    def _choices(self, values: Node | None) -> tuple[str, ...]:
        """What a SELECT chooses from, spelled as JSON spells it, as values from outside are."""
        if values is None:
            return ()
        if values.kind != "list":
            self._reading.at(values, f'"values" is a list, got {_kind(values)}', "write [one, other]")
            return ()
        found: dict[str, None] = {}
        for one in values.value:
            if one.kind != "scalar" or one.value is None:
                self._reading.at(one, f"each of the values is text, got {_kind(one)}")
                continue
            text = one.value if isinstance(one.value, str) else jsontext.dumps(one.value)
            if text in found:
                self._reading.at(one, f'duplicate value "{text}"')
            found[text] = None
        return tuple(found)

    def _never_rendered(self, node: Node, what: str) -> None:
        """Warn of an expression where none is looked for."""
        if holds_expression(node, whole=True):
            self._reading.problem(
                f"{what} is never rendered: it stays as it is written",
                node.position,
                "put the expression where it is used, or under variables:",
                length=node.end - node.start if node.kind == "scalar" else 1,
                severity="warning",
            )

    def _output(self, node: Node, ids: dict[str, Node]) -> OutputDeclaration | None:
        self._only(node, _OUTPUT_KEYS, "output")
        name = self._new_id(node, "output", ids)
        type_node = node.get("type")
        kind = InputType.JSON if type_node is None else self._enum(InputType, type_node)
        if "value" not in node.value:
            self._reading.problem('"value" is required in an output', node.position)
            return None
        if kind is InputType.SELECT:
            self._reading.at(type_node or node, "an output is no SELECT", "write STRING")
            return None
        if name is None or kind is None:
            return None
        declaration = OutputDeclaration(
            name, kind, self._plain(node, "value"), self._text(node, "description")
        )
        self._reading.nodes[id(declaration)] = node
        return declaration

    def _concurrency(self, node: Node | None) -> Concurrency | None:
        if node is None:
            return None
        if node.kind != "mapping":
            self._reading.at(node, f'"concurrency" is a mapping, got {_kind(node)}', "write {limit: 1}")
            return None
        self._only(node, _CONCURRENCY_KEYS, "concurrency")
        limit = node.get("limit")
        if limit is None:
            self._reading.problem('"limit" is required in concurrency', node.position)
            return None
        if not isinstance(limit.value, int) or not 1 <= limit.value <= MOST_AT_ONCE or limit.value is True:
            self._reading.at(
                limit,
                f"limit is a whole number from 1 to {MOST_AT_ONCE:,}, got {spelled(limit.plain())}",
            )
            return None
        behavior = QueueBehavior.QUEUE
        if "behavior" in node.value:
            behavior = self._enum(QueueBehavior, node.value["behavior"]) or behavior
        return Concurrency(limit.value, self._plain(node, "key"), behavior)

    def _labels(self, node: Node | None) -> Mapping[str, str]:
        if node is None:
            return {}
        if node.kind != "mapping":
            self._reading.at(node, f'"labels" is a mapping, got {_kind(node)}', "write {team: sales}")
            return {}
        labels: dict[str, str] = {}
        for name, value in node.value.items():
            if value.kind != "scalar" or value.value is None:
                self._reading.at(value, f'label "{name}" is text, got {_kind(value)}')
            else:
                labels[name] = value.value if value.text is None else value.text
                self._never_rendered(value, f'label "{name}"')
        return labels

    def _variables(self, node: Node | None) -> Mapping[str, Any]:
        if node is None:
            return {}
        if node.kind != "mapping":
            self._reading.at(node, f'"variables" is a mapping, got {_kind(node)}')
            return {}
        found: Mapping[str, Any] = node.plain()
        return found

    def _notify(self, node: Node | None) -> tuple[NotifyRule, ...]:
        """One rule, or a list of them; what their templates hold is checked with the other expressions."""
        if node is None:
            return ()
        rules: list[NotifyRule] = []
        for item in node.value if node.kind == "list" else [node]:
            found = self._components.model(Notify, item, "notify")
            if found is not None:
                rules.append(found.rule())
                self._check_names(Notify, item)
        return tuple(rules)

    # -- small parts

    def _list(self, root: Node, name: str, read: Callable[[Node, dict[str, Node]], Any]) -> tuple[Any, ...]:
        node = root.get(name)
        if node is None:
            return ()
        if node.kind != "list":
            self._reading.at(node, f'"{name}" is a list, got {_kind(node)}', "begin each entry with -")
            return ()
        ids: dict[str, Node] = {}
        found = []
        for item in node.value:
            if item.kind != "mapping":
                self._reading.at(item, f'each of "{name}" is a mapping, got {_kind(item)}')
                continue
            one = read(item, ids)
            if one is not None:
                found.append(one)
        return tuple(found)

    def _only(self, node: Node, allowed: Sequence[str], what: str) -> None:
        for name, key in node.keys.items():
            if name not in allowed:
                hint = self._reading.near(name, allowed) or f"{_a(what)} has {', '.join(allowed)}"
                self._reading.at(key, f'unknown property "{name}"', hint)

    def _new_id(self, node: Node, what: str, ids: dict[str, Node]) -> str | None:
        name = self._required_text(node, "id", what)
        if name is None:
            return None
        place = node.value["id"]
        if not is_id(name):
            self._reading.at(place, f'"{name}" cannot be an id', _ID_HINT)
        elif name in ids:
            self._reading.at(place, f'duplicate {what} id "{name}"', f"the first is on line {ids[name].line}")
        ids.setdefault(name, place)
        return name

    def _required_text(self, node: Node, name: str, what: str) -> str | None:
        found = node.get(name)
        if found is None:
            self._reading.problem(f'"{name}" is required in {_a(what)}', node.position)
            return None
        if (
            found.text is not None
            and isinstance(found.value, int | float)
            and not isinstance(found.value, bool)
        ):
            return found.text
        if not isinstance(found.value, str) or not found.value:
            self._reading.at(found, f'"{name}" is text, got {_kind(found)}')
            return None
        return found.value

    def _text(self, node: Node, name: str) -> str | None:
        found = node.get(name)
        if found is None or found.value is None:
            return None
        if found.kind != "scalar":
            self._reading.at(found, f'"{name}" is text, got {_kind(found)}')
            return None
        text: str = found.value if found.text is None else found.text
        return text

    def _flag(self, node: Node, name: str, default: bool = False) -> bool:
        found = node.get(name)
        if found is None:
            return default
        if isinstance(found.value, bool):
            return found.value
        hint = "YAML 1.2 knows true and false only" if found.value in ("yes", "no", "on", "off") else None
        self._reading.at(found, f'"{name}" is true or false, got {spelled(found.plain())}', hint)
        return default

    def _plain(self, node: Node, name: str) -> Any:
        found = node.get(name)
        return found.plain() if found is not None else None

    def _enum(self, kind: type[E], node: Node | None, text: Any = None) -> E | None:
        given = node.value if node is not None else text
        by_name = {str(member.value).lower(): member for member in kind}
        found = by_name.get(given.lower()) if isinstance(given, str) else None
        if found is None and node is not None:
            known = [str(member.value) for member in kind]
            hint = self._reading.near(str(given), known) or f"one of {_all(kind)}"
            self._reading.at(node, f"{spelled(node.plain())} is not known here", hint)
        return found


class _Timeout(BaseModel):
    timeout: Duration


_ID_HINT = "letters, digits, - and _, beginning with a letter or digit"
_NAMESPACE_HINT = "names of letters, digits, - and _ joined by dots"


def _a(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def _all(kind: type[Enum]) -> str:
    return ", ".join(str(member.value) for member in kind)


def _looks_like_tasks(node: Node) -> bool:
    return (
        node.kind == "list"
        and bool(node.value)
        and all(item.kind == "mapping" and "id" in item.value and "type" in item.value for item in node.value)
    )


def _kind(node: Node) -> str:
    if node.kind == "mapping":
        return "a mapping"
    if node.kind == "list":
        return "a list"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "a boolean"
    if isinstance(node.value, int | float):
        return "a number"
    return "text" if node.value else "empty text"
