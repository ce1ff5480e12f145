"""Tell the listeners of plugins what was stored: events with their verdicts, executions, ended task runs.

Called by the parts of the engine behind each write. Costs one look when nobody listens; secret values are
masked, as everywhere where text leaves the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from hub.engine.services import Services
from hub.errors import HubError
from hub.model.event import Event, Verdict
from hub.model.execution import Execution, ExecutionState, NewExecution
from hub.model.ids import FlowKey
from hub.model.task_run import TaskRun
from hub.plugin.listener import EventAccepted, ExecutionChanged, TaskRunEnded
from hub.plugin.storage import Accepted, Arrival, Ends, Killed, Recorded

Born = Mapping[str, ExecutionState]


def tell_accepted(services: Services, arrival: Arrival, accepted: Accepted) -> None:
    """An arrival was stored, unless it was known."""
    if services.bus.has_audience and not (accepted.receipt.duplicate or accepted.receipt.conflict):
        tell_arrival(services, arrival, accepted.born)


def tell_arrival(services: Services, arrival: Arrival, born: Born) -> None:
    """An event was stored, and its executions were born; so was what the ends of some of them brought."""
    if not services.bus.has_audience:
        return
    if arrival.event is not None:
        services.bus.inform(_accepted(services, arrival, arrival.event, born))
    now = services.clock.now()
    for new in arrival.executions:
        state = born.get(new.id)
        if state is None:
            continue  # known before
        services.bus.inform(_born(arrival, new, state, now))
        following = arrival.ends.get(new.id, {}).get(state)
        if following is not None:
            tell_arrival(services, following, born)


def tell_execution(
    services: Services, execution: Execution, state: ExecutionState, error: str | None = None
) -> None:
    """An execution stands otherwise."""
    if services.bus.has_audience:
        services.bus.inform(
            ExecutionChanged(
                id=execution.id,
                flow=execution.flow,
                state=state,
                at=services.clock.now(),
                trigger=execution.trigger,
                event_id=execution.event_id,
                labels=execution.labels,
                error=_masked(services, error),
            )
        )


def tell_end(
    services: Services,
    execution: Execution,
    state: ExecutionState,
    error: str | None,
    brought: Arrival | None,
    recorded: Recorded,
) -> None:
    """An execution has ended, which may be an event, start others and let the next of its queue in."""
    tell_execution(services, execution, state, error)
    if brought is not None:
        tell_arrival(services, brought, recorded.born)
    for claim in recorded.claims:
        tell_execution(services, claim.execution, ExecutionState.CREATED)


def tell_task_runs(services: Services, execution: Execution, runs: Iterable[TaskRun]) -> None:
    """Task runs were stored; those that have ended are told."""
    if not services.bus.has_audience:
        return
    for run in runs:
        if run.state.is_terminal:
            services.bus.inform(
                TaskRunEnded(
                    execution_id=execution.id,
                    flow=execution.flow,
                    path=run.path,
                    task=run.task,
                    type=run.type,
                    state=run.state,
                    attempts=run.attempts,
                    started_at=run.started_at,
                    ended_at=run.ended_at,
                    error=_masked(services, run.error),
                )
            )


async def tell_killed(
    services: Services, killed: Killed, ends: Mapping[str, Ends] | None, reason: str
) -> None:
    """A kill ended some at once and asked for the ends of others."""
    if not services.bus.has_audience:
        return
    with suppress(HubError):  # it is done, whether or not it can be told
        for id in (*killed.held, *killed.ended):
            execution = await services.storage.execution(id)
            tell_execution(services, execution, execution.state, execution.error or reason)
            following = (ends or {}).get(id, {}).get(execution.state)
            if following is not None:
                started = [await services.storage.execution(new.id) for new in following.executions]
                tell_arrival(services, following, {one.id: one.state for one in started})


def _accepted(services: Services, arrival: Arrival, event: Event, born: Born) -> EventAccepted:
    return EventAccepted(
        id=event.id,
        source=event.source,
        type=event.type,
        time=event.time,
        subject=_masked(services, event.subject),
        flow=FlowKey(event.namespace, event.flow) if event.namespace and event.flow else None,
        trigger=event.trigger,
        execution_ids=tuple(new.id for new in arrival.executions if new.id in born),
        verdicts=tuple(_plain(services, verdict) for verdict in arrival.verdicts),
        dead=_masked(services, arrival.dead),
        depth=event.depth,
        replay_of=event.replay_of,
    )


def _born(arrival: Arrival, new: NewExecution, state: ExecutionState, at: datetime) -> ExecutionChanged:
    error = new.queue.over_limit if state.is_terminal and new.queue is not None else None
    return ExecutionChanged(
        id=new.id,
        flow=new.flow,
        state=state,
        at=at,
        trigger=new.trigger,
        event_id=arrival.event.id if arrival.event is not None else None,
        labels=new.labels,
        error=error,
    )


def _plain(services: Services, verdict: Verdict) -> Verdict:
    return replace(verdict, reason=_masked(services, verdict.reason))


def _masked(services: Services, text: str | None) -> str | None:
    return services.vault.mask(text) if text else text
