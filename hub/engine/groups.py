"""Run a group's branches: one after another or side by side, from where an earlier walk had got to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from hub.engine.scope import RunScope
from hub.engine.stopping import Leaving, Reason, Stopped
from hub.model.task_run import TaskRunState
from hub.plugin.context import Branch

if TYPE_CHECKING:
    from hub.engine.executor import Executor, SequenceEnd
    from hub.engine.task_runner import LiveRun

MOST_BRANCHES = 1000
"""How many branches run side by side where nothing says less."""
_PROGRESS_EVERY = 64
"""After how many finished branches a loop's place is stored; a new walk repeats fewer than these look-ups."""


@dataclass(slots=True)
class _Ended:
    """A branch that has ended, while its end may still be being stored."""

    index: int | None
    end: SequenceEnd
    storing: Coroutine[Any, Any, object] | None


class Group:
    """A group's branches while they run."""

    def __init__(
        self, executor: Executor, live: LiveRun, scope: RunScope, branches: Iterable[Branch]
    ) -> None:
        self._executor = executor
        self._live = live
        self._scope = scope
        self.failed = 0
        self.error: str | None = None
        self.culprit: str | None = None
        # where an earlier walk had got to; iterations below it are complete
        first = warned = 0
        if live.progress is not None:
            first = int(live.progress.get("iterationCount", 0))
            warned = int(live.progress.get("warnings", 0))
        self.done = first
        self.warned = warned
        self._branches = islice(iter(branches), first, None)
        self._may_be_stored = bool(scope.stored) or not executor.claim.fresh
        self._lowest = first
        self._warned_below = warned
        # those that are complete above the lowest unfinished one, and whether each ended with a warning
        self._ahead: dict[int, bool] = {}
        self._workers = self._workers_at_start = 1
        self._stores_behind = False
        self._empty = 0

    async def work(self) -> None:
        """Take branches and run them until none is left; after a failure only those that had begun.

        Side by side, a branch begins while the end of the one before it is being stored: they do not depend on
        each other, and more ends share a flush. One after another, an end is durable before the next begins.
        """
        last: _Ended | None = None
        try:
            for branch in self._branches:
                scope = await self._scope_on_walk(branch) if self._may_be_stored else self._scope_of(branch)
                if self.failed and not self._has_begun(branch, scope):
                    if not self._may_be_stored:
                        return
                    continue
                end = await self._executor.sequence(branch.tasks, scope, group=self._live, leave_last=True)
                if end.failed_task is not None:
                    self.failed += 1
                    self.error = self.error or end.error
                    self.culprit = self.culprit or end.culprit
                ended = _Ended(branch.index, end, self._executor.recorder.begin())
                settling, last = (last, ended) if self._stores_behind else (ended, None)
                if settling is not None:
                    await self._settle(settling)
        except asyncio.CancelledError:
            # the process itself is going down, and nobody waits for answers any more
            if last is not None and last.storing is not None:
                last.storing.close()
            last = None
            raise
        finally:
            if last is not None:
                await self._settle(last)

    async def _settle(self, ended: _Ended) -> None:
        """Count a branch once its end is durable: whatever is counted is not walked again."""
        if ended.storing is not None:
            await ended.storing
        self.done += 1
        if ended.end.failed_task is None:
            self.warned += ended.end.warned
            if ended.index is not None:
                self._advance(ended.index, ended.end.warned)

    async def work_side_by_side(self, workers: int) -> None:
        """Run ``workers`` at a time. The last of them hands its place among what moves back to the group."""
        executor = self._executor
        executor.waits.split(workers - 1)
        self._workers = self._workers_at_start = workers
        # a suspect's ends are stored one by one: what takes its node down is to be seen
        self._stores_behind = not executor.claim.suspect
        loop = asyncio.get_running_loop()
        running = [loop.create_task(self._worker()) for _ in range(workers)]
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError:
            # the process itself is going down
            for worker in running:
                worker.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise
        problems = [worker.exception() for worker in running if not worker.cancelled()]
        for problem in problems:
            if problem is not None and not isinstance(problem, Leaving | Stopped):
                raise problem
        executor.stops.check(self._live)
        for problem in problems:
            if problem is not None:
                raise problem

    async def _worker(self) -> None:
        try:
            await self.work()
        except (Leaving, Stopped):
            raise
        except Exception:
            # the engine's own failure: the others have nothing to go on for
            self._executor.stops.stop(Reason.LOST)
            raise
        finally:
            self._workers -= 1
            if self._workers:
                self._executor.waits.one_less()

    def _has_begun(self, branch: Branch, scope: RunScope) -> bool:
        """Whether an earlier walk had begun a branch."""
        return bool(branch.tasks) and f"{scope.prefix}{branch.tasks[0].id}" in scope.stored

    async def _scope_on_walk(self, branch: Branch) -> RunScope:
        """The scope of a branch that an earlier walk may have been in."""
        scope = self._scope_of(branch)
        if branch.index is not None:
            executor = self._executor
            scope.stored = await executor.recorder.persist(
                lambda: executor.services.storage.scope_task_runs(executor.execution_id, scope.prefix)
            )
            # Steps are stored in the order they are made, but those of one turn of the loop may pass each
            # other, of each worker the end before its last too: only a row of empty iterations longer than
            # that can be says that none follows.
            self._empty = 0 if scope.stored else self._empty + 1
            self._may_be_stored = self._empty <= 4 * self._workers_at_start
        return scope

    def _scope_of(self, branch: Branch) -> RunScope:
        if branch.index is None:
            return self._scope.beside(f"{self._live.path}/", branch.names)
        return self._scope.inside(f"{self._live.path}[{branch.index}]/", branch.names)

    def _advance(self, index: int, warned: bool) -> None:
        """Keep the lowest unfinished iteration, and the warnings below it; store them now and then."""
        self._ahead[index] = warned
        before = self._lowest
        while self._lowest in self._ahead:
            self._warned_below += self._ahead.pop(self._lowest)
            self._lowest += 1
        if self._lowest == before:
            return
        self._live.progress = {"iterationCount": self._lowest, "warnings": self._warned_below}
        if self._lowest // _PROGRESS_EVERY != before // _PROGRESS_EVERY:
            row = self._live.row(TaskRunState.RUNNING, outputs=self._live.progress)
            self._executor.recorder.soon(row)
