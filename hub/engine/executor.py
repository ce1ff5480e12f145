"""Walk one execution's tree of tasks to its end, or until all of it waits.

One executor moves one claimed execution. After a crash, a wait or a restart the tree is walked again:
completed paths give their stored outputs, deciding values are read, and only what is left runs. Pause,
recovery and retry are this one mechanism.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import structlog

from hub.config.inputs import output_value
from hub.engine.attempt import problem_of
from hub.engine.compiled import CompiledFlow
from hub.engine.flow_time import in_time
from hub.engine.groups import MOST_BRANCHES, Group
from hub.engine.logs import ExecutionLog
from hub.engine.outbox import Outbox
from hub.engine.outputs import plain
from hub.engine.owned import OwnedWork
from hub.engine.payloads import is_put_away
from hub.engine.recording import Recorder
from hub.engine.scope import RunScope, top_scope
from hub.engine.services import Services
from hub.engine.stopping import Leaving, Reason, Stopped, Stops
from hub.engine.task_runner import LiveRun, run_task
from hub.engine.telling import tell_end, tell_execution
from hub.engine.waiting import Waits, Wake
from hub.errors import FenceRefused, HubError, StorageError, StorageUnavailable
from hub.model.execution import Claim, Execution, ExecutionState, Parent
from hub.model.flow import TaskDeclaration
from hub.model.ids import FlowKey, TriggerKey
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.context import Branch, GroupOutcome, TriggerContext
from hub.plugin.outcomes import Fail
from hub.plugin.storage import Accepted, Arrival, Recorded
from hub.plugin.trigger import Trigger

log = structlog.get_logger("hub.engine")


@dataclass(slots=True)
class SequenceEnd:
    """How a run of tasks one after another ended."""

    failed_task: str | None = None
    error: str | None = None
    warned: bool = False
    is_late: bool = False
    """Whether the time of the flow itself was over; it takes the place of the task then."""
    culprit: str | None = None
    """The task that failed, ``failed_task`` itself or one inside it."""


class Host(Protocol):
    """What an executor asks of the node it runs on."""

    is_over: bool
    """Whether the process is going down, in order or because everything in it was cancelled."""

    def take(self, accepted: Accepted | Recorded, /) -> None:
        """Run what was claimed for this node."""

    def wake(self, at: datetime, /) -> None:
        """Something may be claimed from ``at`` on."""

    def tell_parents(self, parents: Sequence[str], child: str, /) -> None:
        """A child has ended: tell those of its parents that this node moves."""

    @property
    def outbox(self) -> Outbox:
        """Makes the notices that tasks owe."""

    def trigger_context(self, key: TriggerKey, trigger: Trigger, /) -> TriggerContext:
        """What a trigger is given that prepares an execution, whether or not it runs."""

    def hears_ends(self, flow: CompiledFlow, /) -> bool:
        """Whether an end of the flow may bring anything."""

    async def end_of(
        self,
        execution: Execution,
        state: ExecutionState,
        /,
        *,
        outputs: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Arrival | None:
        """What an end brings: the event that it is, where anybody wants it, and the notices it owes."""

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

    async def kill_children(self, execution_id: str, reason: str, is_meant: Callable[[str], bool], /) -> None:
        """Kill what an execution waits for at the paths that are meant."""


class Executor:
    """Moves one claimed execution."""

    def __init__(self, claim: Claim, flow: CompiledFlow, services: Services, host: Host) -> None:
        self.claim = claim
        self.host = host
        self.flow = flow
        self.services = services
        self.execution_id = claim.execution.id
        self.log = ExecutionLog(claim, services)
        self.stops = Stops()
        self.recorder = Recorder(claim, services, self.log, self.stops)
        self.waits = Waits(services.clock, services.timer, self.stops)
        self.owned: OwnedWork[str] = OwnedWork()
        """What its tasks have asked of the hub."""
        self.started_at = claim.execution.started_at or services.clock.now()
        self._killed = claim.execution.error or "killed"
        self._warned: set[str] = set()

    # from outside

    @property
    def has_progress(self) -> asyncio.Event:
        """Set once anything of it has ended; a suspect that gets here is none."""
        return self.recorder.has_progress

    @property
    def is_killed(self) -> bool:
        """Whether it ends KILLED."""
        return self.stops.reason is Reason.KILL

    def kill(self, reason: str) -> None:
        """End it KILLED: what runs is cancelled, process trees and all."""
        if not self.is_killed:
            self._killed = reason
        self.stops.stop(Reason.KILL)

    def child_ended(self, execution_id: str) -> None:
        """An execution that a leaf of this one may wait for has ended."""
        self.waits.child_ended(execution_id)

    def hand_back(self) -> None:
        """Give it back unfinished, without burning an attempt; another start goes on with it."""
        self.stops.stop(Reason.HAND_BACK)

    def lose(self) -> None:
        """Stop what runs: the claim is another hub's now."""
        self.stops.stop(Reason.LOST)

    async def run(self) -> None:
        """Move it as far as it goes. Raises nothing: what goes wrong ends the execution or is logged."""
        try:
            await self._move()
        except FenceRefused:
            log.warning("another incarnation holds the execution now", execution=self.execution_id)
        except StorageUnavailable as error:
            # the node stops, and cannot say so: the next start takes the execution over
            log.warning("execution stays claimed", execution=self.execution_id, error=str(error))
        except Exception as error:
            # a fault of the engine itself: visible in the execution, never a silent stop
            log.exception("execution stopped by an internal error", execution=self.execution_id)
            await self._break_off(f"internal error: {type(error).__name__}: {error}")
        finally:
            self.recorder.forget_starts()
            self.stops.close()
            if (last_lines := self.log.close()) is not None:
                await last_lines
            if self.owned.is_busy:
                await self.owned.settled()

    async def _break_off(self, reason: str) -> None:
        try:
            await self.host.kill_children(self.execution_id, reason, lambda _: True)
            await self._finish(ExecutionState.FAILED, reason)
        except StorageError as error:
            log.warning("execution stays claimed", execution=self.execution_id, error=str(error))

    async def _move(self) -> None:
        if self.claim.execution.state is ExecutionState.KILLING:
            self.stops.stop(Reason.KILL)
        elif self.claim.suspect and self.stops.reason is None:
            await self.recorder.start_suspect()
        try:
            await self.services.turns.take(self.claim.execution.flow.namespace)
            self.stops.check(None)
            await self._walk()
        except Leaving:
            await self._let_go()
        except Stopped:
            if self.is_killed:
                await self._finish(ExecutionState.KILLED, self._killed)
            else:
                await self._let_go()

    async def _walk(self) -> None:
        execution, services, recorder = self.claim.execution, self.services, self.recorder
        stored: dict[str, TaskRun] = {}
        if not self.claim.fresh:
            stored = await recorder.persist(lambda: services.storage.scope_task_runs(self.execution_id, ""))
        trigger = execution.trigger_data or {}
        if is_put_away(trigger):
            put_away = trigger
            trigger = await recorder.persist(lambda: services.payloads.unpack(put_away))
        scope = top_scope(
            self.claim,
            flow=self.flow.names,
            trigger=trigger,
            started_at=self.started_at,
            stored=stored,
            shows_execution=self.flow.shows_execution,
        )
        flow = self.flow.flow
        problem: str | None = None
        if execution.trigger is not None and self.flow.prepares(execution.trigger):
            problem = await self._prepare(scope, execution.trigger)
        if problem is None and flow.variables:
            problem = await self._decide_variables(scope)
        if problem is not None:
            await self._finish(ExecutionState.FAILED, problem)
            return
        more = bool(flow.errors or flow.finally_)
        if flow.timeout is None:
            main = await self.sequence(flow.tasks, scope, leave_last=not more)
        else:
            main = await in_time(
                self,
                flow.timeout,
                stored,
                lambda whole: self.sequence(flow.tasks, scope, group=whole, leave_last=not more),
            )
        end = main
        if main.failed_task is not None and flow.errors:
            scope.names["error"] = {"task": main.culprit, "message": main.error}
            await self.sequence(flow.errors, scope)
        if flow.finally_:
            if main.failed_task is not None:
                scope.names["error"] = {"task": main.culprit, "message": main.error}
            after = await self.sequence(flow.finally_, scope)
            end = SequenceEnd(
                main.failed_task or after.failed_task,
                main.error or after.error,
                main.warned or after.warned,
                main.is_late,
                main.culprit or after.culprit,
            )
        await self._conclude(end, scope)

    async def _prepare(self, scope: RunScope, name: str) -> str | None:
        """Let the trigger make its data true; answers why it cannot."""
        execution, services = self.claim.execution, self.services
        if execution.event_id is None:
            return None
        try:
            with self.stops.code_of_others(None):
                trigger = await self.flow.preparing(name, services.functions, services.vault)
                if trigger is not None:
                    key = TriggerKey(*execution.flow, name)
                    ctx = self.host.trigger_context(key, trigger)
                    await trigger.prepare(ctx, scope.names["trigger"], execution.event_id)
        except StorageError:
            raise
        except HubError as error:
            # one that has done something may have taken away what its trigger brought: its tasks say what they miss
            return None if scope.stored else self.services.vault.mask(f"trigger: {error.message}")
        except Exception as error:
            # a plugin's failure must not become the hub's
            log.warning("trigger cannot prepare", execution=self.execution_id, trigger=name)
            return self.services.vault.mask(f"trigger: {problem_of(error).reason}")
        return None

    async def _decide_variables(self, scope: RunScope) -> str | None:
        """The flow's variables: decided once and read on every later walk; answers why they cannot be."""
        payloads = self.services.payloads
        stored = self.claim.variables
        values: Mapping[str, Any] = {}
        if stored is not None:
            values = await self.recorder.persist(lambda: payloads.unpack(stored))
        fields = {name: field for name, field in self.flow.variable_fields.items() if name not in values}
        try:
            with self.stops.code_of_others(None):
                made = {
                    name: await field.render(scope.names, self.services.vault)
                    for name, field in fields.items()
                }
            kept = plain({name: made[name] for name in fields if name in self.flow.decided_variables})
        except StorageError:
            raise
        except Exception as error:
            return self.services.vault.mask(f"variables: {problem_of(error).reason}")
        if kept:
            packed = await self.recorder.persist(lambda: payloads.pack(self.execution_id, "variables", kept))
            # a task may have used them and the hub gone down before anything else of it is stored
            await self.recorder.step(variables=packed)
        scope.names["vars"] = {**made, **values, **kept}
        return None

    async def _conclude(self, end: SequenceEnd, scope: RunScope) -> None:
        """Render the flow's outputs and end the execution."""
        if self.is_killed:
            raise Stopped
        if end.failed_task is not None:
            failed = end.error if end.is_late else f'task "{end.failed_task}" failed: {end.error}'
            await self._finish(ExecutionState.FAILED, failed)
            return
        outputs: dict[str, Any] = {}
        for declaration, field in self.flow.outputs:
            try:
                with self.stops.code_of_others(None):
                    value = await field.render(scope.names, self.services.vault)
                outputs[declaration.id] = output_value(declaration.type, plain(value))
            except StorageError:
                raise
            except Exception as error:
                reason = f'output "{declaration.id}": {problem_of(error).reason}'
                await self._finish(ExecutionState.FAILED, self.services.vault.mask(reason))
                return
        if self.is_killed:
            raise Stopped
        state = ExecutionState.WARNING if end.warned else ExecutionState.SUCCESS
        await self._finish(state, None, outputs=outputs)

    async def sequence(
        self,
        tasks: Sequence[TaskDeclaration],
        scope: RunScope,
        *,
        group: LiveRun | None = None,
        leave_last: bool = False,
    ) -> SequenceEnd:
        """Run tasks one after another; the last end may be left to be recorded with the execution's own."""
        warned = False
        last = len(tasks) - 1
        for place, declaration in enumerate(tasks):
            task = self.flow.tasks[declaration.id]
            stored = scope.stored.get(scope.prefix + declaration.id)
            ended = await run_task(self, task, scope, stored, group=group, record=not leave_last)
            if ended.row is not None:
                if place == last or ended.is_failure:
                    self.recorder.later[ended.row.path] = ended.row
                    self.recorder.later_notices += ended.notices
                else:
                    await self.recorder.rows(ended.row, progress=True, notices=ended.notices)
            if ended.is_failure:
                culprit = ended.culprit or declaration.id
                return SequenceEnd(declaration.id, ended.error, warned, culprit=culprit)
            warned = warned or ended.state is TaskRunState.WARNING
        return SequenceEnd(None, None, warned)

    def timed_out(self, reason: str) -> SequenceEnd:
        """The end of a flow's tasks whose time is over."""
        return SequenceEnd(self.flow.flow.id, reason, is_late=True, culprit=self.flow.flow.id)

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
        group = Group(self, live, scope, branches)
        workers = min(limit or MOST_BRANCHES, count if count is not None else MOST_BRANCHES)
        with self.stops.own_code(live):
            if workers <= 1:
                await group.work()
            else:
                await group.work_side_by_side(workers)
        if group.failed:
            live.culprit = group.culprit
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

    async def wait(self, live: LiveRun, wake: Wake, row: TaskRun) -> None:
        """Wait for a row's moment or a child's end: in memory while a sibling runs, else by leaving the tree."""
        live.is_waiting = True
        self.recorder.forget_start(live.path)
        if not live.is_recorded:
            live.is_recorded = True
            if self.waits.is_last:
                self.recorder.later[row.path] = row
            else:
                await self.recorder.rows(row, progress=True)
        # a child may have ended while the row was being stored
        if not self.waits.is_over(wake):
            self.stops.check(live)
            await self.waits.sleep(live, wake)
        live.is_waiting = False

    def forget(self, live: LiveRun) -> None:
        """A task run is over: neither its start nor its deadline is needed any more."""
        self.recorder.forget_start(live.path)
        self.waits.forget(live)

    # letting go

    async def _let_go(self) -> None:
        """Give the claim back until the earliest wake-up, or at once."""
        wakes = self.waits.wakes if self.stops.reason is None else []
        state = ExecutionState.RUNNING
        if wakes:
            paused = any(wake.state is TaskRunState.PAUSED for wake in wakes)
            state = ExecutionState.PAUSED if paused else ExecutionState.RETRYING
        wake_at = self.waits.wake_at if wakes else None
        children = self.waits.children if wakes else ()
        await self.recorder.step(
            state=state,
            started_at=self.started_at,
            wake_at=wake_at,
            release=True,
            progress=bool(wakes),
            waits_for=children,
        )
        self.has_progress.set()
        self.services.bus.tell("execution", self.execution_id, state=state.value)
        if wakes:
            tell_execution(self.services, self.claim.execution, state)
        if wake_at is None or children or self.stops.reason is not None:
            # while the claim was given back, what it waits for may have ended, or its end been asked for
            self.host.wake(self.services.clock.now())
        if wake_at is not None:
            self.host.wake(wake_at)

    async def _finish(
        self, state: ExecutionState, error: str | None, *, outputs: Mapping[str, Any] | None = None
    ) -> None:
        """End the execution; its end may start other flows and let the next of its queue in."""
        self.recorder.forget_starts()
        packed = None
        if outputs:
            given, payloads = outputs, self.services.payloads
            packed = await self.recorder.persist(lambda: payloads.pack(self.execution_id, "outputs", given))
        brought: Arrival | None = None
        if self.host.hears_ends(self.flow):
            brought = await self._brought_by_end(state, outputs, error)
        recorded = await self.recorder.step(
            state=state,
            error=error,
            outputs=packed,
            started_at=self.started_at,
            progress=True,
            arrivals=(brought,) if brought is not None else (),
        )
        self.has_progress.set()
        self.services.watches.end(self.execution_id, ())
        if self.services.bus.is_heard("execution"):
            execution = self.claim.execution
            self.services.bus.tell(
                "execution",
                self.execution_id,
                state=state.value,
                flow=str(execution.flow),
                event=execution.event_id,
                seconds=(self.services.clock.now() - execution.created_at).total_seconds(),
            )
        tell_end(self.services, self.claim.execution, state, error, brought, recorded)
        self.host.take(recorded)
        self.host.tell_parents(recorded.woken, self.execution_id)

    async def _brought_by_end(
        self, state: ExecutionState, outputs: Mapping[str, Any] | None, error: str | None
    ) -> Arrival | None:
        host = self.host
        execution = replace(self.claim.execution, started_at=self.started_at)
        try:
            return await self.recorder.persist(
                lambda: host.end_of(execution, state, outputs=outputs, error=error)
            )
        except StorageUnavailable:
            raise
        except Exception:
            # an end that others cannot be told of is an end all the same
            log.exception("nobody is told of the end of an execution", execution=self.execution_id)
            return None
