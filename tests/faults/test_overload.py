"""Overload for as long as it takes to show: memory stays, and one namespace's flood is not another's delay."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import aiohttp
import pytest

from tests.support.floods import Flood, all_ended, flooding, resident_mb
from tests.support.hub_process import HubProcess

_FLOOD = """id: flood
namespace: flood
triggers: [{id: t, type: webhook, key: k}]
tasks:
  - {id: a, type: return, value: "{{ trigger.body }}"}
  - {id: b, type: return, value: 2}
"""
_CALM = """id: calm
namespace: calm
triggers: [{id: t, type: webhook, key: k, wait: {timeout: PT60S}}]
tasks:
  - {id: a, type: return, value: 1}
  - {id: b, type: return, value: 2}
"""
_PATH = "/api/v1/webhooks/flood/flood/k"
_ROUNDS = 3


def hub_with(folder: Path, **sources: str) -> HubProcess:
    flows = folder / "flows"
    flows.mkdir()
    for name, source in sources.items():
        (flows / f"{name}.hub.yaml").write_text(source)
    return HubProcess(folder, flows=flows)


async def latencies(hub: HubProcess, count: int) -> list[float]:
    """How long a calm sender waits for the outputs of its flow, POST to answer, in milliseconds."""
    found: list[float] = []
    async with aiohttp.ClientSession() as session:
        for _ in range(count):
            began = time.perf_counter()
            async with session.post(f"{hub.url}/api/v1/webhooks/calm/calm/k", json={}) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
            found.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.02)
    return found


def p99(found: list[float]) -> float:
    return sorted(found)[int(len(found) * 0.99)]


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_a_flood_in_one_namespace_leaves_anothers_p99_under_twice_its_quiet_value(
    tmp_path: Path,
) -> None:
    hub = hub_with(tmp_path, flood=_FLOOD, calm=_CALM)
    await asyncio.to_thread(hub.start)
    try:
        await latencies(hub, 50)
        ratios: list[float] = []
        for _ in range(_ROUNDS):
            quiet = p99(await latencies(hub, 300))
            with flooding(hub.url + _PATH, 32):
                flooded = p99(await latencies(hub, 300))
            ratios.append(flooded / quiet)
            print(f"p99 quiet {quiet:.1f} ms, flooded {flooded:.1f} ms")
            await asyncio.to_thread(all_ended, hub)
        assert statistics.median(ratios) < 2
    finally:
        await asyncio.to_thread(hub.stop)


@pytest.mark.faults
@pytest.mark.timeout(1800)
async def test_memory_stays_for_five_minutes_at_ten_times_capacity(tmp_path: Path) -> None:
    hub = hub_with(tmp_path, flood=_FLOOD)
    await asyncio.to_thread(hub.start)
    try:
        assert hub.process is not None
        # a few dozen senders are answered as fast as the hub can; these are ten times as many
        async with Flood().of(hub.url + _PATH, 320) as flood:
            await flood.until(5_000)
            samples: list[float] = []
            until = time.monotonic() + 300
            while time.monotonic() < until:
                samples.append(resident_mb(hub.process.pid))
                await asyncio.sleep(1)
        print(
            f"accepted {len(flood.accepted)}, {dict(flood.statuses)}, {samples[0]:.0f} to {max(samples):.0f} MB"
        )
        assert set(flood.statuses) <= {202, 429, 503}
        first, last = statistics.mean(samples[:30]), statistics.mean(samples[-30:])
        assert last - first < 50, f"{first:.0f} MB, then {last:.0f} MB"
        states = await asyncio.to_thread(all_ended, hub, 600)
        assert flood.accepted <= set(states)
        assert set(states.values()) == {"SUCCESS"}
    finally:
        assert await asyncio.to_thread(hub.stop) == 0
