"""Follow one execution: its log lines, task runs and states, in order, until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from hub.bus import Subscription
from hub.engine.services import Services
from hub.model.execution import Execution
from hub.model.task_run import TaskRun
from hub.plugin.storage import LogLine, Page

_COMPANY = 0.05
"""Seconds that news of a log line or task run waits for more."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened; exactly one of the fields is set."""

    log: LogLine | None = None
    task_run: TaskRun | None = None
    execution: Execution | None = None


async def follow(
    services: Services, execution_id: str, *, logs_after: int = 0, with_task_runs: bool = True
) -> AsyncIterator[Step]:
    """Everything of an execution from its beginning until its end, which comes last.

    The bus only wakes; what is given was read from the storage. Raises ``NotFound``.
    """
    storage = services.storage
    said: dict[str, str] = {}
    state = ""
    topics = ("logs", "execution", "taskRun") if with_task_runs else ("logs", "execution")
    with services.bus.subscribe(*topics, size=1000) as news:
        while True:
            execution = await storage.execution(execution_id)
            ended = execution.state.is_terminal
            while lines := await storage.logs(execution_id, after=logs_after):
                for line in lines:
                    yield Step(log=line)
                logs_after = lines[-1].number
            if with_task_runs:
                page = await storage.task_runs(execution_id, Page(1000))
                for run in page.items:
                    if said.get(run.path) != run.state.value:
                        said[run.path] = run.state.value
                        yield Step(task_run=run)
            if execution.state.value != state:
                state = execution.state.value
                yield Step(execution=execution)
            if ended:
                return
            await _until_news_of(execution_id, news)


async def _until_news_of(execution_id: str, news: Subscription) -> None:
    """Wait for news; what is no change of state may wait for company, so that a long loop is read seldom."""
    while (one := await news.next()).id != execution_id:
        pass
    if one.topic != "execution":
        with suppress(TimeoutError):
            async with asyncio.timeout(_COMPANY):
                while (one := await news.next()).id != execution_id or one.topic != "execution":
                    pass
