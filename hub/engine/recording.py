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

    def note_start(self, live: LiveRun) -> Coroutine[Any, Any, object] | None:
        """A task starts: recorded without being waited for, and not at all when it ends at once.

        What is answered, where anything is, has to be waited for first.
        """
        if self._claim.suspect and not self.has_progress.is_set():
            return self.step(task_runs=(live.row(TaskRunState.RUNNING, outputs=live.progress),))
        self._starts[live.path] = live
        if self._starts_handle is None:
            self._starts_handle = self._stops.loop.call_soon(self._send_starts)
        return None

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
        at = self._services.clock.now()
        self._services.storage.record_soon(Transition(self._id, self._claim.fence, at, rows, state=state))

    def rows(
        self, *rows: TaskRun, progress: bool = False, notices: tuple[NewNotice, ...] = ()
    ) -> Coroutine[Any, Any, object]:
        """Store task runs, with the notices they owe and the log lines that wait, and return when they are
        durable."""
        for row in rows:
            self._starts.pop(row.path, None)
        if notices or self.later or self.later_notices or self._log.has_lines:
            return self.step(task_runs=rows, notices=notices, progress=progress)
        at, is_news = self._services.clock.now(), self._is_news(progress)
        return self._store(Transition(self._id, self._claim.fence, at, rows, progress=is_news), progress)

    def begin(self) -> Coroutine[Any, Any, object] | None:
        """Begin to store the ends that the next step would take along; None where there are none.

        What is answered returns when they are durable, and is to be awaited, or closed by who goes down.
        """
        if not self.later:
            return None
        loop = self._stops.loop
        # taken at once: a step that somebody else makes meanwhile would take them, and answer to nobody here
        rows, notices = self._take_later()
        if notices or self._log.has_lines:
            step = self.step(task_runs=rows, notices=notices, progress=True)
            return _answer_of(loop.create_task(step))
        at = rows[-1].ended_at or self._services.clock.now()
        transition = Transition(self._id, self._claim.fence, at, rows, progress=self._is_news(True))
        try:
            write = self._write(transition)
        except StorageOverloaded:
            return self._store(transition, True)
        if not isinstance(write, asyncio.Future):
            write = loop.create_task(_answer_of(write))
        return self._store(transition, True, write)

    async def step(
        self,
        *,
        task_runs: tuple[TaskRun, ...] = (),
        arrivals: tuple[Arrival, ...] = (),
        notices: tuple[NewNotice, ...] = (),
        progress: bool = False,
        **changes: Any,
    ) -> Recorded:
        """Record a step with all that waits for one, again and again while the storage is away, and tell of it.

        Raises ``FenceRefused``, and ``StorageUnavailable`` when the node stops and it stays away.
        """
        lines = await self._log.take() if self._log.has_lines else ()
        rows, owed = self._take_later()
        notices = (*owed, *notices)
        if notices:
            arrivals = (*arrivals, Arrival(notices=notices))
        transition = Transition(
            self._id,
            self._claim.fence,
            self._services.clock.now(),
            (*rows, *task_runs),
            lines,
            arrivals=arrivals,
            progress=self._is_news(progress),
            **changes,
        )
        return await self._store(transition, progress)

    def _take_later(self) -> tuple[tuple[TaskRun, ...], tuple[NewNotice, ...]]:
        rows, notices = tuple(self.later.values()), self.later_notices
        self.later.clear()
        self.later_notices = ()
        return rows, notices

    def _is_news(self, progress: bool) -> bool:
        """Once said under a claim, progress stays: saying it again would rewrite the execution's row each time."""
        return progress and not self.has_progress.is_set()

    def _write(self, transition: Transition) -> Awaitable[Recorded]:
        services = self._services
        return services.turns.write(self._claim.execution.flow.namespace, services.storage.record, transition)

    async def _store(
        self, transition: Transition, progress: bool, write: Awaitable[Recorded] | None = None
    ) -> Recorded:
        """Store a step, of which one write may have begun, and tell of it."""
        services = self._services
        try:
            try:
                recorded = await (write or self._write(transition))
            except (StorageUnavailable, StorageOverloaded, OSError):
                recorded = await self.persist(lambda: self._write(transition))
        except FenceRefused:
            # whatever else runs here runs for nobody
            self._stops.stop(Reason.LOST)
            raise
        if progress:
            self.has_progress.set()
        if transition.arrivals and any(arrival.notices for arrival in transition.arrivals):
            services.owed.set()
        rows, bus = transition.task_runs, services.bus
        for row in rows:
            services.watches.row(self._id, row)
        if bus.is_heard("taskRun"):
            for row in rows:
                bus.tell("taskRun", self._id, path=row.path, state=row.state.value)
        tell_task_runs(services, self._claim.execution, rows)
        return recorded

    def persist(self, work: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Do it as soon as storage and disk allow it; see ``patience.persist``."""
        return persist(work, execution=self._id, has_given_up=lambda: self._stops.has_given_up)


async def _answer_of(work: Awaitable[T]) -> T:
    return await work
