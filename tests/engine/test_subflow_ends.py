"""Subflows end with what waits for them: killed, out of time or failed, also where the hub goes down in between."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from hub.model.execution import Execution, ExecutionState
from hub.plugin import Fail, TaskContext
from hub.plugin.storage import ExecutionFilter, Page, Transition
from hub.testing import Harness
from tests.support.stage import Stage

_S = ExecutionState
_NAPS = "id: child\nnamespace: t\ntasks: [{id: nap, type: flow.sleep, duration: PT1H}]\n"
_BLOCKS = "id: child\nnamespace: t\ntasks: [{id: block, type: test.call, name: block}]\n"
_MIDDLE = "id: middle\nnamespace: t\ntasks: [{id: sub, type: flow.subflow, flowId: child}]\n"


async def children(hub: Harness, parent: str) -> list[Execution]:
    found = await hub.node.services.storage.executions(ExecutionFilter(parent=parent), Page(100))
    return sorted(found.items, key=lambda one: one.created_at)


async def until_child(hub: Harness, parent: str, state: ExecutionState) -> Execution:
    """Wait until an execution has a child in a state."""
    with hub.node.services.bus.subscribe("execution", size=10_000) as news:
        async with asyncio.timeout(60):
            while True:
                for child in await children(hub, parent):
                    if child.state is state:
                        return child
                # a start is told while it is being stored: it may be seen only at the next look
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await news.next()


def block(stage: Stage) -> None:
    @stage.on("block")
    async def run(ctx: TaskContext) -> None:
        await asyncio.sleep(600)


TIMED = {
    "the flow's": "timeout: 300ms\ntasks: [{id: sub, type: flow.subflow, flowId: middle}]\n",
    "its group's": """tasks:
  - id: group
    type: flow.sequential
    timeout: 300ms
    tasks: [{id: sub, type: flow.subflow, flowId: middle}]
""",
    "a loop's": """tasks:
  - id: group
    type: flow.loop
    values: [1, 2]
    timeout: 300ms
    tasks: [{id: sub, type: flow.subflow, flowId: middle}]
""",
    "its own": "tasks: [{id: sub, type: flow.subflow, flowId: middle, timeout: 300ms}]\n",
}


@pytest.mark.parametrize("whose", TIMED)
@pytest.mark.parametrize("child", ["waits", "runs"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
async def test_when_the_time_is_over_subflows_are_killed(
    hub: Harness, whose: str, child: str, beside: bool
) -> None:
    await hub.put(
        _NAPS
        if child == "waits"
        else "id: child\nnamespace: t\ntasks: [{id: s, type: script.shell, script: sleep 300}]\n"
    )
    await hub.put(_MIDDLE)
    source = f"id: f\nnamespace: t\n{TIMED[whose]}"
    if beside:
        # what goes on in memory meanwhile does not leave the tree
        source = source.replace(
            "tasks: [{id: sub,",
            "tasks: [{id: p, type: flow.parallel, tasks: [{id: s, type: script.shell, script: sleep 0.6}, {id: sub,",
        ).replace("}]\n", "}]}]\n")
    await hub.put(source)
    began = asyncio.get_running_loop().time()
    ended = await hub.run("t/f")
    assert asyncio.get_running_loop().time() - began < 10
    assert ended.state is _S.FAILED
    assert "timed out after PT0.3S" in (ended.error or "")
    middles = await children(hub, ended.id)
    assert len(middles) == (2 if whose == "a loop's" else 1)
    for middle in middles:
        [bottom] = await children(hub, middle.id)
        for one in (middle, bottom):
            found = await hub.ended(one.id)
            assert found.state is _S.KILLED
            assert "the time of what waited for it" in (found.error or "")


async def test_only_the_subflows_of_what_is_late_are_killed(hub: Harness) -> None:
    await hub.put("id: child\nnamespace: t\ntasks: [{id: nap, type: flow.sleep, duration: 900ms}]\n")
    await hub.put("""id: f
namespace: t
tasks:
  - id: p
    type: flow.parallel
    tasks:
      - {id: late, type: flow.subflow, flowId: child, timeout: 200ms, allowFailure: true}
      - {id: fine, type: flow.subflow, flowId: child, timeout: PT1H}
      - {id: late2, type: flow.sequential, timeout: 300ms, allowFailure: true, tasks: [{id: x, type: flow.subflow, flowId: child}]}
finally:
  - {id: after, type: flow.subflow, flowId: child}
""")
    ended = await hub.run("t/f")
    found = {one.parent.path: one.state for one in await children(hub, ended.id) if one.parent}
    assert (ended.state, found) == (
        _S.WARNING,
        {"p/late": _S.KILLED, "p/late2/x": _S.KILLED, "p/fine": _S.SUCCESS, "after": _S.SUCCESS},
    )


async def test_a_time_out_that_is_retried_starts_another_subflow(hub: Harness) -> None:
    await hub.put(_NAPS)
    await hub.put("""id: f
namespace: t
tasks: [{id: sub, type: flow.subflow, flowId: child, timeout: 100ms, retry: {interval: 10ms, maxAttempts: 3}}]
""")
    ended = await hub.run("t/f")
    assert ended.state is _S.FAILED
    assert [one.state for one in await children(hub, ended.id)] == [_S.KILLED] * 3
    assert (await hub.task_runs(ended.id))["sub"].attempts == 3


async def test_a_task_that_waits_longer_than_its_time_fails(hub: Harness) -> None:
    await hub.put("""id: f
namespace: t
tasks: [{id: nap, type: flow.sleep, duration: PT1H, timeout: 100ms}]
""")
    ended = await hub.run("t/f")
    assert (ended.state, ended.error) == (_S.FAILED, 'task "nap" failed: timed out after PT0.1S')


@pytest.mark.parametrize("whose", TIMED)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_while_the_time_runs_out_leaves_no_subflow(
    tmp_path: Path, stage: Stage, whose: str, when: str
) -> None:
    """The hub goes down at each of the steps that follow; each next start finds the rest."""
    block(stage)
    steps = 0

    async def crash(step: Transition) -> None:
        nonlocal steps
        if timing and step.execution_id == started.id:
            steps += 1
            if steps == at:
                stage.crash()
                stage.event("down").set()

    setattr(stage, f"{when}_record", crash)
    for at in range(1, 6):
        timing, steps, name = False, 0, f"staged:{at}"
        stage.event("down").clear()
        async with stage.hub(tmp_path, name) as hub:
            await hub.put(_BLOCKS)
            await hub.put(_MIDDLE)
            await hub.put(f"id: f\nnamespace: t\n{TIMED[whose]}")
            started = await hub.start("t/f")
            middle = await until_child(hub, started.id, _S.PAUSED)
            timing = True
            ended = asyncio.create_task(hub.ended(started.id))
            down = asyncio.create_task(stage.event("down").wait())
            await asyncio.wait([ended, down], return_when=asyncio.FIRST_COMPLETED, timeout=20)
            ended.cancel()
            down.cancel()
        timing = False
        async with stage.hub(tmp_path, name) as hub:
            assert (await hub.ended(started.id)).state is _S.FAILED
            for middle in await children(hub, started.id):
                [bottom] = await children(hub, middle.id)
                assert (await hub.ended(middle.id)).state is _S.KILLED
                assert (await hub.ended(bottom.id)).state is _S.KILLED
            assert {run.state.value for run in (await hub.task_runs(started.id)).values()} <= {
                "FAILED",
                "KILLED",
            }


@pytest.mark.parametrize("kind", [_NAPS, _BLOCKS], ids=["waits", "runs"])
@pytest.mark.parametrize("start", [False, True], ids=["while it runs", "before the next start claims"])
async def test_a_kill_reaches_every_child_though_the_hub_goes_down(
    tmp_path: Path, stage: Stage, kind: str, start: bool
) -> None:
    block(stage)
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(kind)
        await hub.put(_MIDDLE)
        await hub.put("""id: f
namespace: t
tasks:
  - id: p
    type: flow.parallel
    tasks:
      - {id: b, type: test.call, name: block}
      - {id: sub, type: flow.subflow, flowId: middle}
finally: [{id: f, type: test.call, name: finally}]
""")
        started = await hub.start("t/f")
        middle = await until_child(hub, started.id, _S.PAUSED)
        [bottom] = await children(hub, middle.id)
        if not start:
            storage = hub.node.services.storage
            await storage.request_kill(started.id, at=hub.node.services.clock.now(), reason="asked")
        stage.crash()
    async with stage.hub(tmp_path, "staged:x") as hub:
        if start:
            await hub.node.kill(started.id)
        for one in (started, middle, bottom):
            assert (await hub.ended(one.id)).state is _S.KILLED, one.flow
    assert "finally" not in stage.calls


async def test_a_restart_starts_a_failed_subflow_anew_and_none_that_succeeded(
    tmp_path: Path, stage: Stage
) -> None:
    """… through crashes: before and after each step that the restarted one stores."""
    is_fixed = False
    left: int | None = None

    @stage.on("need")
    async def need(ctx: TaskContext) -> None:
        if not is_fixed:
            raise Fail("broken")

    async def crash(step: Transition) -> None:
        nonlocal left
        if is_fixed and left is not None:
            left -= 1
            if left < 0:
                left = None
                stage.crash()
                stage.event("down").set()

    for when in ("before_record", "after_record"):
        for at in range(12):
            is_fixed, left, name = False, at, f"staged:{when}{at}"
            stage.calls.clear()
            setattr(stage, when, crash)
            async with stage.hub(tmp_path, name) as hub:
                await hub.put("id: good\nnamespace: t\ntasks: [{id: a, type: test.call, name: good}]\n")
                await hub.put(
                    "id: bad\nnamespace: t\ntasks: [{id: a, type: test.call, name: once}, {id: b, type: test.call, name: need}]\n"
                )
                await hub.put("""id: f
namespace: t
tasks:
  - id: p
    type: flow.parallel
    tasks:
      - {id: good, type: flow.subflow, flowId: good}
      - {id: bad, type: flow.subflow, flowId: bad}
""")
                failed = await hub.run("t/f")
                assert failed.state is _S.FAILED
                is_fixed = True
                stage.event("down").clear()
                await hub.node.restart(failed.id)
                ended = asyncio.create_task(hub.ended(failed.id))
                down = asyncio.create_task(stage.event("down").wait())
                await asyncio.wait([ended, down], return_when=asyncio.FIRST_COMPLETED, timeout=20)
                ended.cancel()
                down.cancel()
            left = None
            async with stage.hub(tmp_path, name) as hub:
                assert (await hub.ended(failed.id)).state is _S.SUCCESS
                found = [(one.flow.id, one.state) for one in await children(hub, failed.id)]
                assert sorted(found) == [("bad", _S.FAILED), ("bad", _S.SUCCESS), ("good", _S.SUCCESS)]
            assert stage.calls.count("good") == 1


async def test_a_restart_takes_a_subflow_that_succeeded_though_its_parent_was_killed(
    tmp_path: Path, stage: Stage
) -> None:
    """The kill comes after the child's end and before the parent has stored it."""
    block(stage)

    async def kill(step: Transition) -> None:
        if any(run.path == "p/sub" and run.state.value == "SUCCESS" for run in step.task_runs):
            stage.event("sub ends").set()
            await stage.reached("killed")

    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put("id: child\nnamespace: t\ntasks: [{id: a, type: test.call, name: once}]\n")
        await hub.put("""id: f
namespace: t
tasks:
  - id: p
    type: flow.parallel
    tasks:
      - {id: sub, type: flow.subflow, flowId: child}
      - {id: b, type: test.call, name: block}
""")
        stage.before_record = kill
        started = await hub.start("t/f")
        await stage.reached("sub ends")
        storage = hub.node.services.storage
        await storage.request_kill(started.id, at=hub.node.services.clock.now(), reason="asked")
        stage.crash()
        stage.event("killed").set()
    stage.before_record = _nothing
    stage.bodies.pop("block")
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(started.id)).state is _S.KILLED
        await hub.node.restart(started.id)
        assert (await hub.ended(started.id)).state is _S.SUCCESS
        assert [one.state for one in await children(hub, started.id)] == [_S.SUCCESS]
    assert stage.calls.count("once") == 1


async def _nothing(step: Transition) -> None:
    return None
