"""The past goes when its time has come: rows, logs, files, and then the room they took."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from hub.engine.retention import Retention, RetentionRule
from hub.errors import NotFound
from hub.model.ids import FlowKey
from hub.plugin.storage import EventFilter, ExecutionFilter, Page
from hub.testing import Harness, VirtualClock, harness

_BIG = """id: big
namespace: past
inputs: [{id: text, type: STRING}]
tasks:
  - {id: text, type: return, value: "{{ inputs.text }}"}
outputs: [{id: text, value: "{{ outputs.text.value }}"}]
"""
_TEXT = {"text": "x" * 100_000}


def _files(folder: Path) -> list[Path]:
    return [path for path in (folder / "files").rglob("*") if path.is_file()]


@pytest.mark.parametrize("storage", ["memory:", "sqlite"])
async def test_old_executions_go_with_their_files_and_young_ones_stay(tmp_path: Path, storage: str) -> None:
    clock = VirtualClock()
    url = f"sqlite:///{tmp_path / 'hub.db'}" if storage == "sqlite" else storage
    async with harness(tmp_path, storage=url, clock=clock) as hub:
        await hub.put(_BIG)
        old = await hub.run("past/big", _TEXT)
        clock.advance(timedelta(days=31))
        young = await hub.run("past/big", _TEXT)
        files = _files(tmp_path)
        assert len(files) == 4
        assert await hub.node.retention.clear_up() == 1
        assert [young.id in str(path) for path in _files(tmp_path)] == [True, True]
        with pytest.raises(NotFound):
            await hub.node.services.storage.execution(old.id)
        assert await hub.logs(old.id) == []
        assert await hub.task_runs(old.id) == {}
        await hub.node.services.storage.execution(young.id)


async def test_the_closest_rule_decides(hub: Harness) -> None:
    services = hub.node.services
    for key in ("past/a", "past/b", "other/a"):
        namespace, id = key.split("/")
        await hub.put(f"id: {id}\nnamespace: {namespace}\ntasks: [{{id: t, type: log, message: x}}]\n")
        await hub.run(key)
    rules = [
        RetentionRule(executions=timedelta(0)),
        RetentionRule(executions=None, namespace="past"),
        RetentionRule(executions=timedelta(0), namespace="past", flow="b"),
    ]
    assert await Retention(services, rules).clear_up() == 2
    left = await services.storage.executions(ExecutionFilter(), Page())
    assert [one.flow for one in left.items] == [FlowKey("past", "a")]


async def test_events_stay_as_long_as_an_execution_needs_them(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with harness(tmp_path, clock=clock) as hub:
        await hub.put("id: e\nnamespace: p\ntasks: [{id: t, type: event.emit, event: nobody}]\n")
        await hub.put(
            "id: w\nnamespace: p\ntriggers: [{id: t, type: event.matched, event: some}]\n"
            "tasks: [{id: t, type: return, value: 1}]\n"
        )
        await hub.put("id: s\nnamespace: p\ntasks: [{id: t, type: event.emit, event: some}]\n")
        await hub.run("p/e")
        await hub.run("p/s")
        clock.advance(timedelta(days=8))
        assert await hub.node.retention.clear_up() == 1
        [left] = (await hub.node.services.storage.events(EventFilter(), Page())).items
        assert left.event.type == "some"


async def test_files_that_no_row_names_are_swept_after_a_day(tmp_path: Path) -> None:
    async with harness(tmp_path) as hub:
        await hub.put(_BIG)
        kept = await hub.run("past/big", _TEXT)
        store = hub.node.services.payloads
        await store.pack("nobodys", "x", {"t": "y" * 100_000})
        for path in (tmp_path / "files").rglob("*"):
            _age(path, timedelta(days=2))
        await hub.node.retention.clear_up()
        assert {path.parent.name for path in _files(tmp_path)} == {kept.id}


async def test_the_database_file_shrinks(tmp_path: Path) -> None:
    clock = VirtualClock()
    path = tmp_path / "hub.db"
    async with harness(tmp_path, storage=f"sqlite:///{path}", clock=clock) as hub:
        await hub.put(
            "id: f\nnamespace: p\ninputs: [{id: t, type: STRING}]\n"
            "tasks: [{id: t, type: return, value: '{{ inputs.t }}'}]\n"
        )
        for _ in range(60):
            await hub.run("p/f", {"t": "x" * 60_000})
        before = await _pages(hub)
        clock.advance(timedelta(days=40))
        assert await hub.node.retention.clear_up() == 60
        assert await _pages(hub) < before / 4


async def _pages(hub: Harness) -> int:
    rows = await hub.node.services.storage._all("PRAGMA page_count")  # type: ignore[attr-defined]
    return int(rows[0][0])


def _age(path: Path, age: timedelta) -> None:
    import os
    import time

    moment = time.time() - age.total_seconds()
    os.utime(path, (moment, moment))
