"""What goes with a task run, or with a flow's tasks, when their time is over.

Whatever runs hears of it by itself; this ends what only waits: the executions that were started there, and the
task runs that an earlier walk left. All of it before the time-out is recorded, so that a crash in between finds
the rest again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hub.model.task_run import TaskRunState
from hub.plugin.storage import Page

if TYPE_CHECKING:
    from hub.engine.executor import Executor
    from hub.engine.task_runner import LiveRun

_LIVE = tuple(state for state in TaskRunState if not state.is_terminal)
_OVER = "the time of its group was over"


async def end_what_it_left(live: LiveRun) -> None:
    """End what a task run whose time is over has started, and what waits inside it."""
    await _end_children(live.executor, [live.path])
    if live.task.is_group:
        await _end_rows(live.executor, [live.path], inside=True)


async def end_what_they_left(executor: Executor, tasks: Iterable[str]) -> None:
    """End what a flow's tasks have started, and where they wait themselves: the flow's own time is over."""
    roots = list(tasks)
    await _end_children(executor, roots)
    await _end_rows(executor, roots, inside=False)


async def _end_children(executor: Executor, roots: list[str]) -> None:
    def is_meant(path: str) -> bool:
        return _is_within(path, roots)

    # one that is being started is stored by then
    await executor.owned.settled(is_meant)
    reason = f"the time of what waited for it in execution {executor.execution_id} was over"
    await executor.recorder.persist(
        lambda: executor.host.kill_children(executor.execution_id, reason, is_meant)
    )


async def _end_rows(executor: Executor, roots: list[str], *, inside: bool) -> None:
    """What an earlier walk left waiting never goes on; it ends with the next step."""
    if executor.claim.fresh:
        return
    now = executor.services.clock.now()
    task_runs = partial(executor.services.storage.task_runs, executor.execution_id, states=_LIVE)
    page: Page | None = Page(1000)
    while page is not None:
        found = await executor.recorder.persist(partial(task_runs, page))
        for run in found.items:
            if _is_within(run.path, roots) and not (inside and run.path in roots):
                killed = replace(run, state=TaskRunState.KILLED, ended_at=now, wake_at=None, decisions=None)
                executor.recorder.later[run.path] = replace(killed, error=_OVER)
        page = Page(1000, found.next_cursor) if found.next_cursor is not None else None


def _is_within(path: str, roots: list[str]) -> bool:
    return any(path == root or path.startswith((f"{root}/", f"{root}[")) for root in roots)
