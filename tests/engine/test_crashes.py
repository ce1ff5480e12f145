"""What happens after the node went down: recovered at once, and whoever took it down is found and left alone."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from hub.model.execution import ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import Failed, TaskContext, Wait
from hub.testing import Harness
from tests.support.stage import Stage

_S, _T = ExecutionState, TaskRunState
ONE = "id: f\nnamespace: t\ntasks: [{id: a, type: test.call, name: a}]\n"


async def at_rest(hub: Harness) -> None:
    """Wait until what is not waited for has been stored."""
    await asyncio.sleep(0.05)


def blocking(stage: Stage, name: str = "a") -> None:
    """A task that runs until the hub goes down."""

    @stage.on(name)
    async def run(ctx: TaskContext) -> None:
        stage.event(f"{name} running").set()
        await asyncio.sleep(600)


async def crash(stage: Stage, folder: Path, name: str = "a", **given: object) -> None:
    """Start, wait until the task runs, go down."""
    stage.event(f"{name} running").clear()
    async with stage.hub(folder, "staged:x", **given) as hub:
        await stage.reached(f"{name} running")
        await at_rest(hub)
        stage.crash()


async def test_one_that_was_running_goes_on_at_once(tmp_path: Path, stage: Stage) -> None:
    blocking(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(ONE)
        started = await hub.start("t/f")
        await stage.reached("a running")
        await at_rest(hub)
        stage.crash()
    stage.bodies.pop("a")
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(started.id)).state is _S.SUCCESS
    assert loop.time() - began < 2


async def test_the_task_that_failed_is_still_known_after_a_crash(tmp_path: Path, stage: Stage) -> None:
    blocking(stage)
    source = (
        "id: f\nnamespace: t\ntasks: [{id: outer, type: flow.sequential, tasks: [{id: bad, type: execution.fail}]}]\n"
        "errors:\n  - {id: a, type: test.call, name: a}\n  - {id: b, type: return, value: '{{ error.task }}'}\n"
    )
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(source)
        started = await hub.start("t/f")
        await stage.reached("a running")
        await at_rest(hub)
        stage.crash()
    stage.bodies.pop("a")
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.ended(started.id)
        assert (await hub.task_runs(started.id))["b"].outputs == {"value": "bad"}


async def test_many_that_were_running_do_not_wait_for_each_other(tmp_path: Path, stage: Stage) -> None:
    blocking(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(ONE)
        for _ in range(30):
            await hub.start("t/f")
        await at_rest(hub)
        stage.crash()
    stage.calls.clear()
    async with stage.hub(tmp_path, "staged:x") as hub:
        async with asyncio.timeout(8):
            while len(stage.calls) < 30:
                await asyncio.sleep(0.05)
        assert hub.node.dispatcher.running == 30


async def test_suspects_fill_no_more_places_than_there_are(tmp_path: Path, stage: Stage) -> None:
    blocking(stage)
    async with stage.hub(tmp_path, "staged:x", most_executions=3) as hub:
        await hub.put(ONE)
        for _ in range(6):
            await hub.start("t/f")
        await stage.reached("a running")
        await at_rest(hub)
        stage.crash()
    stage.bodies.pop("a")
    async with stage.hub(tmp_path, "staged:x", most_executions=3) as hub:
        async with asyncio.timeout(20):
            while await hub.node.services.storage.counts():
                await asyncio.sleep(0.05)


async def test_a_suspect_that_waits_for_its_turn_is_killed_at_once(tmp_path: Path, stage: Stage) -> None:
    blocking(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(ONE)
        ids = [(await hub.start("t/f")).id for _ in range(3)]
        await at_rest(hub)
        stage.crash()
    await crash(stage, tmp_path)
    async with stage.hub(tmp_path, "staged:x") as hub:
        # they have gone down with the node as suspects: one at a time now
        stage.event("a running").clear()
        await stage.reached("a running")
        running = {executor.execution_id for executor in hub.node.dispatcher.executors()}
        waiting = next(id for id in ids if id not in running)
        await hub.node.kill(waiting)
        async with asyncio.timeout(0.5):
            assert (await hub.ended(waiting)).state is _S.KILLED


async def test_a_task_that_takes_the_node_down_again_and_again_fails(tmp_path: Path, stage: Stage) -> None:
    blocking(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(ONE + "errors: [{id: e, type: test.call, name: e}]\n")
        started = await hub.start("t/f")
        await stage.reached("a running")
        await at_rest(hub)
        stage.crash()
    for _ in range(3):
        await crash(stage, tmp_path)
    async with stage.hub(tmp_path, "staged:x") as hub:
        ended = await hub.ended(started.id)
        runs = await hub.task_runs(started.id)
    assert stage.calls == ["a", "a", "a", "a", "e"]
    assert ended.state is _S.FAILED
    assert "went down 4 times while it ran" in (ended.error or "")
    assert (runs["a"].state, runs["a"].error) == (_T.FAILED, (ended.error or "").split(": ", 1)[1])


async def test_those_that_merely_run_when_the_node_is_killed_are_not_to_blame(
    tmp_path: Path, stage: Stage
) -> None:
    blocking(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(ONE)
        started = [await hub.start("t/f") for _ in range(5)]
        await stage.reached("a running")
        await at_rest(hub)
        stage.crash()
    for _ in range(5):
        await crash(stage, tmp_path)
    stage.bodies.pop("a")
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert [(await hub.ended(one.id)).state for one in started] == [_S.SUCCESS] * 5


async def test_a_task_that_takes_the_node_down_beside_one_that_gets_on_fails(
    tmp_path: Path, stage: Stage
) -> None:
    blocking(stage, "killer")

    @stage.on("step")
    async def step(ctx: TaskContext) -> None:
        await asyncio.sleep(0)

    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(
            """id: f
namespace: t
tasks:
  - id: p
    type: flow.parallel
    tasks:
      - {id: k, type: test.call, name: killer}
      - id: L
        type: flow.loop
        values: VALUES
        concurrencyLimit: 1
        tasks: [{id: s, type: flow.sleep, duration: 60ms}, {id: t, type: test.call, name: step}]
""".replace("VALUES", str(list(range(60))))
        )
        started = await hub.start("t/f")
        await stage.reached("killer running")
        await at_rest(hub)
        await asyncio.sleep(0.1)
        stage.crash()
    crashes = 1
    while crashes < 12:
        stage.event("killer running").clear()
        async with stage.hub(tmp_path, "staged:x") as hub:
            ended = asyncio.create_task(hub.ended(started.id))
            again = asyncio.create_task(stage.reached("killer running"))
            await asyncio.wait([ended, again], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                break
            ended.cancel()
            await asyncio.sleep(0.15)
            stage.crash()
            crashes += 1
    assert crashes == 10
    assert (await ended).state is _S.FAILED


async def test_drains_and_failures_in_between_clear_a_task(tmp_path: Path, stage: Stage) -> None:
    blocking(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(ONE.replace("name: a}", "name: a, retry: {interval: 10ms}}"))
        started = await hub.start("t/f")
        await stage.reached("a running")
        await at_rest(hub)
        stage.crash()
    for round in range(3):
        await crash(stage, tmp_path)
        stage.event("a running").clear()
        async with stage.hub(tmp_path, "staged:x") as hub:
            await stage.reached("a running")
            await at_rest(hub)
            # stopped in order: it took nothing down
        if round == 1:

            @stage.on("a")
            async def a(ctx: TaskContext) -> None:
                blocking(stage)
                raise Failed("not yet")

    stage.bodies.pop("a")
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(started.id)).state is _S.SUCCESS


async def test_a_suspect_handed_back_again_and_again_is_not_failed(tmp_path: Path, stage: Stage) -> None:
    blocking(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(ONE)
        started = await hub.start("t/f")
        await stage.reached("a running")
        await at_rest(hub)
        stage.crash()
    for _ in range(6):
        stage.event("a running").clear()
        async with stage.hub(tmp_path, "staged:x"):
            await stage.reached("a running")
    stage.bodies.pop("a")
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(started.id)).state is _S.SUCCESS


async def test_a_subflow_is_not_started_again_by_a_crash(tmp_path: Path, stage: Stage) -> None:
    """The parent goes down after its child has ended and before it has stored that."""

    async def hold(step: object) -> None:
        if any(run.path == "sub" and run.state is _T.SUCCESS for run in step.task_runs):  # type: ignore[attr-defined]
            stage.event("sub ends").set()
            await asyncio.sleep(600)

    stage.before_record = hold
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put("id: c\nnamespace: t\ntasks: [{id: a, type: test.call, name: child}]\n")
        await hub.put("id: f\nnamespace: t\ntasks: [{id: sub, type: flow.subflow, flowId: c}]\n")
        started = await hub.start("t/f")
        await stage.reached("sub ends")
        await at_rest(hub)
        stage.crash()
        for task in asyncio.all_tasks():
            if "_run_one" in repr(task.get_coro()):
                task.cancel()

    async def nothing(step: object) -> None:
        return None

    stage.before_record = nothing
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(started.id)).state is _S.SUCCESS
    assert stage.calls == ["child"]


async def test_a_retried_subflow_after_a_crash_is_still_another_execution(
    tmp_path: Path, stage: Stage
) -> None:
    blocking(stage, "wait")

    @stage.on("child")
    async def child(ctx: TaskContext) -> None:
        raise Failed("no")

    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put("id: c\nnamespace: t\ntasks: [{id: a, type: test.call, name: child}]\n")
        await hub.put("""id: f
namespace: t
tasks:
  - id: p
    type: flow.parallel
    tasks:
      - {id: sub, type: flow.subflow, flowId: c, retry: {interval: 100ms, maxAttempts: 3}}
      - {id: w, type: test.call, name: wait}
""")
        started = await hub.start("t/f")
        await stage.reached("wait running")
        async with asyncio.timeout(10):
            while stage.calls.count("child") < 2:
                await asyncio.sleep(0.01)
        await at_rest(hub)
        stage.crash()
    stage.bodies.pop("wait")
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(started.id)).state is _S.FAILED
    assert stage.calls.count("child") == 3


async def test_variables_are_stored_before_a_task_uses_them(tmp_path: Path, stage: Stage) -> None:
    seen: list[object] = []

    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        seen.append(ctx._scope.names["vars"])  # type: ignore[attr-defined]
        if len(seen) == 1:
            # before anything of the task is stored
            stage.crash()
            stage.event("used").set()
            await asyncio.sleep(600)

    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put("""id: f
namespace: t
variables: {at: "{{ now() }}"}
tasks: [{id: a, type: test.call, name: a}]
""")
        started = await hub.start("t/f")
        await stage.reached("used")
        await asyncio.sleep(0.01)
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(started.id)).state is _S.SUCCESS
    assert seen[1] == seen[0]


async def test_variables_are_the_same_on_every_walk(tmp_path: Path, stage: Stage) -> None:
    seen: list[object] = []

    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        if len(seen) < 2:
            seen.append(None)
            raise Wait(until=ctx.now() + timedelta(milliseconds=50))

    async with stage.hub(tmp_path, "staged:x", environ={"HUB_SECRET_KEY": "hidden"}) as hub:
        await hub.put("""id: f
namespace: t
variables: {at: "{{ now() }}", key: "{{ secret('KEY') }}", n: 7}
tasks:
  - {id: first, type: return, value: "{{ vars.at }}"}
  - {id: a, type: test.call, name: a}
  - {id: last, type: return, value: "{{ vars.at }}"}
outputs:
  - {id: n, type: INT, value: "{{ vars.n }}"}
  - {id: key, type: BOOLEAN, value: "{{ vars.key == 'hidden' }}"}
""")
        ended = await hub.run("t/f")
        runs = await hub.task_runs(ended.id)
        kept = stage.kept["staged:x"]._executions.get(ended.id)
    assert ended.state is _S.SUCCESS
    assert runs["first"].outputs == runs["last"].outputs
    assert ended.outputs == {"n": 7, "key": True}
    assert kept.variables is not None
    assert set(kept.variables) == {"at"}


async def test_warnings_are_counted_once_over_a_crash(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        if ctx.path == "L[63]/a":
            await stage.event("ahead").wait()
            asyncio.get_running_loop().call_later(0.05, stage.event("stored").set)
        if ctx.path == "L[70]/a":
            await stage.event("go").wait()
        if ctx.path == "L[100]/a":
            stage.event("ahead").set()
            await stage.event("go").wait()
        raise Failed("no")

    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put("""id: f
namespace: t
inputs: [{id: v, type: JSON}]
tasks:
  - id: L
    type: flow.loop
    values: "{{ inputs.v }}"
    concurrencyLimit: 40
    tasks: [{id: a, type: test.call, name: a, allowFailure: true}]
""")
        started = await hub.start("t/f", {"v": list(range(120))})
        await stage.reached("stored")
        await at_rest(hub)
        stage.crash()
    stage.event("go").set()
    async with stage.hub(tmp_path, "staged:x") as hub:
        ended = await hub.ended(started.id)
        runs = await hub.task_runs(started.id)
        loop = (await hub.node.services.storage.scope_task_runs(started.id, ""))["L"]
    assert ended.state is _S.WARNING
    assert loop.outputs == {"iterationCount": 120, "warnings": 120}
    assert len(runs) == 121
