"""A stage for trees of tasks whose every call is watched, and whose hub goes down at a given write.

Used by the tests of random trees. What is wrong is written down, not raised: a task's failure would be taken for
its outcome.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from hub.model.execution import Execution, ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import Arrival, Fail, Failed, Skip, TaskContext, Wait
from hub.plugin.storage import EventFilter, ExecutionFilter, Page, Transition
from hub.testing import Harness
from tests.support.stage import Stage
from tests.support.trees import Place, Task, TreeMaker, same_branch

GOOD = (TaskRunState.SUCCESS, TaskRunState.WARNING, TaskRunState.SKIPPED)
_BAD_ENDS = (ExecutionState.FAILED, ExecutionState.KILLED, ExecutionState.CANCELLED)
_LOOP = re.compile(r"\[(\d+)\]")

CHILDREN = (
    """id: child
namespace: t
inputs: [{id: n, type: JSON, required: false}]
variables: {v: "{{ ticket() }}"}
tasks:
  - {id: before, type: test.call, name: plain}
  - {id: nap, type: flow.sleep, duration: 5ms}
  - id: each
    type: flow.loop
    values: "{{ [ticket(), ticket()] }}"
    tasks: [{id: after, type: test.call, name: plain}]
outputs: [{id: n, type: JSON, value: "{{ inputs.n ?? 0 }}"}]
""",
    """id: breaks
namespace: t
tasks:
  - {id: before, type: test.call, name: plain}
  - {id: no, type: test.call, name: bad}
errors: [{id: sorry, type: test.call, name: plain}]
""",
    """id: needy
namespace: t
tasks:
  - {id: before, type: test.call, name: suspends}
  - id: p
    type: flow.parallel
    tasks:
      - {id: deep, type: flow.subflow, flowId: child}
      - {id: need, type: test.call, name: need}
""",
    "id: alone\nnamespace: t\ntasks: [{id: one, type: test.call, name: plain}]\n",
)

# trees

_LEAVES: tuple[Task, ...] = (
    {"type": "test.call", "name": "plain"},
    {"type": "test.call", "name": "plain"},
    {"type": "test.call", "name": "suspends"},
    {"type": "test.call", "name": "waits once"},
    {"type": "test.call", "name": "skips"},
    {"type": "test.call", "name": "plain", "timeout": "PT1H"},
    {"type": "test.call", "name": "plain", "when": "{{ 1 > 2 }}"},
    {"type": "test.call", "name": "once more", "retry": {"interval": "3ms", "maxAttempts": 9}},
    {
        "type": "test.call",
        "name": "fails",
        "retry": {"interval": "2ms", "maxAttempts": 2},
        "allowFailure": True,
    },
    {"type": "test.call", "name": "bad", "allowFailure": True},
    {"type": "flow.sleep", "duration": "4ms"},
    {"type": "flow.sleep", "duration": "20ms", "timeout": "PT1H"},
    {"type": "flow.subflow", "flowId": "child", "inputs": {"n": "PLACE"}},
    {"type": "flow.subflow", "flowId": "child", "inputs": {"n": "PLACE"}, "timeout": "PT1H"},
    {"type": "flow.subflow", "flowId": "breaks", "transmitFailed": False},
    {"type": "flow.subflow", "flowId": "breaks", "allowFailure": True},
    {"type": "flow.subflow", "flowId": "alone", "wait": False},
    {"type": "event.emit", "event": "told", "data": {"at": "PLACE"}},
    {"type": "return", "value": "PLACE"},
)
_BREAKS: tuple[Task, ...] = (
    {"type": "test.call", "name": "bad"},
    {"type": "test.call", "name": "fails", "retry": {"interval": "2ms", "maxAttempts": 2}},
    {"type": "flow.subflow", "flowId": "breaks"},
)
_NEEDS: tuple[Task, ...] = (
    {"type": "test.call", "name": "need"},
    {"type": "flow.subflow", "flowId": "needy"},
)


def make_tree(chance: random.Random, *, may_break: bool = False, needs: bool = False) -> list[Task]:
    """Tasks by chance: with ``may_break`` such that fail for good, with ``needs`` such that fail until mended."""

    def leaf(chance: random.Random, place: Place) -> Task:
        leaves = _LEAVES
        if may_break and place.is_alone and chance.random() < 0.1:
            leaves = _BREAKS
        elif needs and chance.random() < 0.2:
            leaves = _NEEDS
        text = json.dumps(chance.choice(leaves))
        made: Task = json.loads(text.replace('"PLACE"', json.dumps(place.item)))
        return made

    # a group that ended well in spite of what is to be mended would not be gone into again
    maker = TreeMaker(chance, leaf, values="ticket()", toss="ticket()", is_tolerant=not needs)
    tasks = maker.tasks()
    if needs:
        tasks.append({"id": "need", **_NEEDS[0]})
    return tasks


def source(tasks: Sequence[Task], **more: Any) -> str:
    """The flow of such tasks."""
    return json.dumps(
        {
            "id": "f",
            "namespace": "t",
            **({"timeout": "PT1H"} if len(tasks) % 2 else {}),
            "variables": {"v": "{{ ticket() }}"},
            "tasks": tasks,
            "errors": [{"id": "sorry", "type": "flow.subflow", "flowId": "child"}],
            "finally": [{"id": "last", "type": "test.call", "name": "plain"}],
            **more,
        }
    )


# watching


@dataclass(frozen=True)
class Disturbance:
    """What happens to a hub, and at which of its writes."""

    how: str
    """``crash before`` a write is stored, ``crash after`` it and before it is answered, ``stop`` or ``kill``."""
    write: int


class Watched:
    """A stage whose tasks are watched."""

    def __init__(self, name: str = "staged:x") -> None:
        self.stage = Stage()
        self.stage.registry = replace(self.stage.registry, functions={"ticket": self._ticket})
        self.storage = name
        self.calls: Counter[tuple[str, str]] = Counter()
        self.completed: set[tuple[str, str]] = set()
        self.wrong: list[str] = []
        self.writes = 0
        self.is_mended = True
        self.happened = asyncio.Event()
        self._plan: Disturbance | None = None
        self._tickets = count()
        self._first_tickets: dict[tuple[str, str], int] = {}
        self._variables: dict[str, Any] = {}
        self._moments: dict[tuple[str, str], datetime] = {}
        stage = self.stage
        stage.before_record, stage.after_record = self._before_record, self._after_record
        stage.before_accept, stage.after_accept = self._before_accept, self._after_accept
        stage.after_soon = self._after_soon
        for body in (self._plain, self._suspends, self._waits_once, self._skips):
            stage.on(body.__name__[1:].replace("_", " "))(body)
        for body in (self._once_more, self._fails, self._bad, self._need):
            stage.on(body.__name__[1:].replace("_", " "))(body)

    def hub(self, folder: Path) -> AbstractAsyncContextManager[Harness]:
        """Open the hub; the storage is the same each time."""
        return self.stage.hub(folder, self.storage, with_triggers=False)

    def forget_moments(self) -> None:
        """What waited begins anew."""
        self._moments.clear()

    def arm(self, plan: Disturbance | None) -> None:
        """From now on writes are counted, until it happens."""
        self._plan, self.writes = plan, 0
        self.happened.clear()

    # what tasks do

    def _ticket(self) -> int:
        return next(self._tickets)

    def _called(self, ctx: TaskContext) -> int:
        """Which call of it this is."""
        key = (ctx.execution_id, ctx.path)
        self.calls[key] += 1
        if key in self.completed:
            self.wrong.append(f"{ctx.path} was completed and ran again")
        names = ctx._scope.names  # type: ignore[attr-defined]
        if self._variables.setdefault(ctx.execution_id, names["vars"]) != names["vars"]:
            self.wrong.append(f"{ctx.path} saw other variables")
        self._look_at_items(ctx, names.get("item"))
        return self.calls[key]

    def _look_at_items(self, ctx: TaskContext, item: Any) -> None:
        """All values of a loop are of one rendering: tickets in a row."""
        for found in reversed(list(_LOOP.finditer(ctx.path))):
            loop, index = ctx.path[: found.start()], int(found.group(1))
            first = item["value"] - index
            if (
                item["index"] != index
                or self._first_tickets.setdefault((ctx.execution_id, loop), first) != first
            ):
                self.wrong.append(f"{loop}: its values were rendered more than once")
            item = item.get("parent")

    async def _plain(self, ctx: TaskContext) -> dict[str, str]:
        self._called(ctx)
        return {"path": ctx.path}

    async def _suspends(self, ctx: TaskContext) -> dict[str, str]:
        self._called(ctx)
        await asyncio.sleep(0.002)
        return {"path": ctx.path}

    async def _waits_once(self, ctx: TaskContext) -> dict[str, str]:
        if self._called(ctx) == 1:
            raise Wait(until=ctx.now() + timedelta(milliseconds=3))
        return {"path": ctx.path}

    async def _skips(self, ctx: TaskContext) -> None:
        self._called(ctx)
        raise Skip("not today")

    async def _once_more(self, ctx: TaskContext) -> dict[str, str]:
        self._called(ctx)
        if ctx.attempt == 1:
            raise Failed("not yet")
        return {"path": ctx.path}

    async def _fails(self, ctx: TaskContext) -> None:
        self._called(ctx)
        raise Failed("never")

    async def _bad(self, ctx: TaskContext) -> None:
        self._called(ctx)
        raise Fail("bad")

    async def _need(self, ctx: TaskContext) -> None:
        self._called(ctx)
        if not self.is_mended:
            raise Fail("broken")

    # what is written

    def _before(self) -> None:
        self.writes += 1
        if self._is_due("crash before"):
            self.stage.crash()
            self.happened.set()

    def _after(self) -> None:
        if self._is_due("crash after"):
            self.stage.crash()
            self.happened.set()
        elif self._is_due("stop") or self._is_due("kill"):
            self.happened.set()

    def _is_due(self, how: str) -> bool:
        return self._plan is not None and self._plan.how == how and self._plan.write == self.writes

    async def _before_record(self, step: Transition) -> None:
        self._before()

    async def _after_record(self, step: Transition) -> None:
        self._see(step)
        self._after()

    def _after_soon(self, step: Transition) -> None:
        # one that is lost is a crash before the write that follows it
        self.writes += 1
        self._see(step)
        self._after()

    async def _before_accept(self, arrivals: Sequence[Arrival]) -> None:
        if not _starts(arrivals):
            self._before()

    async def _after_accept(self, arrivals: Sequence[Arrival]) -> None:
        if not _starts(arrivals):
            self._after()

    def _see(self, step: Transition) -> None:
        for run in step.task_runs:
            key = (step.execution_id, run.path)
            if run.state in GOOD:
                self.completed.add(key)
            if run.type == "flow.sleep" and run.wake_at is not None:
                moment = self._moments.setdefault(key, run.wake_at)
                if moment != run.wake_at:
                    self.wrong.append(f"{run.path} waits until another moment")


def _starts(arrivals: Sequence[Arrival]) -> bool:
    """Whether it is the test that starts what it watches."""
    return any(new.flow.id == "f" for arrival in arrivals for new in arrival.executions)


# what came of it


async def outcome(hub: Harness, ended: Execution, *, again: bool = False) -> dict[str, Any]:
    """How an execution and its subflows ended, without what differs from run to run.

    With ``again`` it was started again: a subflow that failed may stand beside the one that took its place.
    """
    storage = hub.node.services.storage
    runs: dict[str, Any] = {}
    for run in (await storage.task_runs(ended.id, Page(5000))).items:
        path = same_branch(run.path)
        assert path not in runs, f"{path} is in two branches"
        outputs = {k: v for k, v in (run.outputs or {}).items() if k not in _DIFFERENT}
        runs[path] = [run.state.value, json.loads(same_branch(json.dumps(outputs))), run.error]
    found = (await storage.executions(ExecutionFilter(parent=ended.id), Page(1000))).items
    children: dict[str, Any] = {}
    for child in sorted(found, key=lambda child: child.created_at):
        assert child.parent is not None
        before = children.get(same_branch(child.parent.path))
        assert before is None or (again and before["state"] in _BAD_ENDS), "a subflow was started twice"
        children[same_branch(child.parent.path)] = await outcome(hub, child, again=again)
    error = same_branch(ended.error) if ended.error else None
    return {"state": ended.state.value, "error": error, "runs": runs, "children": children}


_DIFFERENT = ("executionId", "eventId", "executionIds", "condition", "case")


async def started(hub: Harness) -> dict[str, int]:
    """How many executions there are of each flow, and how many events were emitted."""
    storage = hub.node.services.storage
    found = Counter(str(one.flow) for one in (await storage.executions(ExecutionFilter(), Page(5000))).items)
    events = (await storage.events(EventFilter(), Page(5000))).items
    return {**found, "events": sum(one.event.type == "told" for one in events)}


async def put_flows(hub: Harness, tree: str) -> None:
    """Save a tree's flow and those it starts."""
    for child in CHILDREN:
        await hub.put(child)
    await hub.put(tree)


async def until_end(hub: Harness, watched: Watched, execution_id: str, patience: float = 30) -> bool:
    """Wait for the end, or until it is disturbed; answers whether it ended."""
    end = asyncio.create_task(hub.ended(execution_id))
    disturbed = asyncio.create_task(watched.happened.wait())
    try:
        done, _ = await asyncio.wait([end, disturbed], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        assert done, "it does not end"
    finally:
        for one in (end, disturbed):
            one.cancel()
        await asyncio.gather(end, disturbed, return_exceptions=True)
    return not watched.happened.is_set()
