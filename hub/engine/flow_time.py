"""A flow's own time: its tasks end when it is over, with all they run; ``errors`` and ``finally`` do not.

Counted from the execution's start, which is stored before the first task runs, so neither a restart of the hub
nor waiting stretches it. A restarted execution starts anew, and so does its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hub.engine.lateness import end_what_they_left
from hub.engine.stopping import Stopped
from hub.engine.task_runner import LiveRun
from hub.model.durations import format_duration
from hub.model.execution import ExecutionState
from hub.model.task_run import TaskRun, TaskRunState

if TYPE_CHECKING:
    from hub.engine.executor import Executor, SequenceEnd

_LAST_MOMENT = datetime.max.replace(tzinfo=UTC)
_LONGEST_ALARM = 86_400.0
"""Seconds; a longer time is looked at by the next walk, or by the next alarm."""


async def in_time(
    executor: Executor,
    length: timedelta,
    stored: Mapping[str, TaskRun],
    run: Callable[[LiveRun], Awaitable[SequenceEnd]],
) -> SequenceEnd:
    """Run a flow's tasks within its time. ``run`` is given what they run inside of."""
    if executor.claim.execution.started_at is None:
        await executor.recorder.step(state=ExecutionState.RUNNING, started_at=executor.started_at)
    try:
        until = executor.started_at + length
    except OverflowError:
        until = _LAST_MOMENT
    # it stands for the flow itself: never run, it is only asked whether its time is over
    whole = LiveRun(executor, next(iter(executor.flow.tasks.values())), "", None)
    executor.waits.note_deadline(whole, until)
    alarm = _Alarm(executor, whole, until)
    try:
        end = await run(whole)
    except Stopped:
        if not whole.is_late or executor.stops.reason is not None:
            raise
        end = None
    finally:
        alarm.cancel()
    executor.waits.forget(whole)
    failed = stored.get(end.failed_task) if end is not None and end.failed_task is not None else None
    # what an earlier walk has stopped was stopped by this, for a kill would have ended the execution
    if end is not None and (failed is None or failed.state is not TaskRunState.KILLED):
        return end
    await end_what_they_left(executor, [task.id for task in executor.flow.flow.tasks])
    return executor.timed_out(f"timed out after {format_duration(length)}")


class _Alarm:
    """Says when the time is over, at once where it is over already."""

    def __init__(self, executor: Executor, whole: LiveRun, until: datetime) -> None:
        self._executor = executor
        self._whole = whole
        self._until = until
        self._handle: asyncio.TimerHandle | None = None
        self._look()

    def _look(self) -> None:
        left = (self._until - self._executor.services.clock.now()).total_seconds()
        if left <= 0:
            self._executor.stops.run_out(self._whole)
        else:
            loop = asyncio.get_running_loop()
            self._handle = loop.call_later(min(left, _LONGEST_ALARM), self._look)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
