"""The event that an execution's end is, where some flow waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hub.model.event import Event
from hub.model.execution import Execution, ExecutionState

FLOW_FINISHED = "hub.flow.finished"
"""Its type."""


def end_event(
    execution: Execution,
    state: ExecutionState,
    *,
    at: datetime,
    outputs: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> Event:
    """The event; its data is what ``flow.finished`` shows as ``trigger``."""
    flow = execution.flow
    return Event(
        id=f"{execution.id}.{state.value}" + (f".{execution.restarts}" if execution.restarts else ""),
        source=f"/{flow}",
        type=FLOW_FINISHED,
        time=at,
        namespace=flow.namespace,
        flow=flow.id,
        trigger=None,
        data={
            "executionId": execution.id,
            "namespace": flow.namespace,
            "flowId": flow.id,
            "flowRevision": execution.revision,
            "state": state.value,
            "labels": dict(execution.labels),
            "inputs": dict(execution.inputs),
            "outputs": dict(outputs or {}),
            "error": error,
        },
        subject=execution.id,
        depth=execution.depth + 1,
    )
