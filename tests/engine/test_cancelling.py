"""A plugin cancels its own tasks and no others; which are its own says who made them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from hub.engine.cancelling import TaskGuard
from hub.engine.node import Node
from hub.plugin import Emit, NotYours, Task, TriggerContext
from tests.support.stage import Stage

_PLUGIN = """
import asyncio

def make(work):
    return asyncio.create_task(work())

async def make_in_group(work):
    async with asyncio.TaskGroup() as group:
        made = group.create_task(work())
        await asyncio.sleep(0)
        made.cancel()
    return made

def cancel(task):
    return task.cancel()

def call(function):
    return function()
"""


async def rest() -> None:
    await asyncio.sleep(60)


@pytest.fixture
async def guard() -> AsyncIterator[TaskGuard]:
    loop, guard = asyncio.get_running_loop(), TaskGuard()
    loop.set_task_factory(guard)
    yield guard
    loop.set_task_factory(None)


@pytest.fixture
def acme() -> SimpleNamespace:
    """Functions of a plugin's own module."""
    names: dict[str, Any] = {"__name__": "asynchub_acme.deep"}
    exec(_PLUGIN, names)
    return SimpleNamespace(**names)


@pytest.fixture
async def node(guard: TaskGuard, tmp_path: Path, stage: Stage) -> AsyncIterator[Node]:
    class Acme(Task):
        """A component of the plugin's."""

        type: ClassVar[str] = "acme.nothing"

    Acme.__module__ = "asynchub_acme.tasks"
    async with stage.hub(tmp_path) as hub:
        services = hub.node.services
        services.registry = replace(services.registry, owners={**services.registry.owners, Acme: "acme"})
        yield hub.node


async def test_a_plugin_cancels_what_it_has_made(node: Node, acme: SimpleNamespace) -> None:
    made = acme.make(rest)
    assert acme.cancel(made)
    in_group = await acme.make_in_group(rest)
    await asyncio.wait([made])
    assert made.cancelled()
    assert in_group.cancelled()
    assert not node.services.faults.of("acme")


@pytest.mark.parametrize(
    "through", [lambda acme, task: acme.cancel(task), lambda acme, task: acme.call(task.cancel)]
)
async def test_a_plugin_does_not_cancel_what_others_have_made(
    node: Node, acme: SimpleNamespace, through: Callable[[SimpleNamespace, asyncio.Task[None]], bool]
) -> None:
    theirs = asyncio.create_task(rest())
    assert not through(acme, theirs)
    await asyncio.sleep(0)
    assert not theirs.cancelling()
    [fault] = node.services.faults.of("acme")
    assert fault.fault == "it cancels tasks that are not its own"
    # whoever is no plugin may
    assert theirs.cancel()


async def test_the_hub_is_cancelled_for_a_plugin_that_asks_it_to(node: Node, acme: SimpleNamespace) -> None:
    """What a plugin calls of the hub's may cancel what it has to."""
    hubs: dict[str, Any] = {"__name__": "hub.engine.somewhere"}
    exec("def stop(task):\n    return task.cancel()", hubs)
    theirs = asyncio.create_task(rest())
    assert acme.call(lambda: hubs["stop"](theirs))
    assert not node.services.faults.of("acme")


async def test_a_plugin_may_cancel_the_task_that_it_runs_in(node: Node, acme: SimpleNamespace) -> None:
    async def own() -> None:
        acme.cancel(asyncio.current_task())
        await rest()

    task = asyncio.create_task(own())
    await asyncio.wait([task])
    assert task.cancelled()
    assert not node.services.faults.of("acme")


async def test_nobody_is_named_before_a_node_runs(guard: TaskGuard, acme: SimpleNamespace) -> None:
    theirs = asyncio.create_task(rest())
    assert acme.cancel(theirs)


async def test_a_trigger_that_lays_hands_on_the_hubs_own_is_named(tmp_path: Path, stage: Stage) -> None:
    @stage.source("s")
    async def s(ctx: TriggerContext, emit: Emit) -> None:
        raise NotYours("this connection is the storage's")

    async with stage.hub(tmp_path) as hub:
        await hub.put(
            "id: f\nnamespace: t\ntriggers: [{id: a, type: test.source, name: s}]\ntasks: [{id: a, type: log, message: x}]\n"
        )
        async with asyncio.timeout(10):
            while not (faults := hub.node.services.faults.of("test")):
                await asyncio.sleep(0.01)
    assert (faults[0].component, faults[0].where) == ("test.source", "t/f/a")
    assert faults[0].fault == "it lays hands on what is the hub's own"
