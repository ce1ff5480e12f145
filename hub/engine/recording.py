"""Record what happens to one execution: starts without waiting, ends until they are durable.

Nothing here is ever cancelled but by the end of the process: what is being recorded gets its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from hub.engine.logs import ExecutionLog
from hub.engine.patience import persist
from hub.engine.services import Services
from hub.engine.stopping import Reason, Stops
from hub.engine.telling import tell_execution, tell_task_runs
from hub.errors import FenceRefused, StorageOverloaded, StorageUnavailable
from hub.model.execution import Claim, ExecutionState
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.notices import NewNotice
from hub.plugin.storage import Arrival, Recorded, Transition

if TYPE_CHECKING:
    from hub.engine.task_runner import LiveRun

T = TypeVar("T")


class Recorder:
    """Writes the steps of one claimed execution."""

    def __init__(self, claim: Claim, services: Services, log: ExecutionLog, stops: Stops) -> None:
        self._claim = claim
        self._id = claim.execution.id
        self._services = services
        self._log = log
        self._stops = stops
        self.has_progress = asyncio.Event()
        """Set once anything of it has ended; a suspect that gets here is none."""
        self.later: dict[str, TaskRun] = {}
        """Rows, by path, that the next step takes along: nothing happens between them and it."""
        self.later_notices: tuple[NewNotice, ...] = ()
        """Notices that these rows owe."""
        self._said_running = False
        self._starts: dict[str, LiveRun] = {}
        self._starts_handle: asyncio.Handle | None = None

    # starts

    async def start_suspect(self) -> None:
        """A suspect is about to run: stored first, so that it is known who took the node down."""
        await self.step(state=ExecutionState.RUNNING, suspect_start=True)
        self._said_running = True
        tell_execution(self._services, self._claim.execution, ExecutionState.RUNNING)

    async def note_start(self, live: LiveRun) -> None:
        """A task starts: recorded without being waited for, and not at all when it ends at once."""
        if self._claim.suspect and not self.has_progress.is_set():
            await self.step(task_runs=(live.row(TaskRunState.RUNNING, outputs=live.progress),))
            return
        self._starts[live.path] = live
        if self._starts_handle is None:
            self._starts_handle = asyncio.get_running_loop().call_soon(self._send_starts)

    def _send_starts(self) -> None:
        self._starts_handle = None
        if not self._starts:
            return
        rows = tuple(live.row(TaskRunState.RUNNING, outputs=live.progress) for live in self._starts.values())
        self._starts.clear()
        state = None if self._said_running else ExecutionState.RUNNING
        self._said_running = True
        self.soon(*rows, state=state)
        topic = "taskRun" if state is None else "execution"
        self._services.bus.tell(topic, self._id, state="RUNNING")
        if state is not None:
            tell_execution(self._services, self._claim.execution, state)

    def forget_start(self, path: str) -> None:
        """A task run stands otherwise by now: its start need not be stored any more."""
        self._starts.pop(path, None)

    def forget_starts(self) -> None:
        """Nothing runs any more."""
        if self._starts_handle is not None:
            self._starts_handle.cancel()
            self._starts_handle = None
        self._starts.clear()

    # steps

    def soon(self, *rows: TaskRun, state: ExecutionState | None = None) -> None:
        """Store task runs without waiting."""
        self._services.storage.record_soon(self._transition(task_runs=rows, state=state))

    async def rows(self, *rows: TaskRun, progress: bool = False, notices: tuple[NewNotice, ...] = ()) -> None:
        """Store task runs, with the notices they owe and the log lines that wait, and return when they are
        durable."""
        for row in rows:
            self._starts.pop(row.path, None)
        # once said under a claim, progress stays: saying it again would rewrite the execution's row each time
        await self.step(task_runs=rows, notices=notices, progress=progress and not self.has_progress.is_set())
        if progress:
            self.has_progress.set()

    async def step(
        self,
        *,
        task_runs: tuple[TaskRun, ...] = (),
        arrivals: tuple[Arrival, ...] = (),
        notices: tuple[NewNotice, ...] = (),
        **changes: Any,
    ) -> Recorded:
        """Record a step, again and again while the storage is away, and tell of it.

        Raises ``FenceRefused``, and ``StorageUnavailable`` when the node stops and it stays away.
        """
        lines = await self._log.take() if self._log.has_lines else ()
        rows = (*self.later.values(), *task_runs)
        self.later.clear()
        notices, self.later_notices = (*self.later_notices, *notices), ()
        if notices:
            arrivals = (*arrivals, Arrival(notices=notices))
        transition = self._transition(task_runs=rows, logs=lines, arrivals=arrivals, **changes)
        services = self._services
        namespace = self._claim.execution.flow.namespace
        try:
            recorded = await services.turns.write(namespace, lambda: self._store(transition))
        except FenceRefused:
            # whatever else runs here runs for nobody
            self._stops.stop(Reason.LOST)
            raise
        if arrivals and any(arrival.notices for arrival in arrivals):
            services.owed.set()
        for row in rows:
            services.watches.row(self._id, row)
        if services.bus.has_listeners:
            for row in rows:
                services.bus.tell("taskRun", self._id, path=row.path, state=row.state.value)
        tell_task_runs(services, self._claim.execution, rows)
        return recorded

    async def _store(self, transition: Transition) -> Recorded:
        """Nearly always there is nothing to be patient about."""
        storage = self._services.storage
        try:
            return await storage.record(transition)
        except (StorageUnavailable, StorageOverloaded, OSError):
            return await self.persist(lambda: storage.record(transition))

    def persist(self, work: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Do it as soon as storage and disk allow it; see ``patience.persist``."""
        return persist(work, execution=self._id, has_given_up=lambda: self._stops.has_given_up)

    def _transition(self, **changes: Any) -> Transition:
        return Transition(self._id, self._claim.fence, self._services.clock.now(), **changes)
