"""Turns: however much one namespace asks for, another waits for little of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hub.engine.turns import Turns
from hub.errors import StorageOverloaded
from hub.model.execution import ExecutionState
from hub.plugin import TaskContext
from hub.plugin.storage import ExecutionFilter, Page
from hub.testing import Harness
from tests.support.stage import Stage


class Steps:
    """What was done, one step of a namespace after another; each turn takes what the test says."""

    def __init__(self, turns: Turns, clock: Clock) -> None:
        self.turns = turns
        self.clock = clock
        self.done: list[str] = []

    async def work(self, namespace: str, steps: int, *, seconds: float = 0.001) -> None:
        for _ in range(steps):
            await self.turns.take(namespace)
            self.clock.seconds += seconds
            self.done.append(namespace)
            await asyncio.sleep(0)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def steps() -> Steps:
    clock = Clock()
    return Steps(Turns(now=clock), clock)


async def test_a_namespace_that_is_alone_never_waits(steps: Steps) -> None:
    await steps.turns.take("flood")
    steps.clock.seconds += 10
    waiting = [asyncio.ensure_future(steps.turns.take("flood")) for _ in range(100)]
    await asyncio.sleep(0)
    assert all(one.done() for one in waiting)


async def test_another_namespace_waits_for_a_few_steps_of_a_hundred() -> None:
    steps = Steps(Turns(), Clock())
    flood = [asyncio.ensure_future(steps.work("flood", 5)) for _ in range(100)]
    await asyncio.sleep(0)
    await steps.work("calm", 5)
    before = len(steps.done)
    assert steps.done.count("calm") == 5
    assert before < 250, "a step of calm must not wait for one of each of the hundred"
    await asyncio.gather(*flood)
    assert steps.done.count("flood") == 500


async def test_in_company_a_round_is_over_before_it_takes_long(steps: Steps) -> None:
    await steps.work("calm", 1)
    flood = [asyncio.ensure_future(steps.work("flood", 1, seconds=0.010)) for _ in range(50)]
    for _ in range(20):
        await asyncio.sleep(0)
    had = steps.done.count("flood")
    await steps.work("calm", 1)
    assert steps.done.count("flood") - had <= 3
    await asyncio.gather(*flood)


class Disk:
    """Writes that end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._ends: list[asyncio.Future[None]] = []

    def write(self, turns: Turns, name: str) -> asyncio.Task[None]:
        async def work() -> None:
            self.begun.append(name)
            end = asyncio.get_running_loop().create_future()
            self._ends.append(end)
            await end

        return asyncio.ensure_future(turns.write(name, work))

    async def commit(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            if not end.done():
                end.set_result(None)
        for _ in range(5):
            await asyncio.sleep(0)


async def test_a_namespace_that_is_alone_writes_as_much_as_it_wants(steps: Steps) -> None:
    disk = Disk()
    writes = [disk.write(steps.turns, "flood") for _ in range(100)]
    await disk.commit()
    assert len(disk.begun) == 100
    await disk.commit()
    await asyncio.gather(*writes)


async def test_in_company_a_commit_takes_few_writes_of_each_along(steps: Steps) -> None:
    disk = Disk()
    await steps.turns.take("flood")
    await steps.turns.take("calm")
    writes = [disk.write(steps.turns, "flood") for _ in range(50)]
    await disk.commit()
    before = len(disk.begun)
    assert 1 <= before < 10
    calm = disk.write(steps.turns, "calm")
    await asyncio.sleep(0)
    assert disk.begun[-1] == "calm", "another's write does not wait for those of the flood"
    while not all(one.done() for one in (calm, *writes)):
        had = len(disk.begun)
        await disk.commit()
        assert len(disk.begun) - had <= before
    assert disk.begun.count("flood") == 50


async def test_who_waits_to_write_and_goes_leaves_its_place(steps: Steps) -> None:
    disk = Disk()
    await steps.turns.take("flood")
    await steps.turns.take("calm")
    writes = [disk.write(steps.turns, "flood") for _ in range(50)]
    await disk.commit()
    for one in writes:
        one.cancel()
    await asyncio.gather(*writes, return_exceptions=True)
    last = disk.write(steps.turns, "flood")
    await asyncio.sleep(0)
    assert disk.begun.count("flood") > 0
    await disk.commit()
    await asyncio.wait_for(last, 5)


async def test_who_has_gone_is_passed_over(steps: Steps) -> None:
    await steps.turns.take("other")
    gone = [asyncio.ensure_future(steps.turns.take("flood")) for _ in range(10)]
    last = asyncio.ensure_future(steps.turns.take("flood"))
    await asyncio.sleep(0)
    for one in gone:
        one.cancel()
    await asyncio.wait_for(last, 5)


async def test_more_than_can_wait_is_refused(steps: Steps) -> None:
    turns = steps.turns = Turns(most_waiting=3, now=steps.clock)
    await turns.take("other")
    await turns.take("flood")
    # the first has its turn, the others wait
    waiting = [asyncio.ensure_future(turns.take_or_refuse("flood")) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(StorageOverloaded, match="3 requests of flood are waiting"):
        await turns.take_or_refuse("flood")
    await turns.take_or_refuse("calm")
    await asyncio.wait_for(asyncio.gather(*waiting), 20)


FLOW = "id: f\nnamespace: {}\ntasks: [{{id: a, type: test.call, name: {}}}]\n"


async def test_a_flooding_namespace_leaves_the_next_place_to_another(tmp_path: Path, stage: Stage) -> None:
    order: list[str] = []

    @stage.on("hold")
    async def hold(ctx: TaskContext) -> None:
        order.append(ctx.flow.namespace)
        if len(order) == 3:
            stage.event("full").set()
        if not stage.event("calm ran").is_set():
            await stage.event(f"go {len(order)}").wait()

    @stage.on("calm")
    async def calm(ctx: TaskContext) -> None:
        order.append(ctx.flow.namespace)
        stage.event("calm ran").set()

    async with stage.hub(tmp_path, most_executions=3) as hub:
        await hub.put(FLOW.format("flood", "hold"))
        await hub.put(FLOW.format("calm", "calm"))
        for _ in range(40):
            await hub.start("flood/f")
        await stage.reached("full")
        await hub.start("calm/f")
        stage.event("go 1").set()  # one place of three becomes free
        await stage.reached("calm ran")
        assert order == ["flood", "flood", "flood", "calm"]
        for n in (2, 3):
            stage.event(f"go {n}").set()
        await ended(hub, 41)


async def ended(hub: Harness, count: int) -> None:
    storage = hub.node.services.storage
    with hub.node.services.bus.subscribe("execution", size=10_000) as news:
        while True:
            found = await storage.executions(
                ExecutionFilter(states=(ExecutionState.SUCCESS,)), Page(1), count=True
            )
            if found.total == count:
                return
            async with asyncio.timeout(20):
                await news.next()
