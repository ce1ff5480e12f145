"""Run again what has ended: restart an execution from where it failed, replay one or an event as a new one.

Both end in an ordinary walk of the tree: completed task runs give their stored outputs, the others run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hub.engine.attempt import DEADLINE
from hub.engine.catalog import FlowCatalog
from hub.engine.compiled import CompiledFlow
from hub.engine.intake import Intake
from hub.engine.services import Services
from hub.engine.task_runner import ATTEMPTS_BEFORE, ROUND, round_of
from hub.engine.triggers import build_declared
from hub.engine.waiting_events import is_batched
from hub.errors import Conflict, InvalidInput, NotFound
from hub.model.event import Event, Occurrence, Origin, Receipt
from hub.model.execution import Execution, ExecutionState
from hub.model.flow import TaskDeclaration
from hub.model.ids import FlowKey, derived_id, new_id
from hub.model.task_run import TaskRun, TaskRunState, scope_of
from hub.plugin.storage import Page, Restart
from hub.plugin.trigger import Trigger

_GOOD = (TaskRunState.SUCCESS, TaskRunState.WARNING, TaskRunState.SKIPPED)
_BAD = tuple(state for state in TaskRunState if state not in _GOOD)
_CAN_RESTART = (ExecutionState.FAILED, ExecutionState.KILLED, ExecutionState.CANCELLED)
_ENDED_WELL = (ExecutionState.SUCCESS, ExecutionState.WARNING)
_MANUAL = "hub.manual.started"


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay, and the tasks of the original that its revision does not have any more."""

    execution: Execution
    gone: tuple[str, ...] = ()


class Again:
    """Restarts and replays."""

    def __init__(self, services: Services, catalog: FlowCatalog, intake: Intake) -> None:
        self._services = services
        self._catalog = catalog
        self._intake = intake

    async def restart(self, execution_id: str) -> Execution:
        """Go on with a failed, killed or cancelled execution: what has completed is not run again.

        Its id, inputs and revision stay. ``errors`` and ``finally`` run again once it has ended again. Raises
        ``NotFound``, ``Conflict`` when there is nothing to go on with.
        """
        execution = await self._services.storage.execution(execution_id)
        if execution.state not in _CAN_RESTART:
            raise Conflict(
                f"execution {execution_id} is {execution.state.value}",
                hint="one that failed, was killed or cancelled can be restarted; replay starts a new one",
            )
        flow = await self._catalog.compiled(execution.flow, execution.revision)
        bad = await self._task_runs(execution_id, _BAD)
        forget = _ending_paths(flow) if _failed_in_tasks(flow, bad) else []
        left = await self._unfinished(execution_id, [run for run in bad if not _is_below(run.path, forget)])
        reopen = [await self._reopened(flow, run, execution_id) for run in left]
        return await self._services.storage.restart(
            Restart(execution_id, self._services.clock.now(), tuple(forget), tuple(reopen))
        )

    async def replay(
        self,
        execution_id: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        revision: int | None = None,
        from_task: str | None = None,
    ) -> Replayed:
        """Start a new execution with another one's trigger, inputs and revision, or others where given.

        With ``from_task`` what completed before that task is taken over, matched by path, not run again.
        Raises ``NotFound``, ``InvalidInput``, ``Conflict`` while the original has not ended.
        """
        services = self._services
        original = await services.storage.execution(execution_id)
        if from_task is not None and not original.state.is_terminal:
            raise Conflict(f"execution {execution_id} has not ended yet", hint="kill it first, or wait")
        flow = await self._catalog.compiled(original.flow, revision or original.revision)
        new_execution = new_id()
        runs: list[TaskRun] = []
        gone: list[str] = []
        if from_task is not None:
            if inputs:
                raise InvalidInput(
                    "other inputs would not fit what is taken over",
                    hint="leave out either the inputs or the task to begin with",
                )
            runs, gone = await self._taken_over(original, flow, from_task, new_execution)
        data = original.trigger_data
        started = await self._intake.start(
            original.flow,
            inputs={**_inputs_of(original, flow), **(inputs or {})},
            labels={**original.labels, **(labels or {})},
            trigger=original.trigger if original.trigger in flow.triggers else None,
            data=await services.payloads.unpack(data) if data is not None else None,
            revision=flow.revision,
            execution_id=new_execution,
            depth=original.depth,
            replay_of=original.id,
            event_replay_of=await self._first_event(original.event_id),
            task_runs=runs,
        )
        return Replayed(started, tuple(gone))

    async def replay_event(self, event_id: str, given: Mapping[str, Any] | None = None) -> Receipt:
        """Let a stored event happen once more, for the flows as they are now; a dead letter is settled by it.

        ``given`` stands in place of what its data have under the same names. Raises ``NotFound`` when its
        trigger is not there any more, and ``InvalidInput`` where what could not be read still cannot.
        """
        storage = self._services.storage
        stored = await storage.event(event_id)
        event = stored.event
        if event.type == _MANUAL and not given:
            receipt = await self._replay_started(event_id)
        else:
            origin = Origin(
                event.source,
                FlowKey(event.namespace, event.flow) if event.namespace and event.flow else None,
                event.trigger,
                replay_of=event.replay_of or event.id,
            )
            data = await self._repaired(event, given or {})
            waits = self._joins_a_batch(event)
            occurrence = Occurrence(data, type=event.type, subject=event.subject, waits=waits)
            [receipt] = await self._services.bus.publish(origin, [occurrence], event_type=event.type)
        if stored.dead is not None:
            await storage.settle_dead(event_id)
        return receipt

    async def _repaired(self, event: Event, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Its data as its trigger, as it is now, reads them."""
        data = await self._services.payloads.unpack(event.data)
        if event.namespace and event.flow:
            flow = FlowKey(event.namespace, event.flow)
            for declaration in self._catalog.triggers(flow):
                component = self._services.registry.triggers.get(declaration.type)
                if declaration.id == event.trigger and component is not None:
                    if component.repaired is Trigger.repaired:
                        break
                    trigger = await build_declared(self._services, self._catalog, flow, declaration)
                    return trigger.repaired(data, given)
        return {**data, **given}

    def _joins_a_batch(self, event: Event) -> bool:
        """Whether its trigger, as it is now, would take it up with others; a batch goes as it is."""
        registry = self._services.registry
        if not event.namespace or not event.flow:
            return False
        for declaration in self._catalog.triggers(FlowKey(event.namespace, event.flow)):
            if declaration.id == event.trigger and is_batched(registry, declaration):
                return event.type == registry.triggers[declaration.type].event_type
        return False

    async def _replay_started(self, event_id: str) -> Receipt:
        """What somebody started by hand with data starts again with the same inputs."""
        found = (await self._services.storage.executions_of_events([event_id])).get(event_id, [])
        if not found:
            raise NotFound(f"event {event_id} started nothing that could be replayed")
        replayed = [await self.replay(one.id) for one in found]
        first = replayed[0].execution
        return Receipt(first.event_id or event_id, tuple(one.execution.id for one in replayed))

    async def _first_event(self, event_id: str | None) -> str | None:
        """The event that a replay repeats: the first one, where the original was a replay itself."""
        if event_id is None:
            return None
        try:
            return (await self._services.storage.event(event_id)).event.replay_of or event_id
        except NotFound:
            return event_id

    # what is kept

    async def _task_runs(self, execution_id: str, states: tuple[TaskRunState, ...]) -> list[TaskRun]:
        found: list[TaskRun] = []
        page = Page(1000)
        while True:
            part = await self._services.storage.task_runs(execution_id, page, states=states)
            found += part.items
            if part.next_cursor is None:
                return found
            page = Page(1000, part.next_cursor)

    async def _unfinished(self, execution_id: str, bad: Iterable[TaskRun]) -> list[TaskRun]:
        """Without those inside a group that is complete: it ended well in spite of them and is not gone into."""
        bad = list(bad)
        paths = {run.path for run in bad}
        scopes: dict[str, Mapping[str, TaskRun]] = {}
        left: list[TaskRun] = []
        for run in bad:
            for group in _groups_above(run.path):
                scope = scope_of(group)
                if group not in paths and scope not in scopes:
                    scopes[scope] = await self._services.storage.scope_task_runs(execution_id, scope)
                found = scopes[scope].get(group) if group not in paths else None
                if found is not None and found.state in _GOOD:
                    break
            else:
                left.append(run)
        return left

    async def _reopened(self, flow: CompiledFlow, run: TaskRun, execution_id: str) -> TaskRun:
        """A task run as it stands before it goes on: a group keeps what it decided, a leaf begins anew."""
        task = flow.tasks.get(run.task)
        decided = dict(await self._services.payloads.unpack(run.decisions or {}))
        if task is None or not task.is_group:
            decisions = {ATTEMPTS_BEFORE: run.attempts}
            if run.state is TaskRunState.KILLED and await self._has_succeeded(execution_id, run, decided):
                decisions[ROUND] = round_of(decided)
            return TaskRun(
                run.path, run.task, run.type, TaskRunState.CREATED, run.attempts, decisions=decisions
            )
        # its time starts anew; the loop's values stay
        had_deadline = decided.pop(DEADLINE, None) is not None
        return TaskRun(
            run.path,
            run.task,
            run.type,
            TaskRunState.RUNNING,
            run.attempts,
            decisions=decided if had_deadline else run.decisions or {},
            started_at=run.started_at,
        )

    async def _has_succeeded(self, execution_id: str, run: TaskRun, decided: Mapping[str, Any]) -> bool:
        """Whether what a task run had started has ended well, though the task run was killed before it knew."""
        started = derived_id(execution_id, run.path, str(round_of(decided)))
        try:
            return (await self._services.storage.execution(started)).state in _ENDED_WELL
        except NotFound:
            return False

    async def _taken_over(
        self, original: Execution, flow: CompiledFlow, from_task: str, owner: str
    ) -> tuple[list[TaskRun], list[str]]:
        """The task runs that a replay from a task has already, and the tasks that its revision lacks."""
        order = [task.id for task in _walk(flow.flow.tasks)]
        if from_task not in order:
            raise NotFound(f'flow {original.flow} has no task "{from_task}" in revision {flow.revision}')
        before = set(order[: order.index(from_task)])
        around = _around(flow.flow.tasks, from_task)
        kept: list[TaskRun] = []
        gone: dict[str, None] = {}
        runs = await self._task_runs(original.id, tuple(TaskRunState))
        complete = {run.path for run in runs if run.task in before - around and run.state in _GOOD}
        for run in runs:
            if run.task not in flow.tasks:
                gone[run.task] = None
            elif run.task in around:
                kept.append(await self._reopened(flow, await self._moved(run, owner), owner))
            elif run.path in complete or any(group in complete for group in _groups_above(run.path)):
                kept.append(await self._moved(run, owner))
        return kept, list(gone)

    async def _moved(self, run: TaskRun, owner: str) -> TaskRun:
        """The run as another execution's: what lies in the file store is stored again for it."""
        payloads = self._services.payloads
        outputs, decisions = run.outputs, run.decisions
        if outputs is not None:
            outputs = await payloads.pack(owner, run.path, await payloads.unpack(outputs))
        if decisions is not None:
            decisions = await payloads.pack(owner, run.task, await payloads.unpack(decisions))
        return replace(run, outputs=outputs, decisions=decisions)


def _walk(tasks: Iterable[TaskDeclaration]) -> Iterable[TaskDeclaration]:
    for task in tasks:
        yield from task.walk()


def _around(tasks: Iterable[TaskDeclaration], wanted: str) -> set[str]:
    """The groups that a task lies in."""
    return {
        task.id for task in _walk(tasks) if task.id != wanted and any(one.id == wanted for one in task.walk())
    }


def _ending_paths(flow: CompiledFlow) -> list[str]:
    return [task.id for task in (*flow.flow.errors, *flow.flow.finally_)]


def _failed_in_tasks(flow: CompiledFlow, bad: Iterable[TaskRun]) -> bool:
    """Whether it was ``tasks`` that failed, not what runs after them."""
    own = {task.id for task in _walk(flow.flow.tasks)}
    return any(run.task in own for run in bad)


def _groups_above(path: str) -> Iterator[str]:
    """The groups that a task run lies in, from the inside out."""
    while above := path.rpartition("/")[0]:
        path = above.rpartition("[")[0] if above.endswith("]") else above
        yield path


def _is_below(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith((f"{root}/", f"{root}[")) for root in roots)


def _inputs_of(execution: Execution, flow: CompiledFlow) -> dict[str, Any]:
    """The inputs that the revision still has."""
    declared = {one.id for one in flow.flow.inputs}
    return {name: value for name, value in execution.inputs.items() if name in declared}
