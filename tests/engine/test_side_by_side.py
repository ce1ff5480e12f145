"""Branches side by side: one begins while the end of the one before it is being stored, and nothing is lost by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from hub.engine.groups import Group
from hub.errors import StorageUnavailable
from hub.model.execution import ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import Fail, TaskContext
from hub.plugin.storage import Transition
from hub.testing import Harness
from tests.support.stage import Stage

_S = ExecutionState


def loop_of(count: int, limit: int, *more: str) -> str:
    tasks = "".join(f"      - {{id: {name}, type: test.call, name: {name}}}\n" for name in ("a", *more))
    return (
        "id: f\nnamespace: t\ntasks:\n  - id: each\n    type: flow.loop\n"
        f"    values: {list(range(count))}\n    concurrencyLimit: {limit}\n    tasks:\n{tasks}"
    )


class Held:
    """Ends of iterations that are being stored, and are let through when the test says so."""

    def __init__(self, stage: Stage, *, after: int = 0, only: Sequence[str] = ()) -> None:
        self._after = after
        self._only = only
        self.waiting: list[str] = []
        self.go = asyncio.Event()
        self._arrived = asyncio.Condition()
        stage.before_record = self._hold

    async def _hold(self, step: Transition) -> None:
        paths = [run.path for run in step.task_runs if run.ended_at is not None and "[" in run.path]
        if self._only:
            paths = [path for path in paths if path in self._only]
        self._after -= len(paths)
        if paths and self._after < 0 and not self.go.is_set():
            async with self._arrived:
                self.waiting += paths
                self._arrived.notify_all()
            await self.go.wait()

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(20), self._arrived:
            await self._arrived.wait_for(lambda: len(self.waiting) >= count)


async def start(hub: Harness, source: str) -> str:
    await hub.put(source)
    return (await hub.start("t/f")).id


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_branch_begins_while_the_end_before_it_is_being_stored(tmp_path: Path, stage: Stage) -> None:
    held = Held(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        started = await start(hub, loop_of(20, 2))
        await held.reach(4)
        await settled()
        # of each of the two workers: the one whose end is being stored, and the next
        assert len(stage.calls) == 4
        held.go.set()
        assert (await hub.ended(started)).state is _S.SUCCESS
    assert len(stage.calls) == 20


async def test_one_after_another_an_end_is_durable_before_the_next_begins(
    tmp_path: Path, stage: Stage
) -> None:
    held = Held(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        started = await start(hub, loop_of(3, 1))
        await held.reach(1)
        await settled()
        assert stage.calls == ["a"]
        held.go.set()
        assert (await hub.ended(started)).state is _S.SUCCESS
    assert stage.calls == ["a"] * 3


async def test_within_a_branch_an_end_is_durable_before_the_next_task_begins(
    tmp_path: Path, stage: Stage
) -> None:
    held = Held(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        started = await start(hub, loop_of(4, 2, "b"))
        await held.reach(2)
        await settled()
        assert stage.calls == ["a", "a"]
        held.go.set()
        assert (await hub.ended(started)).state is _S.SUCCESS


async def test_no_more_run_at_a_time_than_the_limit_says(tmp_path: Path, stage: Stage) -> None:
    running = most = 0

    @stage.on("a")
    async def run(ctx: TaskContext) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(await start(hub, loop_of(60, 3)))).state is _S.SUCCESS
    assert most == 3


async def test_after_a_failure_none_begins_though_the_failure_is_not_stored_yet(
    tmp_path: Path, stage: Stage
) -> None:
    @stage.on("a")
    def run(ctx: TaskContext) -> None:
        if ctx.path.startswith("each[1]"):
            raise Fail("no")

    held = Held(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        started = await start(hub, loop_of(20, 2))
        await held.reach(2)
        await settled()
        held.go.set()
        ended = await hub.ended(started)
        assert ended.state is _S.FAILED
        assert ended.error == 'task "each" failed: no'
        # the first one's worker may have gone on before the second failed
        assert len(stage.calls) <= 3


async def test_the_end_of_the_last_branches_is_durable_before_the_group_ends(
    tmp_path: Path, stage: Stage
) -> None:
    # the second of either worker: it has no branch left, and nothing else to wait for
    held = Held(stage, only=("each[1]/a", "each[3]/a"))
    async with stage.hub(tmp_path, "staged:x") as hub:
        started = await start(hub, loop_of(4, 2))
        await held.reach(2)
        await settled()
        assert len(stage.calls) == 4
        group = (await hub.task_runs(started)).get("each")
        assert group is None or not group.state.is_terminal
        held.go.set()
        assert (await hub.ended(started)).state is _S.SUCCESS


async def test_ends_with_log_lines_are_stored_behind_too_each_once(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    def run(ctx: TaskContext) -> str:
        ctx.logger.info(f"in {ctx.path}")
        return ctx.path

    async with stage.hub(tmp_path, "staged:x") as hub:
        started = await start(hub, loop_of(50, 7))
        assert (await hub.ended(started)).state is _S.SUCCESS
        runs = await hub.task_runs(started)
        assert [runs[f"each[{n}]/a"].outputs for n in range(50)] == [
            {"value": f"each[{n}]/a"} for n in range(50)
        ]
        lines = [line.message for line in await hub.logs(started)]
        assert sorted(lines) == sorted(f"in each[{n}]/a" for n in range(50))


def away(stage: Stage, *, first: int) -> None:
    """The storage refuses the first ends of iterations, as one that is away does."""
    refused = 0

    async def refuse(step: Transition) -> None:
        nonlocal refused
        if refused < first and any(run.ended_at and "[" in run.path for run in step.task_runs):
            refused += 1
            raise StorageUnavailable("away")

    stage.before_record = refuse


async def test_an_end_that_the_storage_refused_is_stored_as_soon_as_it_is_back(
    tmp_path: Path, stage: Stage
) -> None:
    away(stage, first=5)
    async with stage.hub(tmp_path, "staged:x") as hub:
        started = await start(hub, loop_of(12, 3))
        assert (await hub.ended(started)).state is _S.SUCCESS
        runs = await hub.task_runs(started)
        assert all(runs[f"each[{n}]/a"].state is TaskRunState.SUCCESS for n in range(12))
    assert len(stage.calls) == 12


async def test_a_crash_repeats_at_most_what_was_not_stored(tmp_path: Path, stage: Stage) -> None:
    """200 iterations, 4 at a time: those whose ends are being stored and those that run may come again, no other."""
    assert await _crashed_in_the_middle(tmp_path, stage) == set(range(200))


async def test_an_end_with_log_lines_answers_for_its_own_row(tmp_path: Path, stage: Stage) -> None:
    """Where one end cannot be stored, no other's step takes its row along and lets it count for stored."""

    @stage.on("a")
    def run(ctx: TaskContext) -> None:
        ctx.logger.info("a line")

    steps: list[list[str]] = []

    async def keep(step: Transition) -> None:
        steps.append([run.path for run in step.task_runs if run.ended_at and "[" in run.path])

    stage.before_record = keep
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(await start(hub, loop_of(12, 4)))).state is _S.SUCCESS
    ends = [paths for paths in steps if paths]
    assert sorted(ends) == sorted([f"each[{n}]/a"] for n in range(12))


def _counted_too_early(patch: pytest.MonkeyPatch) -> None:
    """A branch counts before its end is durable, so a walk passes over it."""
    real: Callable[[Group, object], Awaitable[None]] = Group._settle  # type: ignore[assignment]

    async def settle(self: Group, ended: object) -> None:
        index = ended.index  # type: ignore[attr-defined]
        self._advance(index, False)
        self._live.executor.recorder.soon(self._live.row(TaskRunState.RUNNING, outputs=self._live.progress))
        ended.index = None  # type: ignore[attr-defined]
        await real(self, ended)

    patch.setattr(Group, "_settle", settle)


async def test_counting_a_branch_before_it_is_stored_loses_it(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _counted_too_early(monkeypatch)
    assert await _crashed_in_the_middle(tmp_path, stage) != set(range(200))


async def _crashed_in_the_middle(folder: Path, stage: Stage) -> set[int]:
    """The iterations that are stored as ended after a crash while ends were refused, and a second start."""
    # the storage is slow to take these ends; what is not waited for it takes meanwhile
    held = Held(stage, after=100)
    async with stage.hub(folder, "staged:x") as hub:
        started = await start(hub, loop_of(200, 4))
        await held.reach(8)
        await asyncio.sleep(0.05)
        stage.crash()
        held.go.set()
    before = len(stage.calls)
    assert before <= 108
    stage.before_record = Stage().before_record
    async with stage.hub(folder, "staged:x") as hub:
        assert (await hub.ended(started)).state is _S.SUCCESS
        assert len(stage.calls) <= 208
        runs = await hub.task_runs(started)
        ended = {path for path, run in runs.items() if run.state is TaskRunState.SUCCESS and "[" in path}
        return {int(path.partition("[")[2].partition("]")[0]) for path in ended}
