"""Schedules in a running hub: exactly one event for each planned time, over restarts and jumps of the clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from hub.plugin.storage import EventFilter, Page
from hub.testing import Harness, VirtualClock, harness

_MINUTELY = """id: m
namespace: t
triggers: [{id: tick, type: schedule.cron, cron: "* * * * *", missed: MISSED}]
tasks: [{id: a, type: return, value: "{{ trigger.date }}"}]
"""


async def dates(hub: Harness, *, wait: float = 0.0) -> list[str]:
    """The planned times of all events, oldest first, after the timer has looked again."""
    await asyncio.sleep(wait)
    found = await hub.node.services.storage.events(EventFilter(), Page(1000))
    return [stored.event.data["date"][11:16] for stored in reversed(found.items)]


async def ticked(hub: Harness, count: int) -> list[str]:
    """Wait until there are so many events."""
    async with asyncio.timeout(10):
        with hub.node.services.bus.subscribe("event") as news:
            while len(found := await dates(hub)) < count:
                await news.next()
    return found


async def test_each_planned_time_is_one_event_and_a_clock_put_back_brings_none_again(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with harness(tmp_path, clock=clock) as hub:
        await hub.put(_MINUTELY.replace("MISSED", "last"))
        for count in (1, 2):
            await asyncio.sleep(0.05)
            clock.advance(timedelta(minutes=1))
            await ticked(hub, count)
        clock.advance(timedelta(minutes=-1, seconds=-30))
        assert await dates(hub, wait=1.2) == ["00:01", "00:02"]
        clock.advance(timedelta(minutes=2, seconds=30))
        assert await ticked(hub, 3) == ["00:01", "00:02", "00:03"]


async def test_what_was_missed_while_the_hub_was_down_comes_by_the_policy(tmp_path: Path) -> None:
    for policy, wanted in (
        ("skip", ["00:01"]),
        ("last", ["00:01", "00:05"]),
        ("all", ["00:01", "00:02", "00:03", "00:04", "00:05"]),
    ):
        folder = tmp_path / policy
        folder.mkdir()
        clock = VirtualClock()
        url = f"sqlite:///{folder / 'hub.db'}"
        async with harness(folder, storage=url, clock=clock) as hub:
            await hub.put(_MINUTELY.replace("MISSED", policy))
            await asyncio.sleep(0.05)
            clock.advance(timedelta(minutes=1))
            await ticked(hub, 1)
        clock.advance(timedelta(minutes=4, seconds=30))
        async with harness(folder, storage=url, clock=clock) as hub:
            await ticked(hub, len(wanted))
            assert await dates(hub, wait=0.3) == wanted


async def test_only_enabled_time_counts(tmp_path: Path) -> None:
    clock = VirtualClock()
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    source = _MINUTELY.replace("MISSED", "all")
    async with harness(tmp_path, storage=url, clock=clock) as hub:
        await hub.put(source)
        await asyncio.sleep(0.05)
        clock.advance(timedelta(minutes=1))
        await ticked(hub, 1)
        await hub.put(source.replace("type: schedule.cron", "disabled: true, type: schedule.cron"))
        clock.advance(timedelta(minutes=10))
        await hub.put(source)
        assert await dates(hub, wait=0.2) == ["00:01"]
        clock.advance(timedelta(minutes=1))
        assert await ticked(hub, 2) == ["00:01", "00:12"]


async def test_a_clock_that_was_a_day_ahead_for_a_while_silences_nothing(tmp_path: Path) -> None:
    clock = VirtualClock()
    async with harness(tmp_path, clock=clock) as hub:
        await hub.put(_MINUTELY.replace("MISSED", "last"))
        await asyncio.sleep(0.05)
        clock.advance(timedelta(days=1))
        await ticked(hub, 1)
        clock.advance(timedelta(days=-1))
        await asyncio.sleep(1.2)
        clock.advance(timedelta(minutes=1))
        assert (await ticked(hub, 2))[-1] == "00:01"


async def test_a_clock_that_was_ahead_when_the_hub_stopped_silences_nothing_after_a_restart(
    tmp_path: Path,
) -> None:
    clock = VirtualClock()
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    async with harness(tmp_path, storage=url, clock=clock) as hub:
        await hub.put(_MINUTELY.replace("MISSED", "last"))
        await asyncio.sleep(0.05)
        clock.advance(timedelta(days=1, minutes=1))
        await ticked(hub, 1)
    clock.advance(timedelta(days=-1))
    async with harness(tmp_path, storage=url, clock=clock) as hub:
        await asyncio.sleep(0.05)
        clock.advance(timedelta(minutes=1))
        assert await ticked(hub, 2) == ["00:01", "00:02"]
        [newest, _] = (await hub.node.services.storage.events(EventFilter(), Page())).items
        # what a wrong clock planned lies ahead and came before nothing
        assert newest.event.data["previous"] is None
