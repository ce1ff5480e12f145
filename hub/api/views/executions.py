"""Executions, their task runs and log lines, and what starts, replays or purges them."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from hub.api.lists import Fitting
from hub.api.views.base import OMITTED, Label, View
from hub.clock import iso
from hub.model.execution import Execution
from hub.model.task_run import TaskRun
from hub.plugin.storage import LogLine


class TaskRunView(View):
    """One task in an execution."""

    path: str = Field(description="Where it is in the tree, `each[3]/book`.")
    task: str = Field(description="The task's id.")
    type: str
    state: str
    attempts: int = Field(description="How many attempts were made.")
    outputs: Any = None
    error: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    wake_at: str | None = Field(None, description="Until when it waits.")
    omitted: dict[str, str] = OMITTED

    @classmethod
    async def of(cls, run: TaskRun, fitting: Fitting, where: str = "") -> TaskRunView:
        return cls(
            path=run.path,
            task=run.task,
            type=run.type,
            state=run.state.value,
            attempts=run.attempts,
            outputs=await fitting.stored("outputs", run.outputs, where),
            error=run.error,
            started_at=iso(run.started_at) if run.started_at else None,
            ended_at=iso(run.ended_at) if run.ended_at else None,
            wake_at=iso(run.wake_at) if run.wake_at and not run.state.is_terminal else None,
            omitted=fitting.omitted(),
        )


class ExecutionSummary(View):
    """An execution in a list."""

    id: str
    namespace: str
    flow: str = Field(description="The flow's id.")
    revision: int
    state: str
    labels: dict[str, str] = {}
    inputs: Any = {}
    outputs: Any = None
    error: str | None = None
    trigger_id: str | None = None
    event_id: str | None = None
    parent_id: str | None = Field(None, description="The execution that waits for it.")
    parent_path: str | None = Field(None, description="The task run there that started it.")
    replay_of: str | None = Field(None, description="The execution or event that it repeats.")
    restarts: int = Field(0, description="How often it was brought back after its end.")
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    wake_at: str | None = Field(None, description="Until when all of it waits.")
    omitted: dict[str, str] = OMITTED

    @classmethod
    async def fields_of(cls, execution: Execution, fitting: Fitting) -> dict[str, Any]:
        where = f"/api/v1/executions/{execution.id}"
        return {
            "id": execution.id,
            "namespace": execution.flow.namespace,
            "flow": execution.flow.id,
            "revision": execution.revision,
            "state": execution.state.value,
            "labels": dict(execution.labels),
            "inputs": await fitting.stored("inputs", execution.inputs, where),
            "outputs": await fitting.stored("outputs", execution.outputs, where),
            "error": execution.error,
            "trigger_id": execution.trigger,
            "event_id": execution.event_id,
            "parent_id": execution.parent.execution_id if execution.parent else None,
            "parent_path": execution.parent.path if execution.parent else None,
            "replay_of": execution.replay_of,
            "restarts": execution.restarts,
            "created_at": iso(execution.created_at),
            "started_at": iso(execution.started_at) if execution.started_at else None,
            "ended_at": iso(execution.ended_at) if execution.ended_at else None,
            "wake_at": iso(execution.wake_at) if execution.wake_at else None,
        }

    @classmethod
    async def of(cls, execution: Execution, fitting: Fitting) -> ExecutionSummary:
        fields = await cls.fields_of(execution, fitting)
        return cls(**fields, omitted=fitting.omitted())


class ExecutionView(ExecutionSummary):
    """One execution with its task runs."""

    trigger: Any = Field(None, description="What expressions see as `trigger`.")
    task_runs: list[TaskRunView] = Field([], description="The first 1,000, in the order they started.")
    task_runs_cursor: str | None = Field(None, description="Where the rest of the task runs begins.")


class ExecutionList(View):
    """A page of executions, newest first."""

    items: list[ExecutionSummary]
    next_cursor: str | None = None
    total: int | None = Field(None, description="How many match; only with `count=true`.")


class TaskRunList(View):
    """A page of task runs."""

    items: list[TaskRunView]
    next_cursor: str | None = None


class LogLineView(View):
    """One line of an execution's log."""

    number: int
    time: str
    level: str
    message: str
    path: str
    attempt: int
    stream: str | None = None

    @classmethod
    def of(cls, line: LogLine) -> LogLineView:
        return cls(
            number=line.number,
            time=iso(line.time),
            level=line.level,
            message=line.message,
            path=line.path,
            attempt=line.attempt,
            stream=line.stream,
        )


class LogList(View):
    """Log lines in order."""

    items: list[LogLineView]
    next_after: int | None = Field(None, description="Ask again with `after` set to this; null at the end.")


class NewExecutionBody(View):
    """What to start a flow with."""

    model_config = ConfigDict(extra="forbid")

    inputs: dict[str, Any] = {}
    labels: dict[str, Label] = Field({}, max_length=64, description="Beside the flow's own.")
    trigger: str | None = Field(None, description="Start it as if this trigger had fired.")
    data: Any = Field(
        None, description="What expressions then see as `trigger`; for a webhook its body alone will do."
    )


class ReplayBody(View):
    """What a replay does otherwise than the original."""

    model_config = ConfigDict(extra="forbid")

    inputs: dict[str, Any] = Field({}, description="In place of the original's, by name.")
    labels: dict[str, Label] = Field({}, max_length=64, description="Beside the original's.")
    revision: int | None = Field(
        None, ge=1, le=2**63 - 1, description="Another revision of the flow; the original's by default."
    )
    from_task: str | None = Field(
        None, description="Take over what completed before this task; without inputs of its own."
    )


class ReplayView(ExecutionView):
    """The execution that a replay is."""

    gone: list[str] = Field(
        [],
        description="Tasks of the original that this revision does not have; their outputs are not taken over.",
    )


class PurgeBody(View):
    """Which ended executions to remove; `before` or `olderThan` says which are old enough."""

    model_config = ConfigDict(extra="forbid")

    before: str | None = Field(None, description="Ended before this moment, ISO 8601.")
    older_than: str | None = Field(None, description="Ended longer ago than this, `30d` or `P30D`.")
    namespace: str | None = Field(None, description="Only of this namespace.")
    flow: str | None = Field(None, description="Only of flows of this id.")
    states: list[str] = Field([], max_length=20, description="Only those that ended in one of these states.")
    dry_run: bool = Field(False, description="Only count.")
    limit: int = Field(
        10_000, ge=1, le=100_000, description="How many at most; ask again while there are more."
    )


class PurgeAnswer(View):
    """What a purge did, or would do."""

    executions: int = Field(description="How many were removed, with task runs, logs and files.")
    more: bool = Field(description="Whether there are more.")
    dry_run: bool = Field(description="Whether they were only counted.")
