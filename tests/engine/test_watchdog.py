"""A call that keeps the loop from everything else is named in the log, with its stack."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog

from hub.engine import watchdog
from hub.plugin import Emit, HttpAnswer, HttpRequest, HttpTrigger, TaskContext, TriggerContext
from hub.testing import Kit
from tests.support.stage import Stage


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    start: Any = watchdog.LoopWatchdog.__init__
    monkeypatch.setattr(start, "__kwdefaults__", {**start.__kwdefaults__, "after": 0.2})


def a_call_that_never_awaits(seconds: float = 0.8) -> None:
    time.sleep(seconds)


async def test_a_task_that_blocks_is_named_with_its_stack(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    async def a(ctx: TaskContext) -> None:
        a_call_that_never_awaits()

    with structlog.testing.capture_logs() as said:
        async with stage.hub(tmp_path) as hub:
            await hub.put("id: f\nnamespace: t\ntasks: [{id: a, type: test.call, name: a}]\n")
            ended = await hub.run("t/f")
            await asyncio.sleep(0.1)
            lines = [line.message for line in await hub.logs(ended.id)]
    [blocked] = [one for one in said if one["event"].startswith("the whole hub waits")]
    assert (blocked["plugin"], blocked["component"]) == ("test", "test.call")
    assert blocked["where"] == f"{ended.id} a"
    assert "a_call_that_never_awaits" in blocked["stack"]
    [over] = [one for one in said if one["event"] == "the hub goes on"]
    assert over["seconds"] >= 0.7
    assert ended.state.value == "SUCCESS"
    assert lines == [] or "kept the whole hub" in lines[0]


async def test_a_trigger_that_blocks_is_named(tmp_path: Path, stage: Stage) -> None:
    over = asyncio.Event()

    @stage.source("s")
    async def s(ctx: TriggerContext, emit: Emit) -> None:
        await asyncio.sleep(0.05)
        a_call_that_never_awaits()
        over.set()
        await asyncio.Event().wait()

    with structlog.testing.capture_logs() as said:
        async with stage.hub(tmp_path) as hub:
            await hub.put(
                "id: f\nnamespace: t\ntriggers: [{id: s, type: test.source, name: s}]\n"
                "tasks: [{id: a, type: log, message: x}]\n"
            )
            await over.wait()
    [blocked] = [one for one in said if one["event"].startswith("the whole hub waits")]
    assert (blocked["component"], blocked["where"]) == ("test.source", "t/f/s")


async def test_a_task_in_a_thread_and_a_loop_at_rest_are_not_named(tmp_path: Path, stage: Stage) -> None:
    @stage.on("a")
    def a(ctx: TaskContext) -> Any:
        a_call_that_never_awaits(0.6)
        return {"thread": threading.current_thread().name}

    with structlog.testing.capture_logs() as said:
        async with stage.hub(tmp_path) as hub:
            await hub.put("id: f\nnamespace: t\ntasks: [{id: a, type: test.plain, name: a}]\n")
            await hub.run("t/f")
    assert [one for one in said if one["event"].startswith("the whole hub waits")] == []


class Hook(HttpTrigger):
    """Take a request, slowly."""

    type: ClassVar[str] = "test.hook"

    async def receive(self, request: HttpRequest, ctx: TriggerContext, emit: Emit) -> HttpAnswer:
        a_call_that_never_awaits()
        return HttpAnswer(202, None)


async def test_a_webhook_that_blocks_is_named(hub_kit: Kit) -> None:
    with structlog.testing.capture_logs() as said:
        async with hub_kit.trigger(Hook) as running:
            assert (await running.send("x")).status == 202
    # the first request of a process loads the API, which takes longer than this test lets the loop be kept
    found = {
        one["component"]: one["plugin"] for one in said if one["event"].startswith("the whole hub waits")
    }
    assert found["test.hook"] == "test"


def test_the_thread_ends_with_the_hub() -> None:
    async def watch() -> None:
        from hub.registry import Registry

        with watchdog.LoopWatchdog(Registry().owner_of).watching():
            assert "hub watchdog" in {one.name for one in threading.enumerate()}

    asyncio.run(watch())
    assert "hub watchdog" not in {one.name for one in threading.enumerate()}
