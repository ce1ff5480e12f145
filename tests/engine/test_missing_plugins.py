"""A stored flow whose plugin is gone stops the start by name; the settings may say that it is meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hub.errors import PluginError
from hub.model.ids import FlowKey
from hub.plugin import Emit, Task, TaskContext, Trigger, TriggerContext
from hub.registry import PluginReport, Registry, load_plugins
from hub.testing import harness


class Publish(Task):
    """Publishes."""

    type: ClassVar[str] = "mqtt.publish"

    async def run(self, ctx: TaskContext) -> None: ...


class Messages(Trigger):
    """Reads."""

    type: ClassVar[str] = "mqtt.messages"

    async def run(self, ctx: TriggerContext, emit: Emit) -> None: ...


_WITH = load_plugins({})
_WITH = replace(
    _WITH,
    tasks={**_WITH.tasks, Publish.type: Publish},
    triggers={**_WITH.triggers, Messages.type: Messages},
)
_WITHOUT = load_plugins({})
_FAILED = replace(
    _WITHOUT,
    plugins=(
        *_WITHOUT.plugins,
        PluginReport("mqtt", "asynchub", "1", state="failed", error="aiomqtt is not installed"),
    ),
)

_TASK = "id: sending\nnamespace: shop\ntasks:\n  - {id: g, type: flow.sequential, tasks: [{id: p, type: mqtt.publish}]}\n"
_TRIGGER = (
    "id: reading\nnamespace: shop\ntriggers: [{id: k, type: mqtt.messages, disabled: true}]\n"
    "tasks: [{id: a, type: log, message: x}]\n"
)


def a_hub(folder: Path, registry: Registry) -> Any:
    return harness(folder, storage=f"sqlite:///{folder / 'hub.db'}", registry=registry, with_triggers=False)


async def put(folder: Path, *sources: str) -> None:
    async with a_hub(folder, _WITH) as hub:
        for source in sources:
            await hub.put(source)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (_TASK, 'flow shop/sending needs the task type "mqtt.publish": '),
        (_TRIGGER, 'flow shop/reading needs the trigger type "mqtt.messages": '),
    ],
)
@pytest.mark.parametrize(
    ("registry", "why"),
    [(_WITHOUT, 'no plugin "mqtt" is installed'), (_FAILED, "aiomqtt is not installed")],
)
async def test_a_flow_whose_plugin_is_gone_stops_the_start_by_name(
    tmp_path: Path, source: str, what: str, registry: Registry, why: str
) -> None:
    await put(tmp_path, source)
    with pytest.raises(PluginError) as raised:
        async with a_hub(tmp_path, registry):
            raise AssertionError("the hub started")
    assert what + why in raised.value.message
    assert "enabled: false" in (raised.value.hint or "")


async def test_every_flow_that_stops_the_start_is_named(tmp_path: Path) -> None:
    await put(tmp_path, _TASK, _TRIGGER, *(_TASK.replace("sending", f"more{n}") for n in range(5)))
    with pytest.raises(PluginError, match=r"shop/more0.*shop/more4.*\(and 2 more flows\)"):
        async with a_hub(tmp_path, _WITHOUT):
            pass


async def test_the_hub_starts_once_the_plugin_is_back(tmp_path: Path) -> None:
    await put(tmp_path, _TASK)
    with pytest.raises(PluginError):
        async with a_hub(tmp_path, _WITHOUT):
            pass
    async with a_hub(tmp_path, _WITH) as hub:
        assert (await hub.run("shop/sending")).error is None


async def test_a_flow_that_is_disabled_needs_nothing(tmp_path: Path) -> None:
    await put(tmp_path, _TASK + "disabled: true\n")
    async with a_hub(tmp_path, _WITHOUT) as hub:
        assert hub.node.catalog.broken == {}


async def test_a_flow_whose_plugin_is_switched_off_is_shown_as_broken(tmp_path: Path) -> None:
    await put(tmp_path, _TASK)
    async with a_hub(tmp_path, load_plugins({"mqtt": {"enabled": False}})) as hub:
        [problem] = hub.node.catalog.broken["shop/sending"]
        assert 'the task type "mqtt.publish": plugin "mqtt" is switched off' in problem.message
        # put again it is whole again
        await hub.node.catalog.put("id: sending\nnamespace: shop\ntasks: [{id: a, type: log, message: x}]\n")
        assert hub.node.catalog.broken == {}
        assert hub.node.catalog.get(FlowKey("shop", "sending")) is not None
