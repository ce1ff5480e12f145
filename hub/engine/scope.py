"""What expressions see while an execution runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hub.clock import iso
from hub.model.execution import Claim
from hub.model.task_run import TaskRun


class RunScope:
    """The names at one place of the tree: a loop's iterations have their own outputs and item."""

    __slots__ = ("names", "outputs", "prefix", "stored")

    def __init__(
        self, names: dict[str, Any], outputs: dict[str, Any], prefix: str, stored: Mapping[str, TaskRun]
    ) -> None:
        self.prefix = prefix
        """What the paths of task runs here begin with."""
        self.stored = stored
        """The task runs that an earlier walk left here, by path."""
        self.outputs = outputs
        self.names = names
        names["outputs"] = outputs

    def inside(self, prefix: str, names: Mapping[str, Any]) -> RunScope:
        """The scope of one iteration: it sees what is around it and keeps its own outputs to itself."""
        item, outer = names.get("item"), self.names.get("item")
        if item is not None and outer is not None:
            names = {**names, "item": {**item, "parent": outer}}
        return RunScope({**self.names, **names}, self.outputs.copy(), prefix, {})

    def beside(self, prefix: str, names: Mapping[str, Any]) -> RunScope:
        """The scope of a branch that shares the outputs around it."""
        return RunScope({**self.names, **names}, self.outputs, prefix, self.stored)


def top_scope(
    claim: Claim,
    *,
    flow: Mapping[str, Any],
    trigger: Mapping[str, Any],
    started_at: datetime,
    stored: Mapping[str, TaskRun],
    shows_execution: bool,
) -> RunScope:
    """The names every task of an execution sees; ``execution`` only where the flow names it."""
    execution = claim.execution
    names: dict[str, Any] = {
        "inputs": execution.inputs,
        "vars": {},
        "trigger": trigger,
        "flow": flow,
        "labels": execution.labels,
    }
    if shows_execution:
        names["execution"] = {
            "id": execution.id,
            "createdAt": iso(execution.created_at),
            "startedAt": iso(started_at),
            "trigger": execution.trigger,
        }
    return RunScope(names, {}, "", stored)
