"""What plugins of others are given, and what becomes of what they give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from hub.app import Place, open_node
from hub.config.settings import Settings, load_settings
from hub.errors import InvalidSettings
from hub.plugin import (
    Emit,
    EventFilter,
    Occurrence,
    Page,
    SecretSource,
    Storage,
    StorageSettings,
    Task,
    TaskContext,
    Trigger,
    TriggerContext,
)
from hub.registry import Registry, load_plugins
from hub.testing import Harness, harness
from plugins_core.local.file_store import LocalFileStore
from plugins_core.memory.storage import MemoryStorage


class Weather(BaseModel):
    is_warm: bool
    place: str | None = None


class WeatherSettings(BaseModel):
    place: str = "Lyon"


class Report(Task):
    """Say what the weather is like."""

    type: ClassVar[str] = "weather.report"
    as_mapping: bool = False

    Output = Weather

    def run(self, ctx: TaskContext) -> Any:
        if ctx.settings is not None:
            return {"place": ctx.settings.place}
        return {"is_warm": True} if self.as_mapping else Weather(is_warm=True)


class Changes(Trigger):
    """Start the flow when the weather changes."""

    type: ClassVar[str] = "weather.changes"

    Data = Weather

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        await emit(Occurrence({"is_warm": True, "place": ctx.settings.place if ctx.settings else None}))
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
    assert (runs["say"].outputs, runs["use"].outputs) == (
        {"isWarm": True, **({} if as_mapping == "true" else {"place": None})},
        {"value": True},
    )


async def test_events_of_a_plain_model_are_in_camel_case_and_have_a_type(hub: Harness) -> None:
    with hub.node.services.bus.subscribe("event") as news:
        await hub.put(
            "id: f\nnamespace: t\ntriggers: [{id: c, type: weather.changes, when: '{{ trigger.isWarm }}'}]\n"
            "tasks: [{id: a, type: log, message: warm}]\n"
        )
        await news.next()
    [stored] = (await hub.node.services.storage.events(EventFilter(), Page())).items
    assert (stored.event.type, stored.event.data) == ("hub.weather.changes", {"isWarm": True, "place": None})
    assert stored.verdicts == ()


async def test_tasks_and_triggers_are_given_their_plugins_settings(tmp_path: Path) -> None:
    async with harness(tmp_path, registry=with_weather(settings={"weather": WeatherSettings})) as hub:
        with hub.node.services.bus.subscribe("event") as news:
            await hub.put(
                "id: f\nnamespace: t\ntriggers: [{id: c, type: weather.changes}]\n"
                "tasks: [{id: say, type: weather.report}]\n"
            )
            await news.next()
        [stored] = (await hub.node.services.storage.events(EventFilter(), Page())).items
        assert stored.event.data["place"] == "Lyon"
        ended = await hub.run("t/f")
        assert (await hub.task_runs(ended.id))["say"].outputs == {"place": "Lyon"}


class KeptStore(LocalFileStore):
    """A file store of a plugin, which says which it is."""

    type = "weather"

    async def put(self, owner: str, name: str, content: bytes) -> str:
        assert isinstance(self.settings, WeatherSettings)
        return f"weather:{await super().put(owner, name, content)}"

    async def get(self, uri: str) -> bytes:
        return await super().get(uri.removeprefix("weather:"))


class KeptSource(SecretSource):
    """A secret source of a plugin, which tells its settings."""

    type = "weather"

    async def get(self, name: str) -> str | None:
        return f"secret of {self.settings.place}" if name == "PLACE" else None


class KeptStorage(MemoryStorage):
    """A storage of a plugin, which was opened with its settings."""

    type = "weather"
    seen: ClassVar[list[Any]] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: StorageSettings) -> AsyncIterator[Storage]:
        cls.seen.append(settings.settings)
        yield cls(settings.clock)


async def test_what_the_settings_choose_is_made_with_its_plugins_settings(tmp_path: Path) -> None:
    registry = with_weather(
        settings={"weather": WeatherSettings},
        file_stores={"weather": KeptStore},
        secret_sources=(KeptSource,),
        storages={"weather": KeptStorage},
    )
    settings = Settings.model_validate({"storage": "weather:", "files": {"store": "weather"}})
    place = Place(settings, tmp_path, tmp_path, {})
    async with open_node(place, registry=registry) as node:
        assert await node.services.vault.get("PLACE") == "secret of Lyon"
        packed = await node.services.payloads.pack("x", "y", {"value": "z" * 100_000})
        assert packed["$payload"].startswith("weather:")
        assert KeptStorage.seen == [WeatherSettings()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "files:\n  store: s3\n",
            ':2:10  error: files.store: no file store is called "s3"; there are local, postgres',
        ),
        (
            "storage: redis://x\n",
            ':1:10  error: storage: no storage answers to "redis:"; there are memory, postgres, postgresql, sqlite',
        ),
        (
            "plugins: {local: {enabled: false}}\n",
            'files.store: no file store is called "local"; there are postgres',
        ),
    ],
)
async def test_a_part_that_is_not_there_is_named_with_what_asked_for_it(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "hub.yaml").write_text(text)
    settings = load_settings({}, folder=tmp_path).settings
    with pytest.raises(InvalidSettings) as raised:
        async with open_node(Place(settings, tmp_path, tmp_path, {})):
            pass
    assert message in raised.value.message
    assert "enabled" not in text or "switched off" in str(raised.value.hint or raised.value.message)
