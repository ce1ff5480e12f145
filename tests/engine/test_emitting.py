"""Events while flows are put again, callers hang up and places are few: nothing that was stored is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.engine.shared import SharedResources
from hub.engine.timer import WallTimer
from hub.model.event import Occurrence
from hub.model.execution import ExecutionState
from hub.model.ids import TriggerKey
from hub.plugin import Emit, TaskContext, TriggerContext
from hub.plugin.storage import ExecutionFilter, Page, TriggerMove
from hub.testing import Harness, VirtualClock
from tests.support.stage import Stage

_S = ExecutionState
SOURCE = """id: f
namespace: t
triggers: [{id: tick, type: test.source, name: s}]
tasks: [{id: a, type: test.call, name: a}]
description: REV
"""


async def nothing_is_left(hub: Harness) -> None:
    async with asyncio.timeout(10):
        while await hub.node.services.storage.counts():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("moment", ["before_accept", "after_accept"])
@pytest.mark.parametrize("how", ["put", "retire"])
async def test_a_flow_that_changes_while_its_trigger_emits_loses_nothing(
    tmp_path: Path, stage: Stage, moment: str, how: str
) -> None:
    async def hold(arrivals: Any) -> None:
        stage.event("storing").set()
        await stage.event("go").wait()

    setattr(stage, moment, hold)
    emitted: list[int] = []

    @stage.source("s")
    async def s(ctx: TriggerContext, emit: Emit) -> None:
        next_one = ctx.state.get("n", 0) + 1
        await emit(Occurrence({"n": next_one}), state={"n": next_one})
        emitted.append(next_one)
        await asyncio.sleep(600)

    async with stage.hub(tmp_path) as hub:
        key = await hub.put(SOURCE)
        await stage.reached("storing")
        if how == "put":
            changing = asyncio.create_task(hub.put(SOURCE.replace("REV", "another")))
        else:
            changing = asyncio.create_task(hub.node.catalog.retire(key))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        stage.event("go").set()
        await changing
        if how == "retire":
            await hub.node.triggers.settle()
            await hub.put(SOURCE.replace("REV", "back"))
        async with asyncio.timeout(5):
            while 2 not in emitted:
                await asyncio.sleep(0.01)
        assert hub.node.triggers.status(TriggerKey("t", "f", "tick")).failures == 0
        await nothing_is_left(hub)
        ended = await hub.node.services.storage.executions(ExecutionFilter(), Page())
        assert [one.state for one in ended.items] == [_S.SUCCESS] * 2


async def test_a_caller_that_hangs_up_does_not_strand_what_it_started(tmp_path: Path, stage: Stage) -> None:
    async def hold(arrivals: Any) -> None:
        stage.event("stored").set()
        await stage.event("go").wait()

    stage.after_accept = hold
    async with stage.hub(tmp_path) as hub:
        await hub.put("id: f\nnamespace: t\ntasks: [{id: a, type: test.call, name: a}]\n")
        calling = asyncio.create_task(hub.start("t/f"))
        await stage.reached("stored")
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        stage.event("go").set()
        await nothing_is_left(hub)
    assert stage.calls == ["a"]


async def test_a_trigger_that_was_moved_by_another_learns_where_it_stands(
    tmp_path: Path, stage: Stage
) -> None:
    runs: list[int] = []

    @stage.source("s")
    async def s(ctx: TriggerContext, emit: Emit) -> None:
        runs.append(ctx.state.get("n", 0))
        if len(runs) == 1:
            await stage.event("moved").wait()
        await emit(Occurrence({}), state={"n": ctx.state.get("n", 0) + 1})
        stage.event("emitted").set()
        await asyncio.sleep(600)

    async with stage.hub(tmp_path) as hub:
        await hub.put(SOURCE)
        storage, now = hub.node.services.storage, hub.node.services.clock.now()
        await storage.accept([], at=now, move=TriggerMove(TriggerKey("t", "f", "tick"), {"n": 41}, 0))
        stage.event("moved").set()
        await stage.reached("emitted")
        assert runs == [0, 41]
        assert hub.state_of("t/f", "tick") == {"n": 42}


async def test_no_more_run_at_a_time_than_there_are_places(tmp_path: Path, stage: Stage) -> None:
    most = 0
    running = 0

    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    @stage.source("s")
    async def s(ctx: TriggerContext, emit: Emit) -> None:
        await emit([Occurrence({"n": n}) for n in range(60)])
        await asyncio.gather(*(emit(Occurrence({"n": n})) for n in range(60)))
        stage.event("emitted").set()
        await asyncio.sleep(600)

    async with stage.hub(tmp_path, most_executions=5) as hub:
        await hub.put(SOURCE)
        await stage.reached("emitted")
        await nothing_is_left(hub)
    assert len(stage.calls) == 120
    assert most <= 5


# what is shared


async def test_a_shared_thing_is_opened_once_however_many_ask() -> None:
    opened: list[int] = []
    closed: list[int] = []

    @asynccontextmanager
    async def open() -> AsyncIterator[int]:
        opened.append(len(opened))
        await asyncio.sleep(0.01)
        yield opened[-1]
        closed.append(0)

    shared = SharedResources()
    first = asyncio.create_task(shared.get("http.request", "session", open))
    await asyncio.sleep(0)
    first.cancel()  # whoever asked first has been killed meanwhile
    found = await asyncio.gather(*(shared.get(f"http.{n}", "session", open) for n in range(3)))
    assert (found, opened) == ([0, 0, 0], [0])
    assert await shared.get("kafka.publish", "session", open) == 1
    await shared.close()
    assert closed == [0, 0]


async def test_a_shared_thing_that_could_not_be_opened_is_tried_again() -> None:
    tries: list[int] = []

    @asynccontextmanager
    async def open() -> AsyncIterator[str]:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("not yet")
        yield "open"

    shared = SharedResources()
    answers = await asyncio.gather(*(shared.get("a", "k", open) for _ in range(2)), return_exceptions=True)
    assert all(isinstance(one, OSError) for one in answers)
    assert await shared.get("a", "k", open) == "open"
    await shared.close()


# time


async def test_whoever_stops_waiting_is_not_kept_by_the_timer(tmp_path: Path, stage: Stage) -> None:
    clock = VirtualClock()
    async with stage.hub(tmp_path, clock=clock) as hub:
        for number in range(300):
            await hub.put(f"""id: y
namespace: t
triggers: [{{id: s, type: schedule.cron, cron: "@yearly"}}]
tasks: [{{id: a, type: log, message: "{number}"}}]
""")
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert len(hub.node.services.timer) < 150


async def test_alarms_go_off_in_order_and_cancelled_ones_never() -> None:
    clock = VirtualClock()
    timer = WallTimer(clock)
    heard: list[int] = []
    alarms = [
        timer.call_at(clock.now() + timedelta(seconds=n), lambda n=n: heard.append(n))  # type: ignore[misc]
        for n in reversed(range(1, 400))
    ]
    for alarm in alarms[::2]:
        alarm.cancel()
        alarm.cancel()
    done = asyncio.create_task(timer.wait_until(clock.now() + timedelta(seconds=400)))
    await asyncio.sleep(0)
    clock.advance(timedelta(seconds=500))
    await done
    assert heard == list(range(2, 400, 2))
    assert len(timer) == 0


async def test_a_trigger_that_fails_is_shown_with_the_kind_of_its_failure(
    tmp_path: Path, stage: Stage
) -> None:
    @stage.source("s")
    async def s(ctx: TriggerContext, emit: Emit) -> None:
        raise KeyError("number")

    async with stage.hub(tmp_path) as hub:
        await hub.put(
            "id: f\nnamespace: t\ntriggers: [{id: a, type: test.source, name: s}]\n"
            "tasks: [{id: a, type: log, message: x}]\n"
        )
        async with asyncio.timeout(10):
            while (status := hub.node.triggers.status(TriggerKey("t", "f", "a"))).state != "failing":
                await asyncio.sleep(0.01)
    assert status.error == "KeyError: 'number'"
