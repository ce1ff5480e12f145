"""Twenty thousand sleeping executions: memory as if idle, through a crash, and all end on time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from hub.model.execution import ExecutionState, NewExecution
from hub.model.ids import FlowKey, new_id
from hub.plugin.storage import Arrival, ExecutionFilter, Page
from hub.testing import Harness, VirtualClock, harness

_COUNT = 20_000
_SOURCE = "id: s\nnamespace: t\ntasks: [{id: nap, type: flow.sleep, duration: PT1H}]"


def resident_mib() -> float:
    with open("/proc/self/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith("VmRSS"))) / 1024


async def in_state(hub: Harness, *states: ExecutionState) -> int:
    found = await hub.node.services.storage.executions(ExecutionFilter(states=states), Page(1), count=True)
    return found.total or 0


async def until(hub: Harness, count: int, *states: ExecutionState) -> None:
    async with asyncio.timeout(100):
        while await in_state(hub, *states) < count:
            await asyncio.sleep(0.1)


async def test_twenty_thousand_sleepers_cost_no_memory_and_end_on_time_after_a_crash(tmp_path: Path) -> None:
    clock = VirtualClock()
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    async with harness(tmp_path, storage=url, clock=clock) as hub:
        key = await hub.put(_SOURCE)
        before = resident_mib()
        for _ in range(_COUNT // 1000):
            await _start(hub, key, 1000)
        await until(hub, _COUNT, ExecutionState.PAUSED)
        await asyncio.sleep(0.2)
        assert hub.node.dispatcher.running == 0
        assert resident_mib() - before < 60
        # a crash: nothing is handed back, nothing is closed in order
        for executor in hub.node.dispatcher.executors():
            executor.kill("crash")
    async with harness(tmp_path, storage=url, clock=clock) as hub:
        clock.advance(timedelta(minutes=59))
        hub.node.dispatcher.poke()
        await asyncio.sleep(0.3)
        assert await in_state(hub, ExecutionState.PAUSED) == _COUNT
        clock.advance(timedelta(minutes=1, seconds=1))
        hub.node.dispatcher.poke()
        await until(hub, _COUNT, ExecutionState.SUCCESS)
        some = await hub.node.services.storage.executions(ExecutionFilter(), Page(1000))
        assert {one.ended_at for one in some.items} == {clock.now()}


async def _start(hub: Harness, key: FlowKey, count: int) -> None:
    storage, now = hub.node.services.storage, hub.node.services.clock.now()
    arrivals = [
        Arrival((NewExecution(id=new_id(), flow=key, revision=1, created_at=now),)) for _ in range(count)
    ]
    for accepted in await storage.accept(arrivals, at=now, room=0):
        hub.node.dispatcher.take(accepted)
