"""Tasks of a flow, from YAML to declarations: their components' fields, children, retry and time-out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic import Field as field_of

from hub.config.components import ComponentChecker
from hub.config.reading import Reading, kind_of
from hub.config.yaml import Node
from hub.model.flow import RetryPolicy, RetryType, TaskDeclaration
from hub.plugin.component import Model, field_roles
from hub.plugin.fields import CASES, CHILDREN, Duration
from hub.plugin.task import COMMON

TASK_KEYS = COMMON
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


class Timeout(BaseModel):
    """A length of time, as a task or a flow has it."""

    timeout: Duration


class TaskReader:
    """Builds the task declarations of one flow."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._components = ComponentChecker(reading)
        # ids are distinct over the whole flow
        self._ids: dict[str, Node] = {}
        self.count = 0
        """How many tasks were read."""

    def read(self, node: Node | None, where: str) -> tuple[TaskDeclaration, ...]:
        """A list of tasks that stands at ``where``, with all that is inside them."""
        if node is None:
            return ()
        if node.kind != "list":
            self._reading.at(
                node, f'"{where}" is a list of tasks, got {kind_of(node)}', "begin each task with -"
            )
            return ()
        if not node.value and where not in ("errors", "finally", "else"):
            self._reading.at(node, f'"{where}" has no task')
        found = [self._task(item) for item in node.value]
        return tuple(task for task in found if task is not None)

    def _task(self, node: Node) -> TaskDeclaration | None:
        self.count += 1
        if node.kind != "mapping":
            self._reading.at(node, f"a task is a mapping, got {kind_of(node)}", "write id: and type:")
            return None
        task_id = self._reading.new_id(node, "task", self._ids)
        type_name = self._reading.required_text(node, "type", "task")
        component = self._reading.registry.tasks.get(type_name) if type_name else None
        if type_name and component is None:
            self._reading.unknown_type(
                node.value["type"], "task", type_name, task_id, self._reading.registry.tasks
            )
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
            when=self._reading.plain(node, "when"),
            retry=self._retry(node.get("retry")),
            timeout=self._timeout(node.get("timeout")),
            allow_failure=self._reading.flag(node, "allowFailure"),
            description=self._reading.text(node, "description"),
            disabled=self._reading.flag(node, "disabled"),
        )
        self._reading.nodes[id(declaration)] = node
        if component is not None:
            owner = f'task "{task_id}"' if task_id else "a task"
            empty: dict[str, Any] = {name: {} if roles.get(name) is CASES else () for name in groups}
            self._components.check(component, node, properties, TASK_KEYS, empty, owner)
            self._reading.check_notifier_names(component, node)
        return declaration

    def _children(
        self, node: Node, component: type[Any] | None, roles: Mapping[str, Any]
    ) -> dict[str, tuple[TaskDeclaration, ...]]:
        """The child tasks of a task, by the field they stand in; those of a case as ``cases.KEY``."""
        found: dict[str, tuple[TaskDeclaration, ...]] = {}
        for name, child in node.value.items():
            if roles.get(name) is CASES and child.kind == "mapping":
                for key, tasks in child.value.items():
                    found[f"{name}.{key}"] = self.read(tasks, f"{name}.{key}")
            elif roles.get(name) is CHILDREN or (component is None and _looks_like_tasks(child)):
                found[name] = self.read(child, name)
        return found

    def _retry(self, node: Node | None) -> RetryPolicy | None:
        if node is None:
            return None
        given = node.get("type")
        kind = self._reading.choice(RetryType, given, RetryType.CONSTANT.value)
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
        found = self._components.model(Timeout, node, "timeout", wrap="timeout")
        if found is not None and not found.timeout:
            self._reading.at(node, "a timeout is longer than nothing", "leave it out to have none")
        return node.value if node.kind == "scalar" else None


def _looks_like_tasks(node: Node) -> bool:
    return (
        node.kind == "list"
        and bool(node.value)
        and all(item.kind == "mapping" and "id" in item.value and "type" in item.value for item in node.value)
    )
