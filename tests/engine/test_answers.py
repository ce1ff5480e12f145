"""What tasks give back and ask for: odd values, odd failures and waiting for nothing are the task's own affair."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub.errors import StorageUnavailable
from hub.model.execution import Execution, ExecutionState
from hub.model.task_run import TaskRunState
from hub.plugin import Fail, Failed, NotFound, Retry, TaskContext, Wait
from hub.plugin.storage import Transition
from hub.testing import Harness
from tests.support.stage import Stage

_S, _T = ExecutionState, TaskRunState
SOURCE = """id: f
namespace: t
tasks: [{id: a, type: test.call, name: a}]
errors: [{id: e, type: test.call, name: e}]
finally: [{id: z, type: test.call, name: z}]
"""


async def ended(folder: Path, stage: Stage, body: Callable[[TaskContext], Any]) -> tuple[Execution, Any]:
    """Run a flow over one task, and answer how it ended and what the task gave."""
    stage.on("a")(body)
    async with stage.hub(folder) as hub:
        await hub.put(SOURCE)
        async with asyncio.timeout(20):
            execution = await hub.run("t/f")
        return execution, (await hub.task_runs(execution.id))["a"]


def circle() -> Any:
    one: list[Any] = []
    one.append(one)
    return one


def deep() -> Any:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Decimal("1.5"),
        Path("/x"),
        (n for n in range(3)),
        {("a", 1): 2},
        {"deep": circle()},
        deep(),
        10**5000,
        {"x": float("nan"), "y": 2**70},
    ],
    ids=["object", "decimal", "path", "generator", "tuple key", "circle", "deep", "huge number", "nan"],
)
async def test_what_cannot_be_stored_is_the_tasks_failure(tmp_path: Path, stage: Stage, value: Any) -> None:
    async def body(ctx: TaskContext) -> Any:
        return value

    execution, run = await ended(tmp_path, stage, body)
    assert (execution.state, run.state) == (_S.FAILED, _T.FAILED)
    assert "internal error" not in (execution.error or "")
    assert "cannot be stored" in (run.error or "")
    assert stage.calls == ["a", "e", "z"]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ((1, 2), [1, 2]),
        ({1: "a"}, {"1": "a"}),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        (2**70, 2**70),
    ],
    ids=["tuple", "number as key", "moment", "long number"],
)
async def test_later_tasks_see_what_would_be_read_after_a_crash(
    tmp_path: Path, stage: Stage, value: Any, seen: Any
) -> None:
    async def body(ctx: TaskContext) -> Any:
        return {"value": value}

    stage.on("a")(body)
    async with stage.hub(tmp_path) as hub:
        await hub.put("""id: f
namespace: t
tasks:
  - {id: a, type: test.call, name: a}
  - {id: b, type: return, value: "{{ outputs.a.value }}"}
""")
        execution = await hub.run("t/f")
        runs = await hub.task_runs(execution.id)
    assert runs["a"].outputs == {"value": seen}
    assert runs["b"].outputs == {"value": seen}


async def test_what_is_awaitable_is_awaited(tmp_path: Path, stage: Stage) -> None:
    async def later() -> dict[str, int]:
        await asyncio.sleep(0)
        return {"n": 1}

    async def body(ctx: TaskContext) -> Any:
        async def twice() -> Any:
            return later()

        return twice()

    _, run = await ended(tmp_path, stage, body)
    assert run.outputs == {"n": 1}


async def test_a_deciding_value_that_cannot_be_stored_is_the_tasks_failure(
    tmp_path: Path, stage: Stage
) -> None:
    async def body(ctx: TaskContext) -> Any:
        return await ctx.decide("x", lambda: object())

    _, run = await ended(tmp_path, stage, body)
    assert (run.state, "cannot be stored" in (run.error or "")) == (_T.FAILED, True)


async def test_outputs_of_a_failure_that_cannot_be_stored_do_not_hide_the_failure(
    tmp_path: Path, stage: Stage
) -> None:
    async def body(ctx: TaskContext) -> Any:
        raise Failed("the reason", outputs={"x": object()})

    _, run = await ended(tmp_path, stage, body)
    assert (run.state, run.error, run.outputs) == (_T.FAILED, "the reason", {})


@pytest.mark.parametrize(
    "raise_it",
    [
        lambda ctx: Wait(until=datetime(2026, 1, 1)),
        lambda ctx: Retry("x", after=5),  # type: ignore[arg-type]
        lambda ctx: StopIteration(),
        lambda ctx: BaseExceptionGroup("several", [SystemExit(1)]),
        lambda ctx: GeneratorExit(),
    ],
    ids=["naive moment", "no length", "stop iteration", "group", "generator exit"],
)
async def test_an_odd_failure_is_the_tasks_failure(
    tmp_path: Path, stage: Stage, raise_it: Callable[[TaskContext], BaseException]
) -> None:
    async def body(ctx: TaskContext) -> Any:
        raise raise_it(ctx)

    execution, run = await ended(tmp_path, stage, body)
    assert (execution.state, run.state) == (_S.FAILED, _T.FAILED)
    assert "internal error" not in (execution.error or "")
    assert stage.calls == ["a", "e", "z"]


async def test_a_delay_beyond_the_end_of_time_is_no_internal_error(tmp_path: Path, stage: Stage) -> None:
    async def body(ctx: TaskContext) -> Any:
        raise Retry("much later", after=timedelta.max)

    stage.on("a")(body)
    async with stage.hub(tmp_path) as hub:
        await hub.put(SOURCE)
        with hub.node.services.bus.subscribe("execution") as news:
            await hub.start("t/f")
            async with asyncio.timeout(10):
                while (one := await news.next()).details["state"] not in ("RETRYING", "FAILED"):
                    pass
        assert one.details["state"] == "RETRYING"


# waiting for nothing


@pytest.mark.parametrize("how", ["wait", "retry", "policy"])
async def test_a_task_that_waits_for_nothing_keeps_nobody_from_anything(
    tmp_path: Path, stage: Stage, how: str
) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        if how == "wait":
            raise Wait(until=ctx.now())
        if how == "retry":
            raise Retry("again", after=timedelta())
        raise Failed("again")

    policy = ", retry: {interval: PT0S}" if how == "policy" else ""
    async with stage.hub(tmp_path) as hub:
        await hub.put(f"id: f\nnamespace: t\ntasks: [{{id: a, type: test.call, name: a{policy}}}]\n")
        await hub.put("id: o\nnamespace: t\ntasks: [{id: o, type: test.call, name: o}]\n")
        started = await hub.start("t/f")
        async with asyncio.timeout(5):
            assert (await hub.run("t/o")).state is _S.SUCCESS
        await asyncio.sleep(0.5)
        assert 2 <= stage.calls.count("a") <= 8
        await hub.node.kill(started.id)
        await hub.ended(started.id)


async def test_a_task_without_a_policy_asks_for_another_try_ten_times_at_most(
    tmp_path: Path, stage: Stage
) -> None:
    async def body(ctx: TaskContext) -> Any:
        raise Retry("again", after=timedelta(milliseconds=1))

    _, run = await ended(tmp_path, stage, body)
    assert (run.state, run.attempts, run.error) == (_T.FAILED, 10, "again")


async def test_a_short_wait_is_no_longer_than_it_says(tmp_path: Path, stage: Stage) -> None:
    async with stage.hub(tmp_path) as hub:
        await hub.put("id: f\nnamespace: t\ntasks: [{id: a, type: flow.sleep, duration: PT0S}]\n")
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await hub.run("t/f")).state is _S.SUCCESS
        assert loop.time() - began < 0.09


# a storage that is away


async def test_outputs_wait_for_a_disk_that_is_full(tmp_path: Path, stage: Stage) -> None:
    refused = 0

    async def big(ctx: TaskContext) -> Any:
        return {"x": "y" * 100_000}

    stage.on("a")(big)
    async with stage.hub(tmp_path) as hub:
        await hub.put(SOURCE + 'outputs: [{id: n, type: STRING, value: "{{ outputs.a.x }}"}]\n')
        store = hub.node.services.payloads.store
        put = store.put

        async def full(*given: Any, **more: Any) -> str:
            nonlocal refused
            refused += 1
            if refused % 2:
                raise StorageUnavailable("No space left on device")
            return await put(*given, **more)

        store.put = full  # type: ignore[method-assign]
        execution = await hub.run("t/f")
    assert (execution.state, refused) == (_S.SUCCESS, 4)


async def test_a_read_waits_for_a_storage_that_is_away(tmp_path: Path, stage: Stage) -> None:

    refused: list[str] = []

    async def child(ctx: TaskContext) -> None:
        return None

    stage.on("child")(child)
    async with stage.hub(tmp_path, "staged:x") as hub:
        await hub.put("id: c\nnamespace: t\ntasks: [{id: a, type: test.call, name: child}]\n")
        await hub.put("""id: f
namespace: t
tasks:
  - {id: s, type: flow.sleep, duration: 30ms}
  - {id: sub, type: flow.subflow, flowId: c}
""")
        kept = stage.kept["staged:x"]
        for name in ("scope_task_runs", "execution", "flow_source"):
            read = getattr(kept, name)

            def refusing(name: str = name, read: Any = read) -> Any:
                async def once(*given: Any, **more: Any) -> Any:
                    if name not in refused:
                        refused.append(name)
                        raise StorageUnavailable("away")
                    return await read(*given, **more)

                return once

            if name != "execution":
                setattr(kept, name, refusing())
        hub.node.catalog._ready.clear()
        started = await _start(hub)
        assert (await hub.ended(started.id)).state is _S.SUCCESS
    assert "scope_task_runs" in refused


async def _start(hub: Harness) -> Execution:
    from hub.model.execution import NewExecution
    from hub.model.ids import FlowKey, new_id
    from hub.plugin.storage import Arrival

    now = hub.node.services.clock.now()
    new = NewExecution(id=new_id(), flow=FlowKey("t", "f"), revision=1, created_at=now)
    for accepted in await hub.node.services.storage.accept([Arrival((new,))], at=now, room=0):
        hub.node.dispatcher.take(accepted)
    return await hub.node.services.storage.execution(new.id)


async def test_an_emitted_event_waits_for_a_storage_that_is_away(tmp_path: Path, stage: Stage) -> None:

    tries: list[int] = []

    async def away(arrivals: Any) -> None:
        tries.append(1)
        if len(tries) in (2, 3):
            raise StorageUnavailable("away")

    stage.before_accept = away
    async with stage.hub(tmp_path) as hub:
        await hub.put("id: f\nnamespace: t\ntasks: [{id: a, type: event.emit, event: x}]\n")
        assert (await hub.run("t/f")).state is _S.SUCCESS
    assert len(tries) == 4


async def test_a_kill_while_an_event_is_emitted_does_not_lose_what_it_starts(
    tmp_path: Path, stage: Stage
) -> None:
    async def hold(arrivals: Any) -> None:
        if any(one.event is not None for one in arrivals):
            stage.event("stored").set()
            await stage.event("answer").wait()

    stage.after_accept = hold
    async with stage.hub(tmp_path) as hub:
        await hub.put("id: f\nnamespace: t\ntasks: [{id: a, type: event.emit, event: x}]\n")
        await hub.put("""id: g
namespace: t
triggers: [{id: t, type: event.matched, event: x}]
tasks: [{id: b, type: test.call, name: b}]
""")

        @stage.on("b")
        async def b(ctx: TaskContext) -> None:
            stage.event("started").set()

        started = await hub.start("t/f")
        await stage.reached("stored")
        await hub.node.kill(started.id)
        await asyncio.sleep(0.05)
        stage.event("answer").set()
        await stage.reached("started")
        assert (await hub.ended(started.id)).state is _S.KILLED


async def test_a_finite_retry_still_names_its_reason(tmp_path: Path, stage: Stage) -> None:
    async def body(ctx: TaskContext) -> Any:
        raise NotFound("nothing there", hint="look elsewhere")

    _, run = await ended(tmp_path, stage, body)
    assert run.error == "nothing there (look elsewhere)"


async def test_a_final_failure_is_not_tried_again(tmp_path: Path, stage: Stage) -> None:
    async def body(ctx: TaskContext) -> Any:
        raise Fail("for good")

    _, run = await ended(tmp_path, stage, body)
    assert (run.attempts, run.error) == (1, "for good")


async def test_no_step_carries_rows_twice(tmp_path: Path, stage: Stage) -> None:
    seen: list[str] = []

    async def note(step: Transition) -> None:
        seen.extend(run.path for run in step.task_runs if run.state.is_terminal)

    stage.before_record = note
    async with stage.hub(tmp_path) as hub:
        await hub.put(SOURCE)
        await hub.run("t/f")
    assert seen == ["a", "z"]
