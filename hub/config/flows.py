"""From a flow's YAML to ``Flow``: every mistake found, each with its place.

``load_flow`` reads the text, builds the declarations (``flow_tasks``, ``flow_triggers``, ``flow_inputs``), checks
each component's fields with its own model and then every expression (``hub.config.expressions``). All problems
are collected before any is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from hub.config import yaml
from hub.config.components import ComponentChecker, spelled
from hub.config.constants import ConstantChecker
from hub.config.expressions import ExpressionChecker
from hub.config.flow_inputs import InputReader
from hub.config.flow_tasks import MOST_AT_ONCE, TaskReader, Timeout
from hub.config.flow_triggers import TriggerReader
from hub.config.notify import Notify
from hub.config.reading import ID_HINT, Reading, kind_of
from hub.config.yaml import MOST_PROBLEMS, Node
from hub.errors import InvalidFlow, Position, Problem
from hub.expressions import FunctionTable
from hub.model.execution import QueueBehavior
from hub.model.flow import Concurrency, Flow, NotifyRule
from hub.model.ids import is_id, is_namespace
from hub.registry import Registry

# the standard library's log: it writes to stderr in commands too, where nobody has set up another
log = logging.getLogger("hub.flows")

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
_CONCURRENCY_KEYS = ("limit", "key", "behavior")
_MOST_TASKS = 2_000
_NAMESPACE_HINT = "names of letters, digits, - and _ joined by dots"


@dataclass(frozen=True)
class LoadedFlow:
    """A flow that may be saved."""

    flow: Flow
    warnings: tuple[Problem, ...]
    id_position: Position
    trigger_positions: Mapping[str, Position] = field(default_factory=dict)
    """Where each trigger stands, by its id."""


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

    def read(self) -> Flow | None:
        root = self._reading.document.root
        if root.kind != "mapping":
            self._reading.at(
                root, f"a flow is a mapping, got {kind_of(root)}", "start with id:, namespace: and tasks:"
            )
            return None
        self._reading.only(root, FLOW_KEYS, "flow")
        flow_id = self._reading.required_text(root, "id", "flow")
        namespace = self._reading.required_text(root, "namespace", "flow")
        if flow_id and not is_id(flow_id):
            self._reading.at(root.value["id"], f'"{flow_id}" cannot be an id', ID_HINT)
        if namespace and not is_namespace(namespace):
            self._reading.at(root.value["namespace"], f'"{namespace}" cannot be a namespace', _NAMESPACE_HINT)
        if "tasks" not in root.value:
            self._reading.problem('"tasks" is required', root.position, "add tasks: with at least one task")
        of_tasks, triggers, inputs = (
            TaskReader(self._reading),
            TriggerReader(self._reading),
            InputReader(self._reading),
        )
        tasks = of_tasks.read(root.get("tasks"), "tasks")
        errors = of_tasks.read(root.get("errors"), "errors")
        finally_ = of_tasks.read(root.get("finally"), "finally")
        flow = Flow(
            id=flow_id or "",
            namespace=namespace or "",
            tasks=tasks,
            description=self._reading.text(root, "description"),
            labels=self._labels(root.get("labels")),
            disabled=self._reading.flag(root, "disabled"),
            inputs=self._reading.entries(root, "inputs", inputs.read_input),
            variables=self._variables(root.get("variables")),
            concurrency=self._concurrency(root.get("concurrency")),
            timeout=self._flow_timeout(root.get("timeout")),
            triggers=triggers.distinct(self._reading.entries(root, "triggers", triggers.read)),
            errors=errors,
            finally_=finally_,
            outputs=self._reading.entries(root, "outputs", inputs.read_output),
            notify=self._notify(root.get("notify")),
        )
        triggers.in_one_line(flow)
        if of_tasks.count > _MOST_TASKS:
            self._reading.problem(
                f"a flow has at most {_MOST_TASKS:,} tasks, got {of_tasks.count:,}", root.position
            )
        return flow

    def _flow_timeout(self, node: Node | None) -> timedelta | None:
        if node is None:
            return None
        if isinstance(node.value, str) and "{{" in node.value:
            self._reading.at(node, "a flow's timeout is no expression", "write a length such as PT1H")
            return None
        found = self._components.model(Timeout, node, "timeout", wrap="timeout")
        if found is not None and found.timeout <= timedelta():
            self._reading.at(node, "a timeout is longer than nothing", "leave it out to have none")
            return None
        return found.timeout if found is not None else None

    def _concurrency(self, node: Node | None) -> Concurrency | None:
        if node is None:
            return None
        if node.kind != "mapping":
            self._reading.at(node, f'"concurrency" is a mapping, got {kind_of(node)}', "write {limit: 1}")
            return None
        self._reading.only(node, _CONCURRENCY_KEYS, "concurrency")
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
            behavior = self._reading.choice(QueueBehavior, node.value["behavior"]) or behavior
        return Concurrency(limit.value, self._reading.plain(node, "key"), behavior)

    def _labels(self, node: Node | None) -> Mapping[str, str]:
        if node is None:
            return {}
        if node.kind != "mapping":
            self._reading.at(node, f'"labels" is a mapping, got {kind_of(node)}', "write {team: sales}")
            return {}
        labels: dict[str, str] = {}
        for name, value in node.value.items():
            if value.kind != "scalar" or value.value is None:
                self._reading.at(value, f'label "{name}" is text, got {kind_of(value)}')
            else:
                labels[name] = value.value if value.text is None else value.text
                self._reading.never_rendered(value, f'label "{name}"')
        return labels

    def _variables(self, node: Node | None) -> Mapping[str, Any]:
        if node is None:
            return {}
        if node.kind != "mapping":
            self._reading.at(node, f'"variables" is a mapping, got {kind_of(node)}')
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
                self._reading.check_notifier_names(Notify, item)
        return tuple(rules)
