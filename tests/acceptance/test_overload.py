"""Overload and stops under it: what was accepted ends, once, in bounded memory, whoever else floods the hub."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.support.floods import Flood, all_ended, resident_mb
from tests.support.hub_process import HubProcess

_FLOW = """id: work
namespace: flood
triggers: [{id: t, type: webhook, key: k}]
tasks:
  - {id: first, type: return, value: 1}
  - {id: nap, type: flow.sleep, duration: 200ms}
  - {id: script, type: script.shell, script: "sleep 0.2"}
"""
_QUICK = """id: quick
namespace: flood
triggers: [{id: t, type: webhook, key: k}]
tasks: [{id: first, type: return, value: "{{ trigger.body }}"}]
"""
_PATH = "/api/v1/webhooks/flood/{}/k"


def hub_with(folder: Path, source: str, settings: str = "") -> HubProcess:
    flows = folder / "flows"
    flows.mkdir()
    (flows / "flow.hub.yaml").write_text(source)
    if settings:
        (folder / "hub.yaml").write_text(settings)
    return HubProcess(folder, flows=flows)


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_stop_under_load_loses_nothing_and_burns_no_attempt(tmp_path: Path, signals: int) -> None:
    hub = hub_with(tmp_path, _FLOW, "limits: {maxConcurrentExecutions: 6}\n")
    await asyncio.to_thread(hub.start)
    try:
        assert hub.process is not None
        async with Flood().of(hub.url + _PATH.format("work"), 8) as flood:
            await flood.until(60)
            hub.process.send_signal(signal.SIGTERM)
            if signals == 2:
                await flood.until(len(flood.accepted) + 1)  # it is in the middle of its stop
                hub.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(hub.process.wait, 60) == 0
        assert set(flood.statuses) <= {202, 503}
        with sqlite3.connect(hub.data / "hub.db") as database:
            left = database.execute("SELECT count(*) FROM executions WHERE ended_at IS NULL").fetchone()
            held = database.execute("SELECT count(*) FROM executions WHERE claimed = 1").fetchone()
        assert left > (0,), "the stop was to come before the end of all work"
        assert held == (0,), "a stop gives every claim back"
        await asyncio.to_thread(hub.start)
        states = await asyncio.to_thread(all_ended, hub)
        assert flood.accepted <= set(states)
        assert set(states.values()) == {"SUCCESS"}
    finally:
        assert await asyncio.to_thread(hub.stop) == 0
    with sqlite3.connect(hub.data / "hub.db") as database:
        burned = database.execute(
            "SELECT count(*) FROM task_runs WHERE attempts > 1 AND type <> 'flow.sleep'"
        )
        assert burned.fetchone() == (0,)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_flood_is_accepted_or_refused_in_bounded_memory_and_all_of_it_ends(tmp_path: Path) -> None:
    hub = hub_with(tmp_path, _QUICK)
    await asyncio.to_thread(hub.start)
    try:
        assert hub.process is not None
        async with Flood().of(hub.url + _PATH.format("quick"), 64) as flood:
            await flood.until(500)
            at_first = resident_mb(hub.process.pid)
            await flood.until(3_000)
            at_last = resident_mb(hub.process.pid)
        assert set(flood.statuses) <= {202, 429, 503}
        assert flood.broken == 0
        assert at_last - at_first < 40, f"{at_first:.0f} MB, then {at_last:.0f} MB"
        states = await asyncio.to_thread(all_ended, hub)
        assert flood.accepted <= set(states)
        assert set(states.values()) == {"SUCCESS"}
    finally:
        assert await asyncio.to_thread(hub.stop) == 0
