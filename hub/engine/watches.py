"""Wait for what happens to executions of this node, without a thread or a query while nothing does.

The executor tells; a webhook that answers with a flow's outputs waits. What is told may be missed where another
node moves the execution: whoever waits looks into the storage now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hub.model.task_run import TaskRun, TaskRunState


class Watch:
    """One waiting caller; ``happened`` is set when a task run of the wanted type, or the execution, has ended."""

    __slots__ = ("happened", "row", "task_type")

    def __init__(self, task_type: str | None) -> None:
        self.task_type = task_type
        self.row: TaskRun | None = None
        """The first task run of the wanted type that succeeded."""
        self.happened = asyncio.Event()

    def see(self, row: TaskRun) -> None:
        if self.row is None and row.type == self.task_type and row.state is TaskRunState.SUCCESS:
            self.row = row
            self.happened.set()


class Watches:
    """Those who wait, by execution."""

    def __init__(self) -> None:
        self._watches: dict[str, list[Watch]] = {}
        self.is_over = False
        """Whether the hub stops: nobody is to wait any more."""

    def give_up(self) -> None:
        """The hub stops, and what has not ended goes on after the next start: wake all who wait."""
        self.is_over = True
        for watches in self._watches.values():
            for watch in watches:
                watch.happened.set()

    def row(self, execution_id: str, row: TaskRun) -> None:
        """A task run was recorded."""
        if self._watches:
            for watch in self._watches.get(execution_id, ()):
                watch.see(row)

    def end(self, execution_id: str, rows: Sequence[TaskRun]) -> None:
        """An execution has ended, with the last of its task runs."""
        if self._watches:
            for watch in self._watches.get(execution_id, ()):
                for row in rows:
                    watch.see(row)
                watch.happened.set()

    @contextmanager
    def on(self, execution_id: str, *, task_type: str | None = None) -> Iterator[Watch]:
        """Watch an execution until the block ends; a task run of ``task_type`` that ends counts too."""
        watch = Watch(task_type)
        self._watches.setdefault(execution_id, []).append(watch)
        try:
            yield watch
        finally:
            left = self._watches[execution_id]
            left.remove(watch)
            if not left:
                del self._watches[execution_id]
