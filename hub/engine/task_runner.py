"""Run one task run to its outcome: guard, start, attempts, time-out, retry, wait.

Called by the executor for every task of the tree. What decides the path (decided fields, deadlines, the time
of the next attempt) is stored before it is used, and read, not made again, on a later walk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from hub.engine.compiled import CompiledTask
from hub.engine.scope import RunScope
from hub.engine.task_context import RunningTask, outputs_of
from hub.errors import HubError, InvalidInput, NotFound, StorageError
from hub.model.durations import format_duration, parse_duration
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.outcomes import Fail, Failed, Outcome, Retry, Skip, Wait
from hub.plugin.task import Task

if TYPE_CHECKING:
    from hub.engine.executor import Executor

log = structlog.get_logger("hub.engine")

_FALSE_TEXTS = {"", "false", "0", "no", "null", "none"}
DEADLINE = "$deadline"
ATTEMPTS_BEFORE = "$attemptsBefore"
"""The deciding value that holds how many attempts were made before a restart."""
_VALUES = "$fields"


class Leaving(BaseException):
    """The tree is being left: every live leaf waits, or the node gives the execution back.

    Not an ``Exception``: no task's own handler may take it for a failure.
    """


@dataclass(slots=True)
class Ended:
    """A task run's end; ``row`` is set while it is not recorded yet."""

    state: TaskRunState
    error: str | None = None
    row: TaskRun | None = None

    @property
    def is_failure(self) -> bool:
        # KILLED: its group's time ran out, and the node went down before it could say so
        return self.state in (TaskRunState.FAILED, TaskRunState.KILLED)


class LiveRun:
    """A task run that is under way, with what is stored of it."""

    __slots__ = (
        "attempts",
        "child",
        "decisions",
        "executor",
        "fresh",
        "is_recorded",
        "path",
        "progress",
        "started_at",
        "stored",
        "task",
    )

    def __init__(self, executor: Executor, task: CompiledTask, path: str, stored: TaskRun | None) -> None:
        self.executor = executor
        self.task = task
        self.path = path
        self.stored = stored
        self.fresh = stored is None
        self.is_recorded = stored is not None
        """Whether ``stored`` is what the storage holds."""
        self.progress: dict[str, Any] | None = dict(stored.outputs) if stored and stored.outputs else None
        """How far a group's branches are, shown as its outputs until it ends."""
        self.attempts = stored.attempts if stored else 0
        self.started_at = stored.started_at if stored else None
        self.decisions: dict[str, Any] = dict(stored.decisions or {}) if stored else {}
        self.child: str | None = None
        """The execution that it waits for."""

    def row(self, state: TaskRunState, **changes: Any) -> TaskRun:
        """The task run as it is to be stored."""
        return TaskRun(
            path=self.path,
            task=self.task.declaration.id,
            type=self.task.declaration.type,
            state=state,
            attempts=self.attempts,
            started_at=self.started_at,
            **changes,
        )

    async def decide(self, name: str, make: Callable[[], Any]) -> Any:
        """A deciding value: the stored one, else made now and stored before it is used."""
        if name not in self.decisions:
            self.decisions[name] = make()
            packed = await self.executor.services.payloads.pack(
                self.executor.execution_id, self.task.declaration.id, self.decisions
            )
            await self.executor.record_rows(self.row(TaskRunState.RUNNING, decisions=packed))
        return self.decisions[name]

    async def load_decisions(self) -> None:
        """Fetch stored deciding values that were too large for a row."""
        self.decisions = dict(await self.executor.services.payloads.unpack(self.decisions))


async def run_task(
    executor: Executor, task: CompiledTask, scope: RunScope, stored: TaskRun | None, *, record: bool
) -> Ended:
    """Run a task run to its end; ``record`` False leaves the last row to the caller.

    Raises ``Leaving`` when the tree is being left, ``CancelledError`` when it is killed.
    """
    if stored is not None and stored.state.is_terminal:
        await _take_outputs(executor, task, scope, stored)
        return Ended(stored.state, stored.error)
    live = LiveRun(executor, task, scope.prefix + task.declaration.id, stored)
    if stored is not None and live.decisions:
        await live.load_decisions()
    try:
        if live.fresh:
            try:
                wanted = await _is_wanted(executor, task, scope)
            except (InvalidInput, NotFound) as error:
                return await _failed(live, scope, _Problem(f"when: {error.message}"), record=record)
            if not wanted:
                return await _end(live, scope, TaskRunState.SKIPPED, None, None, record=record)
        return await _attempts(live, scope, record=record)
    except asyncio.CancelledError:
        executor.note_cancelled(live)
        raise


async def _is_wanted(executor: Executor, task: CompiledTask, scope: RunScope) -> bool:
    if task.declaration.disabled:
        return False
    if task.when is None:
        return True
    return is_true(await task.when.render(scope.names, executor.services.vault))


def is_true(value: Any) -> bool:
    """What a guard means: false, null, 0, nothing and the words for them are false."""
    if isinstance(value, str):
        return value.strip().lower() not in _FALSE_TEXTS
    return bool(value)


async def _take_outputs(executor: Executor, task: CompiledTask, scope: RunScope, stored: TaskRun) -> None:
    if stored.outputs is not None:
        scope.outputs[task.declaration.id] = await executor.services.payloads.unpack(stored.outputs)
    elif stored.state is not TaskRunState.SKIPPED:
        scope.outputs[task.declaration.id] = {}


async def _attempts(live: LiveRun, scope: RunScope, *, record: bool) -> Ended:
    """Attempt after attempt until there is an outcome."""
    executor = live.executor
    while True:
        await _wait_where_stored(live)
        resumed = live.stored is not None and (
            live.stored.state is TaskRunState.PAUSED or (live.task.is_group and live.attempts > 0)
        )
        if not resumed:
            live.attempts += 1
        live.started_at = live.started_at or executor.services.clock.now()
        live.stored = None
        live.is_recorded = False
        await executor.note_start(live)
        try:
            returned = await _one_attempt(live, scope)
        except Wait as wait:
            live.stored = live.row(TaskRunState.PAUSED, wake_at=wait.until)
            live.child = wait.execution
            continue
        except Skip as skip:
            return await _end(live, scope, TaskRunState.SKIPPED, None, skip.reason, record=record)
        except _Problem as problem:
            retry_at = _retry_at(live, problem)
            if retry_at is not None:
                executor.log.add(
                    "WARN",
                    f"attempt {live.attempts} failed: {problem.reason}; next at {retry_at.isoformat()}",
                    path=live.path,
                    attempt=live.attempts,
                    stream=None,
                )
                live.stored = live.row(TaskRunState.RETRYING, wake_at=retry_at, error=problem.reason)
                continue
            return await _failed(live, scope, problem, record=record)
        state = TaskRunState.SUCCESS
        if executor.take_warning(live) or (
            live.attempts > 1 and live.task.declaration.retry and live.task.declaration.retry.warning_on_retry
        ):
            state = TaskRunState.WARNING
        return await _end(
            live, scope, state, outputs_of(returned, live.task.component.Output), None, record=record
        )


async def _wait_where_stored(live: LiveRun) -> None:
    """Wait until the moment that the stored row names, if it names one."""
    stored, child = live.stored, live.child
    if stored is not None and (stored.wake_at is not None or child is not None):
        live.child = None
        await live.executor.wait(live, stored, child)


class _Problem(Exception):
    """An attempt that failed, in the user's words."""

    def __init__(
        self,
        reason: str,
        *,
        final: bool = False,
        after: timedelta | None = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
        self.after = after
        self.outputs = outputs


async def _one_attempt(live: LiveRun, scope: RunScope) -> Any:
    """Run the component once. Raises the steering outcomes, and ``_Problem`` for every failure."""
    executor, task = live.executor, live.task
    deadline: float | None = None
    length: timedelta | None = None
    try:
        if task.timeout is not None:
            length = _length(await task.timeout.render(scope.names, executor.services.vault))
            deadline = await _deadline(live, length)
        component = task.ready or await _component(live, scope)
        ctx = RunningTask(executor, live, scope)
        if deadline is None:
            return await _run(task, component, ctx)
        async with asyncio.timeout_at(deadline):
            return await _run(task, component, ctx)
    except (Wait, Skip):
        raise
    except Fail as fail:
        raise _Problem(fail.reason, final=True, outputs=fail.outputs) from fail
    except Retry as retry:
        raise _Problem(retry.reason, after=retry.after) from retry
    except (Failed, Outcome) as failed:
        raise _Problem(failed.reason, outputs=failed.outputs) from failed
    except TimeoutError as late:
        if deadline is not None and asyncio.get_running_loop().time() >= deadline and length is not None:
            raise _Problem(f"timed out after {format_duration(length)}") from late
        raise _Problem(str(late) or "timed out") from late
    except StorageError:
        raise
    except HubError as error:
        raise _Problem(error.message + (f" ({error.hint})" if error.hint else "")) from error
    except Exception as error:
        # a task's own failure must not become the hub's
        log.debug("task raised", execution=executor.execution_id, task=live.path, exc_info=True)
        raise _Problem(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error


async def _run(task: CompiledTask, component: Task, ctx: RunningTask) -> Any:
    if task.is_async:
        return await component.run(ctx)
    return await asyncio.to_thread(component.run, ctx)


def _length(value: Any) -> timedelta:
    return value if isinstance(value, timedelta) else parse_duration(str(value))


async def _deadline(live: LiveRun, length: timedelta) -> float:
    """The loop time at which an attempt is over; a group's is stored, so that waiting does not stretch it."""
    now = live.executor.services.clock.now()
    left = length
    if live.task.is_group:
        until = datetime.fromisoformat(await live.decide(DEADLINE, lambda: (now + length).isoformat()))
        live.executor.note_deadline(live, until)
        left = until - now
    return asyncio.get_running_loop().time() + max(left.total_seconds(), 0.0)


async def _component(live: LiveRun, scope: RunScope) -> Task:
    """The component with its fields rendered; deciding ones are stored first and read afterwards."""
    task, vault = live.task, live.executor.services.vault
    values = {name: await field.render(scope.names, vault) for name, field in task.fields.items()}
    if task.decided:
        if _VALUES not in live.decisions:
            rendered = {name: await field.render(scope.names, vault) for name, field in task.decided.items()}
            await live.decide(_VALUES, lambda: rendered)
        values.update(live.decisions[_VALUES])
    return task.instance(values)


def _retry_at(live: LiveRun, problem: _Problem) -> datetime | None:
    policy = live.task.declaration.retry
    if problem.final or live.task.is_group or (policy is None and problem.after is None):
        return None
    now = live.executor.services.clock.now()
    if policy is None:
        return now + (problem.after or timedelta())
    # a restart begins a new round of attempts
    attempt = live.attempts - int(live.decisions.get(ATTEMPTS_BEFORE, 0))
    planned = policy.next_attempt_at(attempt=attempt, first_at=live.started_at or now, failed_at=now)
    if planned is not None and problem.after is not None:
        return now + problem.after
    return planned


async def _failed(live: LiveRun, scope: RunScope, problem: _Problem, *, record: bool) -> Ended:
    reason = live.executor.services.vault.mask(problem.reason)
    live.executor.log.add("ERROR", reason, path=live.path, attempt=live.attempts, stream=None)
    state = TaskRunState.WARNING if live.task.declaration.allow_failure else TaskRunState.FAILED
    return await _end(live, scope, state, problem.outputs or {}, reason, record=record)


async def _end(
    live: LiveRun,
    scope: RunScope,
    state: TaskRunState,
    outputs: Mapping[str, Any] | None,
    error: str | None,
    *,
    record: bool,
) -> Ended:
    """The end of a task run: outputs kept, stored now or left to the caller."""
    executor = live.executor
    packed = outputs
    if outputs:
        packed = await executor.services.payloads.pack(executor.execution_id, live.path, outputs)
    if outputs is not None:
        scope.outputs[live.task.declaration.id] = outputs
    row = live.row(state, outputs=packed, error=error, ended_at=executor.services.clock.now())
    executor.forget(live)
    if not record:
        return Ended(state, error, row)
    await executor.record_rows(row, progress=True)
    return Ended(state, error)
