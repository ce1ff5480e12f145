"""Follow one execution: its log lines, task runs and states, in order, until it ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from hub.bus import Subscription
from hub.engine.services import Services
from hub.model.execution import Execution, ExecutionState
from hub.model.task_run import TaskRun
from hub.plugin.storage import LogLine, Page

_COMPANY = 0.05
"""Seconds that news of a log line or task run waits for more."""
_LOOK_AGAIN = 1.0
"""Seconds between looks at an execution that another hub may move."""
_WAITING = frozenset({ExecutionState.CREATED, ExecutionState.QUEUED})
_BEGINNINGS = _WAITING | {ExecutionState.RUNNING}
"""The states that come before what happens in them; the others come after it."""
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened; exactly one of the fields is set."""

    log: LogLine | None = None
    task_run: TaskRun | None = None
    execution: Execution | None = None


async def follow(
    services: Services, execution_id: str, *, logs_after: int = 0, with_task_runs: bool = True
) -> AsyncIterator[Step]:
    """Everything of an execution, in the order it happened, from its beginning until its end, which comes last.

    The bus only wakes; what is given was read from the storage. Raises ``NotFound``.
    """
    storage = services.storage
    said: dict[str, str] = {}
    state = ""
    topics = ("logs", "execution", "taskRun") if with_task_runs else ("logs", "execution")
    with services.bus.subscribe(*topics, size=1000) as news:
        while True:
            execution = await storage.execution(execution_id)
            runs: deque[TaskRun] = deque()
            if with_task_runs:
                page = await storage.task_runs(execution_id, Page(1000))
                changed = [run for run in page.items if said.get(run.path) != run.state.value]
                said.update((run.path, run.state.value) for run in changed)
                runs.extend(sorted(changed, key=_moment))
            if said and execution.state in _WAITING:
                # its start is stored without being waited for, so a quick task's end may be read before it
                execution = replace(execution, state=ExecutionState.RUNNING)
            is_news, state = execution.state.value != state, execution.state.value
            if is_news and execution.state in _BEGINNINGS:
                yield Step(execution=execution)
            # read after the task runs: the lines of one that has ended are there by now
            while lines := await storage.logs(execution_id, after=logs_after):
                for line in lines:
                    while runs and _moment(runs[0]) <= line.time:
                        yield Step(task_run=runs.popleft())
                    yield Step(log=line)
                logs_after = lines[-1].number
            for run in runs:
                yield Step(task_run=run)
            if is_news and execution.state not in _BEGINNINGS:
                yield Step(execution=execution)
            if execution.state.is_terminal:
                return
            # what another hub does to it is told here only where its state changes
            with suppress(TimeoutError):
                async with asyncio.timeout(None if storage.single_process else _LOOK_AGAIN):
                    await _until_news_of(execution_id, news)


def _moment(run: TaskRun) -> datetime:
    """When it came to stand where it stands."""
    return run.ended_at or run.started_at or _NEVER


async def _until_news_of(execution_id: str, news: Subscription) -> None:
    """Wait for news; what is no change of state may wait for company, so that a long loop is read seldom."""
    while (one := await news.next()).id != execution_id:
        pass
    if one.topic != "execution":
        with suppress(TimeoutError):
            async with asyncio.timeout(_COMPANY):
                while (one := await news.next()).id != execution_id or one.topic != "execution":
                    pass
