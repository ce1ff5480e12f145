"""What the storage contract stores: small events, executions, steps and task runs, all at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hub.model.event import Event
from hub.model.execution import Claim, ExecutionState, NewExecution, Parent
from hub.model.ids import FlowKey, TriggerKey, new_id
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.storage import (
    Arrival,
    DeliveryKey,
    Ends,
    ExecutionFilter,
    Killed,
    Page,
    Recorded,
    Storage,
    Transition,
)

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FLOW = FlowKey("shop", "orders")
TRIGGER = TriggerKey("shop", "orders", "hook")
HOUR = timedelta(hours=1)


def an_event(data: Mapping[str, Any] | None = None) -> Event:
    """An event of the trigger ``hook``."""
    return Event(new_id(), f"/{TRIGGER}", "test", AT, *TRIGGER, data=data or {"body": {"n": 1}})


def an_event_from_outside(data: Mapping[str, Any] | None = None) -> Event:
    """An event that came by no flow."""
    return Event(new_id(), "/sensors", "test", AT, None, None, None, data=data or {"n": 1})


def an_execution(**changes: Any) -> NewExecution:
    """A new execution of ``shop/orders``."""
    given = {"id": new_id(), "flow": FLOW, "revision": 1, "created_at": AT, "trigger": "hook", **changes}
    return NewExecution(**given)


def a_delivery(key: str = "d1", body: str = "h1", expires: timedelta = timedelta(days=1)) -> DeliveryKey:
    """A delivery key of the trigger ``hook``."""
    return DeliveryKey(str(TRIGGER), key, body, AT + expires)


async def started(storage: Storage, **changes: Any) -> Claim:
    """A new execution, born claimed."""
    [accepted] = await storage.accept([Arrival(executions=(an_execution(**changes),))], at=AT)
    [claim] = accepted.claims
    return claim


def step(claim: Claim, **changes: Any) -> Transition:
    """A step under a claim."""
    return Transition(claim.execution.id, claim.fence, changes.pop("at", AT), **changes)


def a_run(path: str = "a", state: TaskRunState = TaskRunState.SUCCESS, **changes: Any) -> TaskRun:
    """A task run; one that has ended did so at once."""
    given = {"ended_at": AT if state.is_terminal else None, **changes}
    return TaskRun(path, path.rsplit("/", 1)[-1], "log", state, 1, **given)


def a_child_of(claim: Claim, path: str = "call", **changes: Any) -> NewExecution:
    """A new execution that a task run of another waits for."""
    parent = Parent(claim.execution.id, path)
    given = {"flow": FlowKey("shop", "parts"), "trigger": None, "parent": parent, "depth": 1, **changes}
    return an_execution(**given)


async def child_of(storage: Storage, claim: Claim, **changes: Any) -> Claim:
    """A child, born claimed."""
    [accepted] = await storage.accept([Arrival((a_child_of(claim, **changes),))], at=AT)
    [child] = accepted.claims
    return child


async def paused(storage: Storage, claim: Claim, **changes: Any) -> Claim:
    """An execution that has let go to wait; for nothing, unless told."""
    given = {"state": ExecutionState.PAUSED, "release": True, "progress": True, **changes}
    await storage.record(step(claim, **given))
    return claim


async def record(storage: Storage, transition: Transition) -> Recorded:
    """Record a step beside others: begun in the order in which all of them are awaited."""
    return await storage.record(transition)


async def kill(storage: Storage, claim: Claim, ends: Mapping[str, Ends] | None = None) -> Killed:
    """Kill one because it is enough."""
    return await storage.request_kill(claim.execution.id, at=AT, reason="enough", ends=ends)


async def claimed_ids(storage: Storage, at: datetime = AT) -> list[str]:
    """Claim whatever may run."""
    return [claim.execution.id for claim in await storage.claim(limit=100, at=at)]


async def ids_of(storage: Storage, **filter: Any) -> list[str]:
    """The executions that a filter shows, newest first."""
    found = await storage.executions(ExecutionFilter(**filter), Page(1000))
    return [execution.id for execution in found.items]


async def paths_of(storage: Storage, execution_id: str) -> list[str]:
    """The paths of an execution's task runs, in order."""
    return [run.path for run in (await storage.task_runs(execution_id, Page(1000))).items]
