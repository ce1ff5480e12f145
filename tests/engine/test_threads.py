"""Tasks whose ``run`` is a plain ``def``: what they may call from their thread, and how they end."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from hub.engine import threads
from hub.model.execution import ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import FlowKey, Occurrence, TaskContext
from tests.support.stage import Stage

_S, _T = ExecutionState, TaskRunState


def source(extra: str = "") -> str:
    return f"id: f\nnamespace: t\ntasks: [{{id: a, type: test.plain, name: a{extra}}}]\n"


async def test_a_thread_logs_and_asks_the_hub_for_things(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    def a(ctx: TaskContext) -> dict[str, Any]:
        for number in range(3):
            ctx.logger.info(f"line {number} {ctx.blocking.secret('KEY')}")
        receipt = ctx.blocking.emit(Occurrence({"n": 1}, type="x"))
        with ctx.blocking.working_folder() as folder:
            (folder / "here").write_text("x")
        child = ctx.blocking.start(FlowKey("t", "c"), inputs={}, together=False)
        return {
            "decided": ctx.blocking.decide("d", lambda: [1, (2, 3)]),
            "event": receipt.event_id,
            "child": ctx.blocking.execution(child).flow.id,
            "left": folder.exists(),
            "thread": threading.current_thread().daemon,
        }

    async with stage.hub(tmp_path, environ={"HUB_SECRET_KEY": "s3cr3t"}) as hub:
        await hub.put("id: c\nnamespace: t\ntasks: [{id: n, type: log, message: x}]\n")
        await hub.put(source())
        ended = await hub.run("t/f")
        run = (await hub.task_runs(ended.id))["a"]
        assert ended.error is None
        assert run.outputs is not None
        assert run.outputs["decided"] == [1, [2, 3]]
        assert (run.outputs["child"], run.outputs["left"], run.outputs["thread"]) == ("c", False, True)
        assert (await hub.node.services.storage.event(run.outputs["event"])).event.data == {"n": 1}
        assert [line.message for line in await hub.logs(ended.id)] == [f"line {n} ******" for n in range(3)]


async def test_a_coroutine_may_not_block_the_hub(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        ctx.blocking.secret("KEY")

    async with stage.hub(tmp_path) as hub:
        await hub.put(source().replace("test.plain", "test.call"))
        ended = await hub.run("t/f")
    assert "await the same on ctx" in (ended.error or "")


@pytest.mark.parametrize("how", ["time-out", "kill", "drain"])
async def test_a_thread_hears_that_it_has_to_end(tmp_path: Path, stage: Stage, how: str) -> None:
    over: list[bool] = []
    loop = asyncio.get_running_loop()

    @stage.on("a")
    def a(ctx: TaskContext) -> None:
        loop.call_soon_threadsafe(stage.event("running").set)
        over.append(ctx.killed.wait(30))

    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(source(", timeout: 200ms" if how == "time-out" else ""))
        started = await hub.start("t/f")
        await stage.reached("running")
        if how == "kill":
            await hub.node.kill(started.id)
        if how != "drain":
            ended = await hub.ended(started.id)
            assert ended.state is (_S.KILLED if how == "kill" else _S.FAILED)
            assert over == [True]
    assert over == [True]
    run = stage.kept["staged:x"]._executions.get(started.id).task_runs["a"]
    assert run.state is {"kill": _T.KILLED, "drain": _T.CREATED, "time-out": _T.FAILED}[how]


async def test_a_thread_that_takes_no_notice_is_not_tried_again_beside_itself(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_PATIENCE", 0.2)
    go_on = threading.Event()

    @stage.on("a")
    def a(ctx: TaskContext) -> None:
        go_on.wait(20)

    async with stage.hub(tmp_path) as hub:
        await hub.put(source(", timeout: 100ms, retry: {interval: 10ms, maxAttempts: 5}"))
        ended = await hub.run("t/f")
        go_on.set()
        assert "runs on" in (ended.error or "")
        assert "timed out" in (ended.error or "")
        assert stage.calls == ["a"]
        assert any("ctx.killed" in line.message for line in await hub.logs(ended.id))


async def test_a_retry_begins_when_the_thread_has_ended(tmp_path: Path, stage: Stage) -> None:
    at_once: list[int] = []
    running = 0

    @stage.on("a")
    def a(ctx: TaskContext) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        ctx.killed.wait(10)
        threading.Event().wait(0.2)
        running -= 1

    async with stage.hub(tmp_path) as hub:
        await hub.put(source(", timeout: 50ms, retry: {interval: 1ms, maxAttempts: 3}"))
        await hub.run("t/f")
    assert at_once == [1, 1, 1]


@pytest.mark.parametrize("error", [StopIteration(), SystemExit(3), KeyboardInterrupt(), ValueError("bad")])
async def test_whatever_a_thread_raises_is_the_tasks_failure(
    tmp_path: Path, stage: Stage, error: BaseException
) -> None:
    @stage.on("a")
    def a(ctx: TaskContext) -> None:
        raise error

    async with stage.hub(tmp_path) as hub:
        await hub.put(source())
        async with asyncio.timeout(10):
            ended = await hub.run("t/f")
    assert ended.state is _S.FAILED
    assert "internal error" not in (ended.error or "")


async def test_stuck_threads_keep_nothing_else_waiting(tmp_path: Path, stage: Stage) -> None:
    go_on = threading.Event()

    @stage.on("a")
    def a(ctx: TaskContext) -> None:
        go_on.wait(20)

    async with stage.hub(tmp_path) as hub:
        await hub.put(source())
        await hub.put("id: o\nnamespace: t\ntasks: [{id: o, type: return, value: \"{{ 'x' * 100000 }}\"}]\n")
        for _ in range(50):
            await hub.start("t/f")
        async with asyncio.timeout(5):
            # its outputs go to the file store, by a thread
            assert (await hub.run("t/o")).state is _S.SUCCESS
        go_on.set()


_STUCK = """
import asyncio, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from hub.engine import threads
from tests.support.stage import Stage

threads._PATIENCE = 0.2
stage = Stage()

@stage.on("a")
def a(ctx):
    print("running", flush=True)
    time.sleep(60)

async def main():
    async with stage.hub(Path({folder!r})) as hub:
        await hub.put({source!r})
        await hub.start("t/f")
        await asyncio.sleep(0.5)

asyncio.run(main())
print("over")
"""


def test_the_process_ends_beside_a_stuck_thread(tmp_path: Path) -> None:
    import subprocess

    root = str(Path(__file__).parents[2])
    code = _STUCK.format(root=root, folder=str(tmp_path), source=source())
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    said = [line for line in done.stdout.splitlines() if "a component does what it must not" not in line]
    assert (done.returncode, said) == (0, ["running", "over"]), done.stderr
