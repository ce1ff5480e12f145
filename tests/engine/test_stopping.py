"""Kills, drains and time-outs at every awkward moment: nothing is lost, nothing completed runs again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.model.execution import Execution, ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import Claim, Fail, Failed, TaskContext, Wait
from hub.plugin.storage import Transition
from hub.testing import Harness, VirtualClock
from tests.support.stage import GroupBody, Stage

_S, _T = ExecutionState, TaskRunState


def flow(body: str, id: str = "f") -> str:
    return f"id: {id}\nnamespace: t\n{body}"


TWO = flow("tasks: [{id: a, type: test.call, name: a}, {id: b, type: test.call, name: b}]")


def ends(step: Transition, path: str) -> bool:
    return any(run.path == path and run.state.is_terminal for run in step.task_runs)


async def gate(stage: Stage, name: str) -> None:
    """Say that it is reached, and wait until the test opens it."""
    stage.event(f"{name} reached").set()
    await stage.event(f"{name} open").wait()


async def released(hub: Harness, execution_id: str) -> Execution:
    """Wait until nobody moves it any more."""
    async with asyncio.timeout(20):
        while any(one.execution_id == execution_id for one in hub.node.dispatcher.executors()):
            await asyncio.sleep(0.01)
    return await hub.node.services.storage.execution(execution_id)


# while an end is being stored


@pytest.mark.parametrize("moment", ["before_record", "after_record"])
async def test_a_drain_while_an_end_is_being_stored_does_not_run_the_task_again(
    tmp_path: Path, stage: Stage, moment: str
) -> None:
    async def hold(step: Transition) -> None:
        if ends(step, "a"):
            await gate(stage, "end")

    setattr(stage, moment, hold)
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(TWO)
        started = await hub.start("t/f")
        await stage.reached("end reached")
        asyncio.get_running_loop().call_later(0.05, stage.event("end open").set)
    async with stage.hub(tmp_path, "staged:x") as hub:
        ended = await hub.ended(started.id)
    assert ended.state is _S.SUCCESS
    assert stage.calls == ["a", "b"]


@pytest.mark.parametrize("moment", ["before_record", "after_record"])
async def test_a_kill_while_an_end_is_being_stored_leaves_the_end_as_it_is(
    tmp_path: Path, stage: Stage, moment: str
) -> None:
    async def hold(step: Transition) -> None:
        if ends(step, "a"):
            await gate(stage, "end")

    setattr(stage, moment, hold)
    async with stage.hub(tmp_path) as hub:
        await hub.put(TWO)
        started = await hub.start("t/f")
        await stage.reached("end reached")
        await hub.node.kill(started.id)
        stage.event("end open").set()
        ended = await hub.ended(started.id)
        runs = await hub.task_runs(started.id)
    assert ended.state is _S.KILLED
    assert runs["a"].state is _T.SUCCESS
    assert stage.calls == ["a"]


async def test_a_time_out_while_an_end_is_being_stored_leaves_the_end_as_it_is(
    tmp_path: Path, stage: Stage
) -> None:
    async def hold(step: Transition) -> None:
        if ends(step, "g/a"):
            await asyncio.sleep(0.3)

    stage.after_record = hold
    async with stage.hub(tmp_path) as hub:
        await hub.put(
            flow("""tasks:
  - id: g
    type: flow.sequential
    timeout: 150ms
    tasks: [{id: a, type: test.call, name: a}, {id: b, type: test.call, name: b}]
""")
        )
        ended = await hub.run("t/f")
        runs = await hub.task_runs(ended.id)
    assert (runs["g/a"].state, runs["g"].state) == (_T.SUCCESS, _T.FAILED)
    assert "timed out" in (ended.error or "")
    assert stage.calls == ["a"]


async def test_a_kill_while_the_execution_ends_still_lets_the_next_of_its_queue_run(
    tmp_path: Path, stage: Stage
) -> None:
    held = asyncio.Event()

    async def hold(step: Transition) -> None:
        if step.state is _S.SUCCESS and not held.is_set():
            held.set()
            await gate(stage, "end")

    stage.after_record = hold
    async with stage.hub(tmp_path) as hub:
        await hub.put(TWO + "\nconcurrency: {limit: 1}\n")
        first, second = await hub.start("t/f"), await hub.start("t/f")
        await stage.reached("end reached")
        # as the API does it, and once more to the executor itself: the storage may not have answered yet
        await hub.node.kill(first.id)
        hub.node.dispatcher.kill(first.id, "killed")
        stage.event("end open").set()
        async with asyncio.timeout(10):
            assert (await hub.ended(second.id)).state is _S.SUCCESS
        assert (await hub.ended(first.id)).state is _S.SUCCESS


# kills that are not heard at first


async def test_a_kill_that_a_task_swallows_is_not_lost(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        stage.event("running").set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return

    async with stage.hub(tmp_path) as hub:
        await hub.put(TWO)
        started = await hub.start("t/f")
        await stage.reached("running")
        await hub.node.kill(started.id)
        ended = await hub.ended(started.id)
    assert ended.state is _S.KILLED
    assert stage.calls == ["a"]


async def test_a_time_out_that_a_task_swallows_still_ends_its_group(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return

    async with stage.hub(tmp_path) as hub:
        await hub.put(
            flow("""tasks:
  - id: g
    type: flow.sequential
    timeout: 50ms
    tasks: [{id: a, type: test.call, name: a}, {id: b, type: test.call, name: b}]
""")
        )
        ended = await hub.run("t/f")
    assert "timed out" in (ended.error or "")
    assert stage.calls == ["a"]


async def test_nothing_is_killed_before_all_of_it_has_ended(tmp_path: Path, stage: Stage) -> None:
    over: list[str] = []

    async def cleaning_up(ctx: TaskContext) -> None:
        stage.event(f"{ctx.path} running").set()
        try:
            await asyncio.sleep(60)
        finally:
            # cleaning up takes longer than the second request to stop takes to come
            await asyncio.sleep(0.3)
            over.append(ctx.path)

    stage.on("x")(cleaning_up)
    async with stage.hub(tmp_path) as hub:
        await hub.put(
            flow("""tasks:
  - id: p
    type: flow.parallel
    timeout: 200ms
    tasks: [{id: x, type: test.call, name: x}, {id: y, type: test.call, name: x}]
""")
        )
        started = await hub.start("t/f")
        await stage.reached("p/y running")
        await asyncio.sleep(0.25)
        await hub.node.kill(started.id)
        ended = await hub.ended(started.id)
        assert sorted(over) == ["p/x", "p/y"]
        runs = await hub.task_runs(started.id)
    assert ended.state is _S.KILLED
    assert {run.state for run in runs.values()} <= {_T.KILLED, _T.FAILED}


async def test_a_task_that_cancels_itself_has_failed(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        raise asyncio.CancelledError

    async with stage.hub(tmp_path) as hub:
        await hub.put(TWO + "\nerrors: [{id: e, type: test.call, name: e}]\n")
        async with asyncio.timeout(10):
            ended = await hub.run("t/f")
    assert ended.state is _S.FAILED
    assert stage.calls == ["a", "e"]


async def test_a_task_that_exits_has_failed_and_the_hub_goes_on(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        raise SystemExit(3)

    async with stage.hub(tmp_path) as hub:
        await hub.put(TWO)
        async with asyncio.timeout(10):
            ended = await hub.run("t/f")
        assert ended.state is _S.FAILED
        assert "exit" in (ended.error or "").lower()


# groups whose time is over


async def test_a_group_over_one_waiting_child_ends_when_its_time_is_over(
    tmp_path: Path, stage: Stage
) -> None:
    claims: list[int] = []

    async with stage.hub(tmp_path, "staged:x") as hub:
        storage = stage.kept["staged:x"]
        claim = storage.claim

        async def counted(**given: object) -> object:
            found = await claim(**given)  # type: ignore[arg-type]
            claims.extend(one.fence for one in found)
            return found

        storage.claim = counted  # type: ignore[method-assign,assignment]
        await hub.put(
            flow("""tasks:
  - id: g
    type: flow.sequential
    timeout: 200ms
    allowFailure: true
    tasks: [{id: s, type: flow.sleep, duration: PT1H}]
  - {id: b, type: test.call, name: b}
""")
        )
        ended = await hub.run("t/f")
        runs = await hub.task_runs(ended.id)
    assert ended.state is _S.WARNING
    assert "timed out" in (runs["g"].error or "")
    assert runs["g/s"].state is _T.KILLED
    assert ended.ended_at is not None
    assert (ended.ended_at - ended.created_at) < timedelta(seconds=1.5)
    assert len(claims) < 5


async def test_a_group_whose_time_is_over_does_not_keep_others_from_leaving(
    tmp_path: Path, stage: Stage
) -> None:
    """Its workers are counted right: what waits after it leaves the tree, and what runs keeps it."""
    async with stage.hub(tmp_path) as hub:
        await hub.put(
            flow("""tasks:
  - id: p
    type: flow.parallel
    timeout: 100ms
    allowFailure: true
    tasks:
      - {id: x, type: test.call, name: x}
      - {id: y, type: test.call, name: x}
      - {id: z, type: flow.sleep, duration: PT1H}
  - {id: s, type: flow.sleep, duration: PT1H}
""")
        )

        @stage.on("x")
        async def x(ctx: TaskContext) -> None:
            await asyncio.sleep(60)

        with hub.node.services.bus.subscribe("execution") as news:
            started = await hub.start("t/f")
            async with asyncio.timeout(10):
                while (await news.next()).details["state"] != "PAUSED":
                    pass
        await released(hub, started.id)
        runs = await hub.task_runs(started.id)
        assert [runs[path].state for path in ("p", "p/x", "p/y", "p/z", "s")] == [
            _T.WARNING,
            _T.KILLED,
            _T.KILLED,
            _T.KILLED,
            _T.PAUSED,
        ]


async def test_a_sleeper_beside_a_running_sibling_wakes_after_a_group_has_timed_out(
    tmp_path: Path, stage: Stage
) -> None:
    @stage.on("long")
    async def long(ctx: TaskContext) -> None:
        await stage.event("after").wait()

    @stage.on("after")
    async def after(ctx: TaskContext) -> None:
        stage.event("after").set()

    async with stage.hub(tmp_path) as hub:
        await hub.put(
            flow("""tasks:
  - id: p
    type: flow.parallel
    tasks:
      - id: left
        type: flow.sequential
        tasks:
          - {id: g, type: flow.sequential, timeout: 50ms, allowFailure: true,
             tasks: [{id: s1, type: flow.sleep, duration: PT60S}]}
          - {id: s2, type: flow.sleep, duration: 50ms}
          - {id: after, type: test.call, name: after}
      - {id: right, type: test.call, name: long}
""")
        )
        async with asyncio.timeout(10):
            ended = await hub.run("t/f")
    assert ended.state is _S.WARNING


# drains


async def test_a_drain_keeps_the_moment_of_a_retry_and_of_a_sleep(tmp_path: Path, stage: Stage) -> None:
    clock = VirtualClock()

    @stage.on("r")
    async def r(ctx: TaskContext) -> None:
        if ctx.attempt == 1:
            raise Failed("not yet")

    @stage.on("long")
    async def long(ctx: TaskContext) -> None:
        stage.event("running").set()
        await stage.event("go").wait()

    source = flow("""tasks:
  - id: p
    type: flow.parallel
    tasks:
      - {id: r, type: test.call, name: r, retry: {interval: PT1H, maxAttempts: 2}}
      - {id: s, type: flow.sleep, duration: PT1H}
      - {id: y, type: test.call, name: long}
""")
    async with stage.hub(tmp_path, "staged:x", clock=clock) as hub:
        await hub.put(source)
        started = await hub.start("t/f")
        await stage.reached("running")
        await asyncio.sleep(0.1)
        before = await hub.task_runs(started.id)
    stage.event("running").clear()
    async with stage.hub(tmp_path, "staged:x", clock=clock) as hub:
        await stage.reached("running")
        await asyncio.sleep(0.1)
        after = await hub.task_runs(started.id)
        for path in ("p/r", "p/s"):
            assert after[path] == before[path]
        assert (before["p/r"].state, before["p/r"].attempts) == (_T.RETRYING, 1)
        assert after["p/y"].attempts == 1
        assert stage.calls == ["r", "long", "long"]
        stage.event("go").set()
        await released(hub, started.id)
        clock.advance(timedelta(hours=1, seconds=1))
        hub.node.dispatcher.poke()
        ended = await hub.ended(started.id)
        runs = await hub.task_runs(started.id)
    assert (ended.state, runs["p/r"].attempts) == (_S.SUCCESS, 2)


async def test_a_drain_gives_back_an_attempt_that_went_on_after_a_wait(tmp_path: Path, stage: Stage) -> None:
    turns: list[int] = []

    @stage.on("w")
    async def w(ctx: TaskContext) -> None:
        turns.append(ctx.attempt)
        if len(turns) == 1:
            raise Wait(until=ctx.now() + timedelta(milliseconds=30))
        if len(turns) == 2:
            stage.event("again").set()
            await asyncio.sleep(60)

    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(flow("tasks: [{id: w, type: test.call, name: w}]"))
        started = await hub.start("t/f")
        await stage.reached("again")
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(started.id)).state is _S.SUCCESS
    assert turns == [1, 1, 1]


async def test_what_is_let_in_or_comes_while_the_hub_stops_is_left_for_the_next_start(
    tmp_path: Path, stage: Stage
) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        stage.event("running").set()
        await stage.event("go").wait()

    async with stage.hub(tmp_path, "staged:x") as hub:
        hub.node.drain_grace = 10.0
        await hub.put(flow("tasks: [{id: a, type: test.call, name: a}]\nconcurrency: {limit: 1}"))
        await hub.put(flow("tasks: [{id: n, type: test.call, name: n}]", "new"))
        first, second = await hub.start("t/f"), await hub.start("t/f")
        await stage.reached("running")
        stopping = asyncio.create_task(hub.node.dispatcher.drain(10.0))
        await asyncio.sleep(0.05)
        third = await hub.start("t/new")
        stage.event("go").set()
        async with asyncio.timeout(10):
            await stopping
        assert stage.calls == ["a"]
        for one, state in ((first, _S.SUCCESS), (second, _S.CREATED), (third, _S.CREATED)):
            assert (await hub.node.services.storage.execution(one.id)).state is state
        claims = await hub.node.services.storage.claim(limit=10, at=hub.node.services.clock.now())
        assert {claim.execution.id for claim in claims} == {second.id, third.id}


async def test_a_stop_with_a_backlog_or_a_kill_in_it_does_not_freeze(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        stage.event("running").set()
        await asyncio.sleep(60)

    async with stage.hub(tmp_path, most_executions=2) as hub:
        await hub.put(flow("tasks: [{id: a, type: test.call, name: a}]"))
        started = [await hub.start("t/f") for _ in range(4)]
        await stage.reached("running")
        stopping = asyncio.create_task(hub.node.dispatcher.drain(0.2))
        await asyncio.sleep(0)
        await hub.node.kill(started[0].id)
        async with asyncio.timeout(10):
            await stopping
            assert (await hub.ended(started[0].id)).state is _S.KILLED


async def test_a_stop_while_the_storage_is_away_comes_to_an_end(tmp_path: Path, stage: Stage) -> None:
    from hub.errors import StorageUnavailable

    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        stage.event("running").set()
        await asyncio.sleep(60)

    async def away(step: Transition) -> None:
        raise StorageUnavailable("the disk is full")

    loop = asyncio.get_running_loop()
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put(TWO)
        started = await hub.start("t/f")
        await stage.reached("running")
        stage.before_record = away
        began = loop.time()
        async with asyncio.timeout(12):
            await hub.node.dispatcher.drain(0.0)
        assert loop.time() - began < 9

        async def back(step: Transition) -> None:
            return None

        stage.before_record = back
    stage.bodies.pop("a")
    async with stage.hub(tmp_path, "staged:x") as hub:
        assert (await hub.ended(started.id)).state is _S.SUCCESS


async def test_a_group_of_a_plugin_hears_of_the_kill_of_its_children(tmp_path: Path, stage: Stage) -> None:
    said: list[str] = []

    @stage.on("g")
    async def g(group: GroupBody) -> None:
        try:
            await group.ctx.run(group.tasks)
        finally:
            said.append("over")

    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        stage.event("running").set()
        await asyncio.sleep(60)

    async with stage.hub(tmp_path) as hub:
        await hub.put(
            flow("tasks: [{id: g, type: test.group, name: g, tasks: [{id: a, type: test.call, name: a}]}]")
        )
        started = await hub.start("t/f")
        await stage.reached("running")
        await hub.node.kill(started.id)
        assert (await hub.ended(started.id)).state is _S.KILLED
    assert said == ["over"]


async def test_a_failure_beside_a_waiting_branch_does_not_abandon_it(tmp_path: Path, stage: Stage) -> None:
    """What had begun goes on to its end, whether it waits in memory or was left and walked again."""

    @stage.on("bad")
    async def bad(ctx: TaskContext) -> None:
        await stage.event("begun").wait()
        raise Fail("bad")

    @stage.on("begun")
    async def begun(ctx: TaskContext) -> None:
        stage.event("begun").set()

    for how in ("flow.parallel", "flow.loop"):
        stage.calls.clear()
        stage.event("begun").clear()
        folder = tmp_path / how
        folder.mkdir()
        body = {
            "flow.parallel": """
      - {id: x, type: test.call, name: bad}
      - {id: q, type: flow.sequential, tasks: [
          {id: b, type: test.call, name: begun}, {id: s, type: flow.sleep, duration: 100ms},
          {id: t, type: test.call, name: good}]}
""",
            "flow.loop": """
      - {id: x, type: test.call, name: bad, when: "{{ item.index == 0 }}"}
      - {id: b, type: test.call, name: begun}
      - {id: s, type: flow.sleep, duration: 100ms}
      - {id: t, type: test.call, name: good}
    values: [0, 1]
""",
        }[how]
        async with stage.hub(folder) as hub:
            await hub.put(flow(f"tasks:\n  - id: g\n    type: {how}\n    tasks:{body}"))
            async with asyncio.timeout(10):
                ended = await hub.run("t/f")
            runs = await hub.task_runs(ended.id)
        assert ended.state is _S.FAILED
        assert stage.calls == ["bad", "begun", "good"]
        assert {run.state for path, run in runs.items() if path.endswith("t")} == {_T.SUCCESS}


async def test_what_is_claimed_while_the_hub_begins_to_stop_is_given_back(
    tmp_path: Path, stage: Stage
) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        await stage.event("end").wait()

    async def hold(claims: Sequence[Claim]) -> None:
        if claims:
            stage.event("claimed").set()
            await asyncio.sleep(0.05)  # the answer is on its way while the hub stops

    async with stage.hub(tmp_path, most_executions=1) as hub:
        await hub.put("id: f\nnamespace: t\ntasks: [{id: a, type: test.call, name: a}]\n")
        await hub.start("t/f")
        second = await hub.start("t/f")
        stage.after_claim = hold
        stage.event("end").set()
        await stage.reached("claimed")
    [kept] = stage.kept.values()
    [claim] = await kept.claim(limit=10, at=datetime.now(UTC))
    assert (claim.execution.id, claim.suspect) == (second.id, False)
