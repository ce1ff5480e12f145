"""A hub in the test's process that reads from a real broker, and what tests ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hub.model.execution import Execution
from hub.model.ids import TriggerKey
from hub.plugin import SourceStatus
from hub.plugin.storage import ExecutionFilter, Page
from hub.testing import Harness, harness
from tests.services.kafka import KafkaBroker

FAST = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}
"""So that a member of a group that is gone is missed soon."""
KEY = TriggerKey("t", "f", "k")


def settings_for(servers: str, **more: Any) -> dict[str, Any]:
    """The plugins' settings with one cluster."""
    return {"kafka": {"clusters": {"default": {"bootstrapServers": servers, "properties": FAST, **more}}}}


def flow(
    trigger: str, tasks: str = '{id: a, type: return, value: "{{ trigger.offset }}"}', id: str = "f"
) -> str:
    return f"id: {id}\nnamespace: t\ntriggers:\n  - {{id: k, type: kafka.messages, {trigger}}}\ntasks:\n  - {tasks}\n"


@asynccontextmanager
async def hub_at(folder: Path, broker: KafkaBroker, **more: Any) -> AsyncIterator[Harness]:
    async with harness(folder, plugins=settings_for(broker.bootstrap), **more) as hub:
        yield hub


async def executions(hub: Harness, count: int, *, timeout: float = 30) -> list[Execution]:
    """That many executions, oldest first, once all of them have ended."""
    storage = hub.node.services.storage
    with hub.node.services.bus.subscribe("execution", size=100_000) as news:
        async with asyncio.timeout(timeout):
            while True:
                page = await storage.executions(ExecutionFilter(), Page(1000))
                found = [await storage.execution(one.id) for one in reversed(page.items)]
                if len(found) >= count and all(one.state.is_terminal for one in found):
                    return found
                await news.next()


async def data_of(hub: Harness, count: int) -> list[Mapping[str, Any]]:
    return [dict(one.trigger_data or {}) for one in await executions(hub, count)]


async def running(hub: Harness, *, parts: int = 1, timeout: float = 20) -> SourceStatus:
    """How the trigger does, once it reads."""
    async with asyncio.timeout(timeout):
        while True:
            status = hub.node.triggers.status(KEY)
            if status.source is not None and len(status.source.lags) == parts and status.error is None:
                return status.source
            await asyncio.sleep(0.05)  # what it reports wakes nobody
