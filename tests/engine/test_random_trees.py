"""Random trees of tasks, disturbed at any write by crashes, stops, kills, restarts and replays.

However often the hub goes down, an execution comes to the same end, and no task that was completed runs again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.engine import dispatcher, executor, task_context
from hub.engine.task_runner import LiveRun
from hub.model.execution import ExecutionState
from hub.testing import Harness
from plugins_core.memory.executions import Executions
from tests.support.trees import Task, every
from tests.support.watched import (
    Disturbance,
    Watched,
    make_tree,
    outcome,
    put_flows,
    source,
    started,
    until_end,
)

_S = ExecutionState


@dataclass(frozen=True)
class Share:
    """A disturbance at a share of the writes that an undisturbed run takes."""

    how: str
    share: float

    def of(self, writes: int) -> Disturbance:
        return Disturbance(self.how, 1 + int(self.share * writes))


plans = st.lists(
    st.builds(Share, st.sampled_from(["crash before", "crash after", "stop"]), st.floats(0, 0.999)),
    min_size=1,
    max_size=4,
    # a task that is running in four crashes in a row is taken for what brings the hub down
).filter(lambda plan: sum(one.how != "stop" for one in plan) <= 3)
seeds = st.integers(0, 2**32)


@dataclass
class Wanted:
    """What an undisturbed run came to."""

    outcome: dict[str, Any]
    started: dict[str, int]
    writes: int


async def undisturbed(tree: str) -> Wanted:
    with TemporaryDirectory() as folder:
        watched = Watched()
        async with watched.hub(Path(folder)) as hub:
            await put_flows(hub, tree)
            ended = await hub.run("t/f")
            assert watched.wrong == []
            return Wanted(await outcome(hub, ended), await started(hub), watched.writes)


Begin = Callable[[Harness], Awaitable[str]]


async def disturbed(
    watched: Watched,
    folder: Path,
    begin: Begin,
    plan: list[Disturbance],
    *,
    again: bool = False,
    patience: float = 30,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Begin, open the hub again after each disturbance, and answer what came of it."""
    execution_id = None
    for disturbance in [*plan, None]:
        async with watched.hub(folder) as hub:
            if execution_id is None:
                execution_id = await begin(hub)
            watched.arm(disturbance)
            if await until_end(hub, watched, execution_id, patience):
                ended = await hub.node.services.storage.execution(execution_id)
                return await outcome(hub, ended, again=again), await started(hub)
            if disturbance is not None and disturbance.how == "kill":
                await hub.node.kill(execution_id)
                if (await hub.ended(execution_id)).state is _S.KILLED:
                    watched.forget_moments()
                    await hub.node.restart(execution_id)
    raise AssertionError("it did not end")


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@SETTINGS
@given(seeds, plans)
def test_a_disturbed_execution_ends_as_an_undisturbed_one(seed: int, plan: list[Share]) -> None:
    async def body() -> None:
        tree = source(make_tree(random.Random(seed), may_break=True))
        wanted = await undisturbed(tree)
        watched = Watched()

        async def begin(hub: Harness) -> str:
            await put_flows(hub, tree)
            return (await hub.start("t/f")).id

        with TemporaryDirectory() as folder:
            found, counts = await disturbed(
                watched, Path(folder), begin, [one.of(wanted.writes) for one in plan]
            )
        assert watched.wrong == []
        assert found == wanted.outcome
        assert counts == wanted.started

    run(body())


@SETTINGS
@given(seeds, plans)
def test_a_restarted_execution_ends_as_if_it_had_not_failed(seed: int, plan: list[Share]) -> None:
    async def body() -> None:
        tree = source(make_tree(random.Random(seed), needs=True))
        wanted = await undisturbed(tree)
        watched = Watched()

        async def begin(hub: Harness) -> str:
            watched.is_mended = False
            await put_flows(hub, tree)
            failed = await hub.run("t/f")
            assert failed.state is _S.FAILED
            watched.is_mended = True
            # what comes after the tasks is gone through again
            watched.completed -= {(failed.id, "sorry"), (failed.id, "last")}
            await hub.node.restart(failed.id)
            return failed.id

        with TemporaryDirectory() as folder:
            plan_ = [one.of(wanted.writes) for one in plan]
            found, _ = await disturbed(watched, Path(folder), begin, plan_, again=True)
        found["children"].pop("sorry", None)
        assert watched.wrong == []
        assert found == wanted.outcome

    run(body())


@SETTINGS
@given(seeds, st.floats(0, 0.999), plans)
def test_a_killed_execution_that_is_restarted_ends_as_if_it_had_gone_on(
    seed: int, share: float, plan: list[Share]
) -> None:
    async def body() -> None:
        tree = source(make_tree(random.Random(seed)))
        wanted = await undisturbed(tree)
        watched = Watched()

        async def begin(hub: Harness) -> str:
            await put_flows(hub, tree)
            return (await hub.start("t/f")).id

        with TemporaryDirectory() as folder:
            plan_ = [one.of(wanted.writes) for one in [Share("kill", share), *plan]]
            found, _ = await disturbed(watched, Path(folder), begin, plan_, again=True)
        assert watched.wrong == []
        assert found == wanted.outcome

    run(body())


@SETTINGS
@given(seeds, plans, st.booleans())
def test_a_replay_from_a_task_takes_over_what_came_before(
    seed: int, plan: list[Share], is_other_revision: bool
) -> None:
    chance = random.Random(seed)
    tasks = make_tree(chance)
    order = [task["id"] for task in every(tasks)]
    from_task = chance.choice([id for id in order if "-x" not in id])
    newer = _other_revision(chance, tasks, from_task) if is_other_revision else tasks
    before = set(order[: order.index(from_task)])

    async def body() -> None:
        tree = source(newer)
        wanted = await undisturbed(tree)
        watched = Watched()
        replayed = ""
        had_run: set[str] = set()

        async def begin(hub: Harness) -> str:
            nonlocal replayed
            await put_flows(hub, source(tasks))
            first = await hub.run("t/f")
            had_run.update(path.rpartition("/")[2] for path in await hub.task_runs(first.id))
            await hub.put(tree)
            revision = 2 if is_other_revision else None
            answer = await hub.node.again.replay(first.id, from_task=from_task, revision=revision)
            assert set(answer.gone) <= before
            replayed = answer.execution.id
            return replayed

        with TemporaryDirectory() as folder:
            found, _ = await disturbed(watched, Path(folder), begin, [one.of(wanted.writes) for one in plan])
        assert watched.wrong == []
        assert (found["state"], found["runs"]) == (wanted.outcome["state"], wanted.outcome["runs"])
        called = {path.rpartition("/")[2] for id, path in watched.calls if id == replayed}
        assert not called & before
        if from_task in had_run and _is_called(newer, from_task):
            assert from_task in called

    run(body())


def _is_called(tasks: list[Task], id: str) -> bool:
    [task] = [task for task in every(tasks) if task["id"] == id]
    return task["type"] == "test.call" and "when" not in task


def _other_revision(chance: random.Random, tasks: list[Task], from_task: str) -> list[Task]:
    """The tasks without one that came before, and with one more at the end."""
    kept = list(tasks)
    place = next(n for n, task in enumerate(tasks) if any(one["id"] == from_task for one in every([task])))
    if place:
        kept.pop(chance.randrange(place))
    return [*kept, {"id": "new", "type": "test.call", "name": "plain"}]


# every write of one tree, and what must be found

ONE_OF_EACH: list[Task] = [
    {"id": "nap", "type": "flow.sleep", "duration": "3ms"},
    {
        "id": "both",
        "type": "flow.parallel",
        "timeout": "PT1H",
        "tasks": [
            {"id": "sub", "type": "flow.subflow", "flowId": "child", "timeout": "PT1H"},
            {
                "id": "each",
                "type": "flow.loop",
                "values": "{{ [ticket(), ticket(), ticket()] }}",
                "concurrencyLimit": 2,
                "tasks": [
                    {"id": "step", "type": "test.call", "name": "suspends"},
                    {
                        "id": "more",
                        "type": "test.call",
                        "name": "once more",
                        "retry": {"interval": "2ms", "maxAttempts": 9},
                    },
                ],
            },
        ],
    },
    {
        "id": "way",
        "type": "flow.switch",
        "value": "{{ ticket() % 2 }}",
        "cases": {"0": [{"id": "one", "type": "test.call", "name": "waits once"}]},
        "defaults": [{"id": "one-x1", "type": "test.call", "name": "waits once"}],
    },
    {"id": "lost", "type": "flow.subflow", "flowId": "breaks", "allowFailure": True},
    {"id": "tell", "type": "event.emit", "event": "told"},
    {"id": "end", "type": "test.call", "name": "fails", "retry": {"interval": "2ms", "maxAttempts": 2}},
]


async def what_is_wrong(wanted: Wanted, plan: list[Disturbance], patience: float = 30) -> list[str]:
    """What one disturbed run of this tree breaks."""
    watched = Watched()

    async def begin(hub: Harness) -> str:
        await put_flows(hub, source(ONE_OF_EACH))
        return (await hub.start("t/f")).id

    with TemporaryDirectory() as folder:
        try:
            found, counts = await disturbed(watched, Path(folder), begin, plan, patience=patience)
        except AssertionError as error:
            return [*watched.wrong, str(error).splitlines()[0]]
    wrong = list(watched.wrong)
    wrong += ["another outcome"] if found != wanted.outcome else []
    return wrong + (["another number of executions or events"] if counts != wanted.started else [])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["crash before", "crash after", "stop"])
async def test_a_disturbance_at_any_write_changes_nothing(how: str) -> None:
    wanted = await undisturbed(source(ONE_OF_EACH))
    assert wanted.outcome["state"] == "FAILED"
    wrong = {
        write: found
        for write in range(1, wanted.writes + 1)
        if (found := await what_is_wrong(wanted, [Disturbance(how, write)]))
    }
    assert wrong == {}


def _completed_not_skipped(patch: pytest.MonkeyPatch) -> None:
    real = executor.run_task  # type: ignore[attr-defined]

    async def run_task(self: Any, task: Any, scope: Any, stored: Any, **more: Any) -> Any:
        forgotten = stored is not None and stored.state.is_terminal
        return await real(self, task, scope, None if forgotten else stored, **more)

    patch.setattr(executor, "run_task", run_task)


def _values_rendered_again(patch: pytest.MonkeyPatch) -> None:
    real = LiveRun.load_decisions

    async def load_decisions(self: LiveRun) -> None:
        await real(self)
        self.decisions.pop("$fields", None)

    patch.setattr(LiveRun, "load_decisions", load_decisions)


def _subflow_of_another_id(patch: pytest.MonkeyPatch) -> None:
    """Each start of the hub gives others; within one the execution can end, and what is wrong be seen."""
    real, real_hub = task_context.derived_id, Watched.hub  # type: ignore[attr-defined]
    opened = 0

    def hub(self: Watched, folder: Path) -> AbstractAsyncContextManager[Harness]:
        nonlocal opened
        opened += 1
        return real_hub(self, folder)

    def derived_id(*parts: str) -> str:
        return real(*parts, str(opened)) if len(parts) == 3 else real(*parts)

    patch.setattr(Watched, "hub", hub)
    patch.setattr(task_context, "derived_id", derived_id)


def _moment_forgotten(patch: pytest.MonkeyPatch) -> None:
    real = LiveRun.load_decisions

    async def load_decisions(self: LiveRun) -> None:
        await real(self)
        self.decisions.pop("until", None)

    patch.setattr(LiveRun, "load_decisions", load_decisions)


def _wake_up_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Executions, "wake_parent", lambda self, child, at: ((), 0))


def _claims_not_taken_over(patch: pytest.MonkeyPatch) -> None:
    async def recover(self: dispatcher.Dispatcher) -> int:
        return 0

    patch.setattr(dispatcher.Dispatcher, "recover", recover)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("plant", "word"),
    [
        (_completed_not_skipped, "ran again"),
        (_values_rendered_again, "rendered more than once"),
        (_subflow_of_another_id, "started twice"),
        (_moment_forgotten, "another moment"),
        (_wake_up_forgotten, "does not end"),
        (_claims_not_taken_over, "does not end"),
    ],
)
async def test_a_planted_bug_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], word: str
) -> None:
    wanted = await undisturbed(source(ONE_OF_EACH))
    plant(monkeypatch)
    seen: list[str] = []
    for write in range(1, wanted.writes + 1):
        for how in ("crash before", "crash after"):
            seen += await what_is_wrong(wanted, [Disturbance(how, write)], patience=2)
            if any(word in line for line in seen):
                return
    raise AssertionError(f"it was not found: {seen}")
