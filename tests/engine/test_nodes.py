"""Several hubs over one PostgreSQL, in this process: what one does the others know, and none does it twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hub.app import Place, open_node
from hub.config.settings import Settings
from hub.engine.node import Node
from hub.errors import HubError, InvalidSettings
from hub.model.execution import ExecutionState
from hub.model.ids import FlowKey, TriggerKey
from hub.plugin.storage import EventFilter, ExecutionFilter, Page
from tests.services.postgres import fetch
from tests.support.stage import Stage

_PLUGINS = {"postgres": {"allowUnsafe": True, "lease": "PT3S", "heartbeat": "PT0.2S", "poll": "PT0.2S"}}
_PATIENCE = 20.0

Start = Callable[..., AbstractAsyncContextManager[Node]]


@pytest.fixture
def start(database: str, tmp_path: Path, stage: Stage) -> Start:
    """Start a hub by name: with its own data and flow folder, over the one database."""

    @asynccontextmanager
    async def starting(name: str, flows: dict[str, str] | None = None, **more: Any) -> AsyncIterator[Node]:
        folder = tmp_path / name
        (folder / "flows").mkdir(parents=True, exist_ok=True)
        for file, source in (flows or {}).items():
            (folder / "flows" / f"{file}.hub.yaml").write_text(source)
        settings = Settings.model_validate({"storage": database, "plugins": _PLUGINS, **more})
        place = Place(settings, folder, folder, {})
        async with open_node(place, registry=stage.registry, folders=[folder / "flows"]) as node:
            node.drain_grace = node.notices_grace = node.linger = 0.0
            async with node.running():
                yield node

    return starting


async def eventually(check: Callable[[], Any], what: str) -> None:
    """Wait until something is so that nobody here is told of: it happens in another hub."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            found = check()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.02)


async def until_ended(node: Node, execution_id: str) -> ExecutionState:
    with node.services.watches.on(execution_id) as watch:
        async with asyncio.timeout(_PATIENCE):
            while True:
                watch.happened.clear()
                found = await node.services.storage.execution(execution_id)
                if found.state.is_terminal:
                    return found.state
                await watch.happened.wait()


def flow(id: str, *, tasks: str = "- {id: a, type: log, message: hi}", more: str = "") -> str:
    return f"id: {id}\nnamespace: n\n{more}\ntasks:\n  {tasks}\n"


_CALL = "- {id: a, type: test.call, name: work}"


async def test_a_flow_that_one_hub_has_taken_runs_on_another(start: Start) -> None:
    async with start("one") as one, start("two") as two:
        await one.catalog.put(flow("f"))
        # at once, before anybody was told of it
        execution = await two.intake.start(FlowKey("n", "f"), inputs={}, labels={})
        assert await until_ended(one, execution.id) is ExecutionState.SUCCESS
        await eventually(lambda: two.catalog.get(FlowKey("n", "f")), "the flow is known")
        await one.catalog.retire(FlowKey("n", "f"))
        await eventually(lambda: two.catalog.get(FlowKey("n", "f")) is None, "the flow is gone")
        with pytest.raises(HubError):
            await two.intake.start(FlowKey("n", "f"), inputs={}, labels={})


async def test_a_kill_reaches_what_another_hub_runs(start: Start, stage: Stage) -> None:
    @stage.on("work")
    async def _(ctx: Any) -> None:
        stage.event("begun").set()
        await asyncio.sleep(60)

    async with start("one") as one, start("two") as two:
        await one.catalog.put(flow("f", tasks=_CALL))
        execution = await one.intake.start(FlowKey("n", "f"), inputs={}, labels={})
        await stage.reached("begun")
        killed = await two.kill(execution.id, "enough")
        assert killed.state is ExecutionState.KILLING
        assert await until_ended(two, execution.id) is ExecutionState.KILLED
        assert (await two.services.storage.execution(execution.id)).error == "enough"


async def test_a_hub_without_room_leaves_executions_to_another(start: Start, stage: Stage) -> None:
    ran: list[str] = []
    both = asyncio.Event()

    @stage.on("work")
    async def _(ctx: Any) -> None:
        ran.append(ctx.execution_id)
        if len(ran) == 2:
            both.set()
        async with asyncio.timeout(_PATIENCE):
            await both.wait()

    limits = {"limits": {"maxConcurrentExecutions": 1}}
    async with start("one", **limits) as one, start("two", **limits) as two:
        await one.catalog.put(flow("f", tasks=_CALL))
        first, second = [await one.intake.start(FlowKey("n", "f"), inputs={}, labels={}) for _ in range(2)]
        # each waits for the other: on one hub alone they never end
        for execution in (first, second):
            assert await until_ended(two, execution.id) is ExecutionState.SUCCESS
    assert sorted(ran) == sorted([first.id, second.id])


async def test_a_limit_holds_over_hubs(start: Start, stage: Stage) -> None:
    at_once = most = 0

    @stage.on("work")
    async def _(ctx: Any) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.005)
        at_once -= 1

    async with start("one") as one, start("two") as two:
        await one.catalog.put(flow("f", tasks=_CALL, more="concurrency: {limit: 2}"))
        started = await asyncio.gather(
            *(
                node.intake.start(FlowKey("n", "f"), inputs={}, labels={})
                for _ in range(10)
                for node in (one, two)
            )
        )
        for execution in started:
            assert await until_ended(one, execution.id) is ExecutionState.SUCCESS
    assert most == 2


async def test_a_parent_hears_of_a_child_that_another_hub_ended(start: Start, stage: Stage) -> None:
    """The child is let in on the hub whose execution ends before it, and the parent waits on the other."""

    @stage.on("first")
    async def _(ctx: Any) -> None:
        async with asyncio.timeout(_PATIENCE):
            await stage.event("go").wait()

    sibling = "- {id: s, type: flow.parallel, tasks: [{id: k, type: flow.subflow, flowId: child}, {id: t, type: test.call, name: sibling}]}"

    @stage.on("sibling")
    async def _(ctx: Any) -> None:
        stage.event("go").set()
        # keeps the parent in memory, so that it has to be told
        async with asyncio.timeout(_PATIENCE):
            await stage.event("over").wait()

    @stage.on("second")
    async def _(ctx: Any) -> None:
        stage.event("over").set()

    which = "concurrency: {limit: 1}\ninputs: [{id: which, type: STRING, required: false}]"
    child = flow(
        "child", tasks="- {id: a, type: test.call, name: \"{{ inputs.which ?? 'second' }}\"}", more=which
    )
    async with start("one") as one, start("two") as two:
        await one.catalog.put(child)
        await one.catalog.put(flow("parent", tasks=sibling))
        await two.intake.start(FlowKey("n", "child"), inputs={"which": "first"}, labels={})
        parent = await one.intake.start(FlowKey("n", "parent"), inputs={}, labels={})
        assert await until_ended(one, parent.id) is ExecutionState.SUCCESS


async def test_each_planned_time_gives_one_event_over_hubs(start: Start) -> None:
    every = flow("f", more="triggers: [{id: t, type: schedule.every, interval: PT1S}]")
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(start(name)) for name in ("one", "two", "three")]
        await nodes[0].catalog.put(every)
        storage = nodes[0].services.storage

        async def some() -> bool:
            return len((await storage.events(EventFilter(), Page(100))).items) >= 3

        await eventually(some, "three planned times")
        assert {node.triggers.status(TriggerKey("n", "f", "t")).failures for node in nodes} == {0}
        times = [stored.event.time for stored in (await storage.events(EventFilter(), Page(100))).items]
        assert len(times) == len(set(times))
        gaps = {(one - other).total_seconds() for one, other in pairwise(times)}
        assert gaps == {1.0}


async def test_a_trigger_of_one_place_moves_when_its_hub_ends(start: Start, stage: Stage) -> None:
    running: list[int] = []

    @stage.source("s")
    async def _(ctx: Any, emit: Any) -> None:
        running.append(1)
        try:
            await asyncio.sleep(60)
        finally:
            running.pop()

    source = flow("f", more="triggers: [{id: t, type: test.source, name: s}]")
    name = TriggerKey("n", "f", "t")
    async with start("two") as two:
        async with start("one") as one:
            await one.catalog.put(source)
            await eventually(lambda: running == [1], "it runs")
            both = {"running", "standby"}
            await eventually(
                lambda: {node.triggers.status(name).state for node in (one, two)} == both, "one stands by"
            )
            assert running == [1]
        await eventually(lambda: two.triggers.status(name).state == "running", "the other runs it")
        assert running == [1]


async def test_one_taken_for_dead_loses_what_it_held_and_goes_on(
    start: Start, stage: Stage, database: str
) -> None:
    attempts: list[str] = []

    @stage.on("work")
    async def _(ctx: Any) -> None:
        attempts.append("begun")
        if len(attempts) == 1:
            stage.event("begun").set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                stage.event("stopped").set()
                raise

    async with start("one") as one, start("two") as two:
        await one.catalog.put(flow("f", tasks=_CALL))
        execution = await one.intake.start(FlowKey("n", "f"), inputs={}, labels={})
        await stage.reached("begun")
        [(number,)] = await fetch(database, "SELECT node FROM executions WHERE claimed = 1")
        # as if it had not been heard of for longer than its lease: its next heartbeat comes too late
        ended = 0
        while not ended:
            await fetch(database, "UPDATE nodes SET lease_expires_at = 0 WHERE number = $1", number)
            ended = await two.services.storage.recover()
        await stage.reached("stopped")
        assert await until_ended(two, execution.id) is ExecutionState.SUCCESS
        assert len(attempts) == 2
        again = await one.intake.start(FlowKey("n", "f"), inputs={}, labels={})
        assert await until_ended(one, again.id) is ExecutionState.SUCCESS
        numbers = {node.number for node in await one.services.storage.nodes()}
        assert number not in numbers
        assert len(numbers) == 2


async def test_a_drained_hub_hands_back_what_it_moves_and_takes_nothing_new(
    start: Start, stage: Stage
) -> None:
    where: list[str] = []

    @stage.on("work")
    async def _(ctx: Any) -> None:
        where.append("begun")
        if len(where) == 1:
            stage.event("begun").set()
            await asyncio.sleep(60)

    async with start("one") as one, start("two") as two:
        await one.catalog.put(flow("f", tasks=_CALL))
        execution = await one.intake.start(FlowKey("n", "f"), inputs={}, labels={})
        await stage.reached("begun")
        this = next(node for node in await one.services.storage.nodes() if node.is_this)
        await two.services.storage.request_drain(this.number)
        assert await until_ended(two, execution.id) is ExecutionState.SUCCESS
        assert one.is_ready is False
        assert two.is_ready is True
        found = await two.services.storage.executions(ExecutionFilter(), Page())
        assert [one.restarts for one in found.items] == [0]


# folders


async def revisions(node: Node, id: str = "f") -> int:
    return len(await node.services.storage.revisions(FlowKey("n", id)))


async def test_the_same_file_on_several_hubs_is_one_revision(start: Start) -> None:
    async with start("one", {"f": flow("f")}) as one, start("two", {"other": flow("f")}) as two:
        assert (one.catalog.broken, two.catalog.broken) == ({}, {})
        assert await revisions(one) == 1


async def test_a_hub_that_lacks_a_file_does_not_retire_its_flow(start: Start) -> None:
    async with start("one", {"f": flow("f")}) as one, start("two") as two:
        await two.folders.scan()
        assert two.catalog.get(FlowKey("n", "f")) is not None
        (one.folders._folders[0] / "f.hub.yaml").unlink()
        await one.folders.scan()
        assert one.catalog.get(FlowKey("n", "f")) is not None, "another hub may have it"


async def test_the_last_hub_there_is_retires_a_flow_whose_file_is_gone(start: Start) -> None:
    async with start("one", {"f": flow("f")}) as one:
        (one.folders._folders[0] / "f.hub.yaml").unlink()
        await one.folders.scan()
        assert one.catalog.get(FlowKey("n", "f")) is None


async def test_hubs_whose_files_differ_do_not_overwrite_each_other_by_turns(start: Start) -> None:
    old, new = flow("f"), flow("f", tasks="- {id: b, type: log, message: new}")
    async with start("one", {"f": old}) as one, start("two", {"f": new}) as two:
        key = FlowKey("n", "f")
        record = two.catalog.get(key)
        assert record is not None
        assert record.revision == 2
        await eventually(lambda: one.catalog.get(key) == record, "the new one is in use everywhere")
        for _ in range(2):
            await one.folders.scan()
            await two.folders.scan()
        assert await revisions(one) == 2
        await eventually(lambda: len(one.catalog.broken) == 1, "the older file is reported")
        [problems] = one.catalog.broken.values()
        assert "revision 1" in problems[0].message
        # brought in line, as a roll-out does
        (one.folders._folders[0] / "f.hub.yaml").write_text(new)
        await one.folders.scan()
        assert one.catalog.broken == {}
        # an edit of what is in use is a new revision, wherever it is made
        (one.folders._folders[0] / "f.hub.yaml").write_text(old)
        await one.folders.scan()
        assert await revisions(one) in (2, 3)
        found = one.catalog.get(key)
        assert found is not None
        assert found.source_hash == one.catalog.digest(old)


async def test_a_hub_whose_files_the_others_cannot_read_does_not_start(start: Start) -> None:
    async with start("one"):
        with pytest.raises(InvalidSettings, match="is not the one of node"):
            async with start("two", files={"store": "local"}):
                pass
