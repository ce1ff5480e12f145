"""What plugins of others are given, and what becomes of what they give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from hub.plugin import Emit, Occurrence, Task, TaskContext, Trigger, TriggerContext
from hub.plugin.storage import EventFilter, Page
from hub.registry import Registry, load_plugins
from hub.testing import Harness, harness


class Weather(BaseModel):
    is_warm: bool


class Report(Task):
    """Say what the weather is like."""

    type: ClassVar[str] = "weather.report"
    as_mapping: bool = False

    Output = Weather

    def run(self, ctx: TaskContext) -> Any:
        return {"is_warm": True} if self.as_mapping else Weather(is_warm=True)


class Changes(Trigger):
    """Start the flow when the weather changes."""

    type: ClassVar[str] = "weather.changes"

    Data = Weather

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        await emit(Occurrence(Weather(is_warm=True).model_dump()))
        await asyncio.Event().wait()


def with_weather(**changes: Any) -> Registry:
    registry = load_plugins({})
    return replace(
        registry,
        tasks={**registry.tasks, Report.type: Report},
        triggers={**registry.triggers, Changes.type: Changes},
        **changes,
    )


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Harness]:
    async with harness(tmp_path, registry=with_weather()) as hub:
        yield hub


@pytest.mark.parametrize("as_mapping", ["false", "true"])
async def test_outputs_of_a_plain_model_are_in_camel_case(hub: Harness, as_mapping: str) -> None:
    await hub.put(
        "id: f\nnamespace: t\ntasks:\n"
        f"  - {{id: say, type: weather.report, asMapping: {as_mapping}}}\n"
        "  - {id: use, type: return, value: '{{ outputs.say.isWarm }}'}\n"
    )
    ended = await hub.run("t/f")
    assert ended.error is None
    runs = await hub.task_runs(ended.id)
    assert (runs["say"].outputs, runs["use"].outputs) == ({"isWarm": True}, {"value": True})


async def test_events_of_a_plain_model_are_in_camel_case_and_have_a_type(hub: Harness) -> None:
    with hub.node.services.bus.subscribe("event") as news:
        await hub.put(
            "id: f\nnamespace: t\ntriggers: [{id: c, type: weather.changes, when: '{{ trigger.isWarm }}'}]\n"
            "tasks: [{id: a, type: log, message: warm}]\n"
        )
        await news.next()
    [stored] = (await hub.node.services.storage.events(EventFilter(), Page())).items
    assert (stored.event.type, stored.event.data) == ("hub.weather.changes", {"isWarm": True})
    assert stored.verdicts == ()
