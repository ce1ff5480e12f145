"""Random trees of tasks, disturbed at random steps by crashes, stops, restarts and replays.

However often the hub goes down, an execution comes to the same end, and no task that was completed runs again.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.model.execution import Execution, ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import Fail, Failed, TaskContext
from hub.plugin.storage import ExecutionFilter, Page, Transition
from hub.testing import Harness
from tests.support.stage import Stage

_S, _T = ExecutionState, TaskRunState
_GOOD = (_T.SUCCESS, _T.WARNING, _T.SKIPPED)
CHILD = """id: child
namespace: t
inputs: [{id: n, type: JSON}]
tasks:
  - {id: before, type: test.call, name: plain}
  - {id: nap, type: flow.sleep, duration: 5ms}
  - id: each
    type: flow.loop
    values: [1, 2]
    tasks: [{id: after, type: test.call, name: plain}]
outputs: [{id: n, type: JSON, value: "{{ inputs.n }}"}]
"""

PLACE = "which iteration it is"

# trees


@st.composite
def leaves(draw: st.DrawFn) -> dict[str, Any]:
    return draw(
        st.sampled_from(
            [
                {"type": "test.call", "name": "plain"},
                {"type": "test.call", "name": "plain"},
                {"type": "test.call", "name": "suspends"},
                {"type": "test.call", "name": "once more", "retry": {"interval": "3ms", "maxAttempts": 9}},
                {"type": "test.call", "name": "bad", "allowFailure": True},
                {"type": "test.call", "name": "plain", "when": "{{ 1 > 2 }}"},
                {"type": "flow.sleep", "duration": "4ms"},
                {"type": "flow.sleep", "duration": "20ms"},
                {"type": "flow.subflow", "flowId": "child", "inputs": {"n": PLACE}},
                {"type": "return", "value": PLACE},
            ]
        )
    )


def groups(tasks: st.SearchStrategy[list[dict[str, Any]]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.builds(lambda t: {"type": "flow.sequential", "tasks": t}, tasks),
        st.builds(
            lambda t, limit: {"type": "flow.parallel", "tasks": t, "concurrencyLimit": limit},
            tasks,
            st.integers(0, 2),
        ),
        st.builds(
            # the values are decided when the loop begins: every walk must find the same
            lambda t, n, limit: {
                "type": "flow.loop",
                "values": "{{ [" + ", ".join(["now()"] * n) + "] }}",
                "tasks": t,
                "concurrencyLimit": limit,
            },
            tasks,
            st.integers(0, 5),
            st.integers(1, 3),
        ),
        st.builds(
            lambda t: {"type": "flow.if", "condition": "{{ now() != 'x' }}", "then": t, "else": []}, tasks
        ),
    )


def lists_of(tasks: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(tasks, min_size=1, max_size=3)


trees = lists_of(st.recursive(leaves(), lambda inner: groups(lists_of(inner)), max_leaves=8))


def named(tasks: list[dict[str, Any]], ids: Iterator[int], place: str = "top") -> list[dict[str, Any]]:
    found = []
    for task in tasks:
        task = {"id": f"t{next(ids)}", **task}
        if task.get("value") == PLACE:
            task["value"] = place
        if "inputs" in task:
            task["inputs"] = {"n": [place]}
        inside = "{{ item.index }}" if task["type"] == "flow.loop" else place
        for name in ("tasks", "then", "else"):
            if name in task:
                task[name] = named(task[name], ids, inside)
        if task.get("else") == []:
            del task["else"]
        found.append(task)
    return found


def source(tasks: list[dict[str, Any]], *, needs: bool = False, **more: Any) -> str:
    ids = count()
    body = named(tasks, ids)
    if needs:
        body.append({"id": "need", "type": "test.call", "name": "need"})
    end = [{"id": "last", "type": "test.call", "name": "plain"}]
    return json.dumps({"id": "f", "namespace": "t", "tasks": body, "finally": end, **more})


# disturbances


@dataclass(frozen=True)
class Disturbance:
    how: str
    """``crash before`` a step is stored, ``crash after`` it and before it is answered, or ``stop``."""
    step: int


disturbances = st.lists(
    st.builds(Disturbance, st.sampled_from(["crash before", "crash after", "stop"]), st.integers(1, 25)),
    min_size=1,
    max_size=4,
    # a task that is running in three crashes in a row is taken for what brings the hub down
).filter(lambda plan: sum(one.how != "stop" for one in plan) <= 2)


@dataclass
class Watched:
    """A stage whose tasks are watched: none may be called after it was completed."""

    stage: Stage
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    items: dict[tuple[str, str], Any] = field(default_factory=dict)
    completed: set[tuple[str, str]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    left: Disturbance | None = None
    steps: int = 0
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        stage = self.stage
        stage.before_record, stage.after_record = self.before, self.after
        stage.on("plain")(self.plain)
        stage.on("suspends")(self.suspends)
        stage.on("once more")(self.once_more)
        stage.on("bad")(self.bad)
        stage.on("need")(self.need)
        self.is_fixed = True

    def called(self, ctx: TaskContext) -> None:
        key = (ctx.execution_id, ctx.path)
        self.calls[key] += 1
        if key in self.completed:
            self.wrong.append(f"{ctx.path} ran again")
        item = ctx._scope.names.get("item", {}).get("value")  # type: ignore[attr-defined]
        if self.items.setdefault(key, item) != item:
            self.wrong.append(f"{ctx.path} saw another value")

    async def plain(self, ctx: TaskContext) -> dict[str, str]:
        self.called(ctx)
        return {"path": ctx.path}

    async def suspends(self, ctx: TaskContext) -> dict[str, str]:
        self.called(ctx)
        await asyncio.sleep(0.002)
        return {"path": ctx.path}

    async def once_more(self, ctx: TaskContext) -> dict[str, str]:
        self.called(ctx)
        if ctx.attempt == 1:
            raise Failed("not yet")
        return {"path": ctx.path}

    async def bad(self, ctx: TaskContext) -> None:
        self.called(ctx)
        raise Fail("bad")

    async def need(self, ctx: TaskContext) -> None:
        self.called(ctx)
        if not self.is_fixed:
            raise Fail("broken")

    def arm(self, disturbance: Disturbance | None) -> None:
        self.left, self.steps = disturbance, 0
        self.happened.clear()

    async def before(self, step: Transition) -> None:
        self.steps += 1
        if self.left is not None and self.left.how == "crash before" and self.steps == self.left.step:
            self.stage.crash()
            self.happened.set()

    async def after(self, step: Transition) -> None:
        for run in step.task_runs:
            if run.state in _GOOD:
                self.completed.add((step.execution_id, run.path))
        if self.left is not None and self.steps == self.left.step:
            if self.left.how == "crash after":
                self.stage.crash()
            self.happened.set()


async def undisturbed(tree: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        watched = Watched(Stage())
        async with watched.stage.hub(Path(folder), "staged:x", with_triggers=False) as hub:
            await hub.put(CHILD)
            await hub.put(tree)
            ended = await hub.run("t/f")
            return await outcome(hub, ended)


async def outcome(hub: Harness, ended: Execution) -> dict[str, Any]:
    """How an execution and the subflows of it ended, without what differs from run to run."""
    storage = hub.node.services.storage
    runs = {}
    for run in (await storage.task_runs(ended.id, Page(5000))).items:
        outputs = {k: v for k, v in (run.outputs or {}).items() if k != "executionId"}
        runs[run.path] = (run.state.value, outputs, run.error)
    children = (await storage.executions(ExecutionFilter(parent=ended.id), Page(1000))).items
    below = {child.parent.path: await outcome(hub, child) for child in children if child.parent}
    assert len(below) == len(children), "a subflow was started twice"
    return {"state": ended.state.value, "error": ended.error, "runs": runs, "children": below}


async def until_end(hub: Harness, watched: Watched, execution_id: str) -> bool:
    """Wait for the end, or until it is disturbed; answers whether it ended."""
    end = asyncio.create_task(hub.ended(execution_id))
    disturbed = asyncio.create_task(watched.happened.wait())
    async with asyncio.timeout(30):
        await asyncio.wait([end, disturbed], return_when=asyncio.FIRST_COMPLETED)
    for one in (end, disturbed):
        one.cancel()
    await asyncio.gather(end, disturbed, return_exceptions=True)
    return not watched.happened.is_set()


async def moved(watched: Watched, folder: Path, plan: list[Disturbance], execution_id: str) -> dict[str, Any]:
    """Open the hub again and again until the execution has ended."""
    for disturbance in [*plan, None]:
        watched.arm(disturbance)
        async with watched.stage.hub(folder, "staged:x", with_triggers=False) as hub:
            if await until_end(hub, watched, execution_id):
                return await outcome(hub, await hub.node.services.storage.execution(execution_id))
    raise AssertionError("it did not end")


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@SETTINGS
@given(trees, disturbances)
def test_a_disturbed_execution_ends_as_an_undisturbed_one(
    tasks: list[dict[str, Any]], plan: list[Disturbance]
) -> None:
    async def body() -> None:
        tree = source(tasks)
        wanted = await undisturbed(tree)
        with TemporaryDirectory() as name:
            folder = Path(name)
            watched = Watched(Stage())
            watched.arm(plan[0])
            async with watched.stage.hub(folder, "staged:x", with_triggers=False) as hub:
                await hub.put(CHILD)
                await hub.put(tree)
                started = await hub.start("t/f")
                if await until_end(hub, watched, started.id):
                    found = await outcome(hub, await hub.node.services.storage.execution(started.id))
                else:
                    found = None
            if found is None:
                found = await moved(watched, folder, plan[1:], started.id)
        assert watched.wrong == []
        assert found == wanted

    run(body())


@SETTINGS
@given(trees, disturbances)
def test_a_restarted_execution_ends_as_if_it_had_not_failed(
    tasks: list[dict[str, Any]], plan: list[Disturbance]
) -> None:
    async def body() -> None:
        tree = source(tasks, needs=True)
        wanted = await undisturbed(tree)
        with TemporaryDirectory() as name:
            folder = Path(name)
            watched = Watched(Stage())
            watched.is_fixed = False
            watched.arm(None)
            async with watched.stage.hub(folder, "staged:x", with_triggers=False) as hub:
                await hub.put(CHILD)
                await hub.put(tree)
                failed = await hub.run("t/f")
                assert failed.state is _S.FAILED
                watched.is_fixed = True
                # what comes after the tasks is gone through again
                watched.completed.discard((failed.id, "last"))
                await hub.node.again.restart(failed.id)
            found = await moved(watched, folder, plan, failed.id)
        assert watched.wrong == []
        assert found == wanted

    run(body())


@SETTINGS
@given(trees, disturbances, st.data())
def test_a_replay_from_a_task_takes_over_what_came_before(
    tasks: list[dict[str, Any]], plan: list[Disturbance], data: st.DataObject
) -> None:
    tree = source(tasks)
    from_task = data.draw(st.sampled_from([task["id"] for task in json.loads(tree)["tasks"]]))
    before = [task["id"] for task in json.loads(tree)["tasks"]]
    before = before[: before.index(from_task)]

    async def body() -> None:
        with TemporaryDirectory() as name:
            folder = Path(name)
            watched = Watched(Stage())
            watched.arm(None)
            async with watched.stage.hub(folder, "staged:x", with_triggers=False) as hub:
                await hub.put(CHILD)
                await hub.put(tree)
                first = await hub.run("t/f")
                wanted = await outcome(hub, first)
                watched.arm(plan[0])
                replayed = (await hub.node.again.replay(first.id, from_task=from_task)).execution
                found = None
                if await until_end(hub, watched, replayed.id):
                    ended = await hub.node.services.storage.execution(replayed.id)
                    found = await outcome(hub, ended)
            if found is None:
                found = await moved(watched, folder, plan[1:], replayed.id)
        assert watched.wrong == []
        assert (found["state"], found["runs"]) == (wanted["state"], wanted["runs"])
        called = {path for id, path in watched.calls if id == replayed.id}
        assert not [path for path in called if path.split("/")[0].split("[")[0] in before]

    run(body())
