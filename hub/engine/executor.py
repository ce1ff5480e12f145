"""Walk one execution's tree of tasks to its end, or until all of it waits.

One executor moves one claimed execution. After a crash, a wait or a restart the tree is walked again:
completed paths give their stored outputs, deciding values are read, and only what is left runs. Pause,
recovery and retry are this one mechanism.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, Protocol

import structlog

from hub.engine.compiled import CompiledFlow, build_trigger
from hub.engine.logs import ExecutionLog
from hub.engine.scope import RunScope, top_scope
from hub.engine.services import Services
from hub.engine.task_runner import Ended, Leaving, LiveRun, run_task
from hub.errors import FenceRefused, HubError, StorageOverloaded, StorageUnavailable
from hub.model.execution import Claim, Execution, ExecutionState, Parent
from hub.model.flow import TaskDeclaration
from hub.model.ids import FlowKey, TriggerKey
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.context import Branch, GroupOutcome, TriggerContext
from hub.plugin.outcomes import Fail
from hub.plugin.storage import Accepted, Arrival, Recorded, Transition

log = structlog.get_logger("hub.engine")

_PROGRESS_EVERY = 64
"""After how many finished branches a loop's place is stored; a new walk repeats fewer than these look-ups."""
_LONGEST_BACKOFF = 5.0


@dataclass(slots=True)
class _SequenceEnd:
    """How a run of tasks one after another ended."""

    failed_task: str | None = None
    error: str | None = None
    warned: bool = False
    row: TaskRun | None = None


class Host(Protocol):
    """What an executor asks of the node it runs on."""

    def take(self, accepted: Accepted | Recorded, /) -> None:
        """Run what was claimed for this node."""

    def wake(self, at: datetime, /) -> None:
        """Something may be claimed from ``at`` on."""

    def tell_parents(self, parents: Sequence[str], child: str, /) -> None:
        """A child has ended: tell those of its parents that this node moves."""

    def trigger_context(self, key: TriggerKey, /) -> TriggerContext:
        """What a trigger is given that prepares an execution, whether or not it runs."""

    async def end_of(
        self,
        execution: Execution,
        state: ExecutionState,
        /,
        *,
        outputs: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Arrival | None:
        """The event that an end is, where anybody wants it."""

    async def start(
        self,
        key: FlowKey,
        /,
        *,
        inputs: Mapping[str, Any],
        labels: Mapping[str, str],
        revision: int | None,
        execution_id: str,
        parent: Parent | None,
        depth: int,
    ) -> Execution:
        """Start a flow for a task."""


class Executor:
    """Moves one claimed execution."""

    def __init__(self, claim: Claim, flow: CompiledFlow, services: Services, host: Host) -> None:
        self.claim = claim
        self.host = host
        self.flow = flow
        self.services = services
        self.execution_id = claim.execution.id
        self.log = ExecutionLog(self.execution_id, services)
        self.has_progress = asyncio.Event()
        """Set once anything of it has ended; a suspect that gets here is none."""
        self._started_at = claim.execution.started_at or services.clock.now()
        self._said_running = False
        # how many branches can still do something by themselves; at 0 every live leaf waits
        self._active = 1
        self._sleepers: set[asyncio.Future[None]] = set()
        self._wakes: dict[str, tuple[datetime | None, TaskRunState]] = {}
        # the executions that leaves wait for, and those of them that were told to have ended
        self._children: dict[str, asyncio.Future[None] | None] = {}
        self._ended_children: set[str] = set()
        self._deadlines: dict[str, datetime] = {}
        self._unrecorded: list[TaskRun] = []
        self._warned: set[str] = set()
        self._starts: dict[str, LiveRun] = {}
        self._starts_handle: asyncio.Handle | None = None
        self._killed: str | None = None
        self._handing_back = False
        self._main: asyncio.Task[Any] | None = None

    # from outside

    def kill(self, reason: str) -> None:
        """End it KILLED: what runs is cancelled, process trees and all."""
        if self._killed is None:
            self._killed = reason
            if self._main is not None:
                self._main.cancel()

    def child_ended(self, execution_id: str) -> None:
        """An execution that a leaf of this one may wait for has ended."""
        self._ended_children.add(execution_id)
        sleeper = self._children.get(execution_id)
        if sleeper is not None and not sleeper.done():
            self._active += 1
            sleeper.set_result(None)

    def hand_back(self) -> None:
        """Give it back unfinished, without burning an attempt; another start goes on with it."""
        self._handing_back = True
        if self._main is not None:
            self._main.cancel()

    async def run(self) -> None:
        """Move it as far as it goes. Raises nothing: what goes wrong ends the execution or is logged."""
        self._main = asyncio.current_task()
        try:
            await self._move()
        except FenceRefused:
            log.warning("another incarnation holds the execution now", execution=self.execution_id)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # a fault of the engine itself: visible in the execution, never a silent stop
            log.exception("execution stopped by an internal error", execution=self.execution_id)
            await self._finish(ExecutionState.FAILED, f"internal error: {type(error).__name__}: {error}")
        finally:
            self._cancel_starts()
            await self.log.close()

    async def _move(self) -> None:
        if self.claim.execution.state is ExecutionState.KILLING or self._killed:
            await self._finish(ExecutionState.KILLED, self._killed or "killed")
            return
        try:
            await self._walk()
        except Leaving:
            await self._let_go()
        except asyncio.CancelledError:
            if self._killed:
                await self._finish(ExecutionState.KILLED, self._killed)
            elif self._handing_back:
                await self._let_go()
            else:
                raise

    async def _walk(self) -> None:
        execution, storage = self.claim.execution, self.services.storage
        stored = {} if self.claim.fresh else await storage.scope_task_runs(self.execution_id, "")
        scope = top_scope(
            self.claim,
            flow=self.flow.names,
            trigger=await self.services.payloads.unpack(execution.trigger_data or {}),
            started_at=self._started_at,
            stored=stored,
            shows_execution=self.flow.shows_execution,
        )
        flow = self.flow.flow
        unready = await self._prepare(scope)
        # one that has done something may have taken away what its trigger brought: its tasks say what they miss
        if unready is not None and not stored:
            await self._finish(ExecutionState.FAILED, f"trigger: {unready}")
            return
        if flow.variables:
            try:
                scope.names["vars"] = await self.flow.variables.render(scope.names, self.services.vault)
            except HubError as error:
                await self._finish(ExecutionState.FAILED, f"variables: {error.message}")
                return
        more = bool(flow.errors or flow.finally_)
        main = await self._sequence(flow.tasks, scope, leave_last=not more)
        end = main
        if main.failed_task is not None and flow.errors:
            scope.names["error"] = {"task": main.failed_task, "message": main.error}
            await self._sequence(flow.errors, scope)
        if flow.finally_:
            if main.failed_task is not None:
                scope.names["error"] = {"task": main.failed_task, "message": main.error}
            after = await self._sequence(flow.finally_, scope)
            end = _SequenceEnd(
                main.failed_task or after.failed_task,
                main.error or after.error,
                main.warned or after.warned,
            )
        await self._conclude(end, scope)

    async def _prepare(self, scope: RunScope) -> str | None:
        """Let the trigger make its data true; answers why it cannot."""
        execution, services = self.claim.execution, self.services
        found = self.flow.prepares.get(execution.trigger) if execution.trigger else None
        if found is None or execution.event_id is None:
            return None
        names = {"flow": self.flow.names, "vars": {}}
        try:
            trigger = await build_trigger(*found, services.functions, services.vault, names)
            key = TriggerKey(*execution.flow, execution.trigger or "")
            await trigger.prepare(self.host.trigger_context(key), scope.names["trigger"], execution.event_id)
        except HubError as error:
            return error.message
        except Exception as error:
            # a plugin's failure must not become the hub's
            log.exception("trigger cannot prepare", execution=self.execution_id, trigger=execution.trigger)
            return f"{type(error).__name__}: {error}"
        return None

    async def _conclude(self, end: _SequenceEnd, scope: RunScope) -> None:
        """Render the flow's outputs and end the execution."""
        rows = (end.row,) if end.row is not None else ()
        if end.failed_task is not None:
            error = f'task "{end.failed_task}" failed: {end.error}'
            await self._finish(ExecutionState.FAILED, error, rows)
            return
        outputs: dict[str, Any] = {}
        for declaration, field in self.flow.outputs:
            try:
                outputs[declaration.id] = await field.render(scope.names, self.services.vault)
            except HubError as error:
                reason = f'output "{declaration.id}": {error.message}'
                await self._finish(ExecutionState.FAILED, self.services.vault.mask(reason), rows)
                return
        state = ExecutionState.WARNING if end.warned else ExecutionState.SUCCESS
        packed = await self.services.payloads.pack(self.execution_id, "outputs", outputs) if outputs else None
        await self._finish(state, None, rows, outputs=outputs, packed=packed)

    async def _sequence(
        self, tasks: Sequence[TaskDeclaration], scope: RunScope, *, leave_last: bool = False
    ) -> _SequenceEnd:
        """Run tasks one after another; the last end may be left to the caller to record with its own step."""
        warned = False
        last = len(tasks) - 1
        for place, declaration in enumerate(tasks):
            task = self.flow.tasks[declaration.id]
            stored = scope.stored.get(scope.prefix + declaration.id)
            ended = await run_task(self, task, scope, stored, record=not leave_last)
            if leave_last and ended.row is not None and place != last and not ended.is_failure:
                await self.record_rows(ended.row, progress=True)
                ended = Ended(ended.state, ended.error)
            if ended.is_failure:
                return _SequenceEnd(declaration.id, ended.error, warned, ended.row)
            warned = warned or ended.state is TaskRunState.WARNING
        return _SequenceEnd(None, None, warned, ended.row if tasks else None)

    # groups

    async def run_group(
        self,
        live: LiveRun,
        scope: RunScope,
        branches: Iterable[Branch],
        *,
        count: int | None,
        limit: int | None,
    ) -> GroupOutcome:
        """Run a group's branches; see ``TaskContext.run_branches``. Raises ``Fail`` when one failed."""
        group = _Group(self, live, scope, branches)
        workers = min(limit or _MOST_BRANCHES, count if count is not None else _MOST_BRANCHES)
        if workers <= 1:
            await group.work()
        else:
            await group.work_side_by_side(workers)
        if group.failed:
            raise Fail(group.error or "a child task failed")
        if group.warned:
            self._warned.add(live.path)
        return GroupOutcome(group.done, group.failed, group.warned, group.error)

    def take_warning(self, live: LiveRun) -> bool:
        """Whether a branch below it ended with a warning."""
        if live.path in self._warned:
            self._warned.discard(live.path)
            return True
        return False

    # waiting

    def note_deadline(self, live: LiveRun, until: datetime) -> None:
        """A group's time-out must wake the execution too."""
        self._deadlines[live.path] = until

    async def wait(self, live: LiveRun, row: TaskRun, child: str | None = None) -> None:
        """Wait for a row's moment or a child's end: in memory while a sibling runs, else by leaving the tree."""
        until = row.wake_at
        if self._is_over(until, child):
            return
        self._wakes[live.path] = (until, row.state)
        if child is not None:
            self._children[child] = None
        self._starts.pop(live.path, None)
        if not live.is_recorded:
            row = replace(row, decisions=None)
            if self._active > 1:
                await self.record_rows(row, progress=True)
            else:
                self._unrecorded.append(row)
            live.is_recorded = True
        # it may have ended while the row was being stored
        if not self._is_over(until, child):
            await self._sleep(until, child)
        self._wakes.pop(live.path, None)
        if child is not None:
            self._children.pop(child, None)

    def _is_over(self, until: datetime | None, child: str | None) -> bool:
        if child is not None and child in self._ended_children:
            return True
        return self.services.clock.now() >= until if until is not None else child is None

    async def _sleep(self, until: datetime | None, child: str | None) -> None:
        """Rest while a sibling goes on. Raises ``Leaving`` when none does."""
        if not self._rest():
            raise Leaving
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        self._sleepers.add(sleeper)
        if child is not None:
            self._children[child] = sleeper
        timer = loop.create_task(self._alarm(sleeper, until)) if until is not None else None
        try:
            await sleeper
        finally:
            self._sleepers.discard(sleeper)
            if timer is not None:
                timer.cancel()

    async def _alarm(self, sleeper: asyncio.Future[None], until: datetime) -> None:
        while (left := (until - self.services.clock.now()).total_seconds()) > 0:
            # short steps, so that a jump of the wall clock is noticed
            await asyncio.sleep(min(left, 60.0))
        if not sleeper.done():
            self._active += 1
            sleeper.set_result(None)

    def _rest(self) -> bool:
        """One branch rests; False when none is left that could go on, and the tree is left."""
        self._active -= 1
        if self._active > 0:
            return True
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_exception(Leaving())
        return False

    # recording

    async def note_start(self, live: LiveRun) -> None:
        """A task starts: recorded without being waited for, and not at all when it ends at once."""
        if self.claim.suspect and not self.has_progress.is_set():
            await self._record(
                task_runs=(live.row(TaskRunState.RUNNING),),
                state=ExecutionState.RUNNING,
                suspect_start=not self._said_running,
            )
            self._said_running = True
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
        self.services.storage.record_soon(self._transition(task_runs=rows, state=state))
        if state is not None:
            self.services.bus.tell("execution", self.execution_id, state="RUNNING")
        else:
            self.services.bus.tell("taskRun", self.execution_id, state="RUNNING")

    def forget(self, live: LiveRun) -> None:
        """A task run has ended: its start need not be stored any more, nor its deadline kept."""
        self._starts.pop(live.path, None)
        self._deadlines.pop(live.path, None)

    def _cancel_starts(self) -> None:
        if self._starts_handle is not None:
            self._starts_handle.cancel()
            self._starts_handle = None
        self._starts.clear()

    def note_cancelled(self, live: LiveRun) -> None:
        """A task run is being cancelled: killed with its execution or group, or handed back."""
        self.forget(live)
        if self._handing_back and not self._killed:
            if not live.task.is_group:
                live.attempts = max(live.attempts - 1, 0)
            row = live.row(TaskRunState.CREATED, outputs=live.progress)
        else:
            row = live.row(TaskRunState.KILLED, ended_at=self.services.clock.now(), error="killed")
        self.services.storage.record_soon(self._transition(task_runs=(row,)))

    def note_group_progress(self, live: LiveRun, lowest: int, warned: int) -> None:
        """A loop's lowest unfinished iteration, so that a new walk starts there."""
        live.progress = {"iterationCount": lowest, "warnings": warned}
        row = live.row(TaskRunState.RUNNING, outputs=live.progress)
        self.services.storage.record_soon(self._transition(task_runs=(row,)))

    async def record_rows(self, *rows: TaskRun, progress: bool = False) -> None:
        """Store task runs, with the log lines that wait, and return when they are durable."""
        for row in rows:
            self._starts.pop(row.path, None)
            self.services.watches.row(self.execution_id, row)
        # once said under a claim, progress stays: saying it again would rewrite the execution's row each time
        await self._record(task_runs=rows, progress=progress and not self.has_progress.is_set())
        if progress:
            self.has_progress.set()
        if self.services.bus.has_listeners:
            for row in rows:
                self.services.bus.tell("taskRun", self.execution_id, path=row.path, state=row.state.value)

    async def _let_go(self) -> None:
        """Give the claim back until the earliest wake-up, or at once."""
        wakes = [until for until, _ in self._wakes.values() if until] + list(self._deadlines.values())
        waits = bool(self._wakes) and not self._handing_back
        states = {state for _, state in self._wakes.values()}
        state = ExecutionState.RUNNING
        if waits:
            state = ExecutionState.PAUSED if TaskRunState.PAUSED in states else ExecutionState.RETRYING
        wake_at = min(wakes, default=None) if waits else None
        await self._record(
            task_runs=tuple(self._unrecorded),
            state=state,
            started_at=self._started_at,
            wake_at=wake_at,
            release=True,
            progress=waits,
            waits_for=tuple(self._children) if waits else (),
        )
        self.has_progress.set()
        self.services.bus.tell("execution", self.execution_id, state=state.value)
        if wake_at is None or self._children:
            # one that was waited for may have ended while the claim was given back
            self.host.wake(self.services.clock.now())
        if wake_at is not None:
            self.host.wake(wake_at)

    async def _finish(
        self,
        state: ExecutionState,
        error: str | None,
        rows: tuple[TaskRun, ...] = (),
        *,
        outputs: Mapping[str, Any] | None = None,
        packed: Mapping[str, Any] | None = None,
    ) -> None:
        """End the execution; its end may start other flows and let the next of its queue in."""
        self._cancel_starts()
        event = await self.host.end_of(self.claim.execution, state, outputs=outputs, error=error)
        recorded = await self._record(
            task_runs=rows,
            state=state,
            error=error,
            outputs=packed,
            started_at=self._started_at,
            progress=True,
            arrivals=(event,) if event is not None else (),
        )
        self.has_progress.set()
        self.services.watches.end(self.execution_id, rows)
        bus = self.services.bus
        if bus.has_listeners:
            execution = self.claim.execution
            for row in rows:
                bus.tell("taskRun", self.execution_id, path=row.path, state=row.state.value)
            bus.tell(
                "execution",
                self.execution_id,
                state=state.value,
                flow=str(execution.flow),
                event=execution.event_id,
                seconds=(self.services.clock.now() - execution.created_at).total_seconds(),
            )
        self.host.take(recorded)
        self.host.tell_parents(recorded.woken, self.execution_id)

    async def _record(self, **changes: Any) -> Recorded:
        """Record a step, again and again while the storage is away. Raises ``FenceRefused``."""
        transition = self._transition(logs=self.log.take(), **changes)
        backoff = 0.1
        while True:
            try:
                return await self.services.storage.record(transition)
            except (StorageUnavailable, StorageOverloaded) as error:
                log.warning("storage is away; trying again", execution=self.execution_id, error=str(error))
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _LONGEST_BACKOFF)

    def _transition(self, **changes: Any) -> Transition:
        return Transition(self.execution_id, self.claim.fence, self.services.clock.now(), **changes)


_MOST_BRANCHES = 1000
"""How many branches run side by side where nothing says less."""


class _Group:
    """A group's branches while they run."""

    def __init__(
        self, executor: Executor, live: LiveRun, scope: RunScope, branches: Iterable[Branch]
    ) -> None:
        self._executor = executor
        self._live = live
        self._scope = scope
        self.done = 0
        self.failed = 0
        self.warned = 0
        self.error: str | None = None
        # where an earlier walk had got to; iterations below it are complete
        first = 0
        if live.progress is not None:
            first = int(live.progress.get("iterationCount", 0))
            self.warned = int(live.progress.get("warnings", 0))
        self.done = first
        self._branches = islice(iter(branches), first, None)
        self._may_be_stored = bool(scope.stored) or not executor.claim.fresh
        self._lowest = first
        self._ahead: set[int] = set()
        self._workers = self._workers_at_start = 1
        self._empty = 0

    async def work(self) -> None:
        """Take branches and run them until none is left or one has failed."""
        while not self.failed:
            branch = next(self._branches, None)
            if branch is None:
                return
            end = await self._executor._sequence(branch.tasks, await self._branch_scope(branch))
            self.done += 1
            if end.failed_task is not None:
                self.failed += 1
                self.error = self.error or end.error
                return
            self.warned += end.warned
            if branch.index is not None:
                self._advance(branch.index)

    async def work_side_by_side(self, workers: int) -> None:
        """Run ``workers`` at a time. The last of them hands its activity back to the group."""
        executor = self._executor
        loop = asyncio.get_running_loop()
        executor._active += workers - 1
        self._workers = self._workers_at_start = workers
        running = [loop.create_task(self._worker()) for _ in range(workers)]
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError:
            for worker in running:
                worker.cancel()
            await asyncio.wait(running)
            raise
        leaving = False
        for worker in running:
            error = None if worker.cancelled() else worker.exception()
            leaving = leaving or isinstance(error, Leaving)
            if error is not None and not isinstance(error, Leaving):
                raise error
        if leaving:
            raise Leaving

    async def _worker(self) -> None:
        await self.work()
        self._workers -= 1
        if self._workers and not self._executor._rest():
            raise Leaving

    async def _branch_scope(self, branch: Branch) -> RunScope:
        if branch.index is None:
            return self._scope.beside(f"{self._live.path}/", branch.names)
        prefix = f"{self._live.path}[{branch.index}]/"
        stored = {}
        if self._may_be_stored:
            stored = await self._executor.services.storage.scope_task_runs(
                self._executor.execution_id, prefix
            )
            # Steps are stored in the order they are made, but those of one turn of the loop may pass each
            # other: only a row of empty iterations longer than that can be says that none follows.
            self._empty = 0 if stored else self._empty + 1
            self._may_be_stored = self._empty <= 2 * self._workers_at_start
        return self._scope.inside(prefix, branch.names, stored)

    def _advance(self, index: int) -> None:
        """Keep the lowest unfinished iteration; store it now and then."""
        self._ahead.add(index)
        before = self._lowest
        while self._lowest in self._ahead:
            self._ahead.discard(self._lowest)
            self._lowest += 1
        if self._lowest // _PROGRESS_EVERY != before // _PROGRESS_EVERY:
            self._executor.note_group_progress(self._live, self._lowest, self.warned)
