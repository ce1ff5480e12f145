"""A hub in one process for tests: real engine, real plugins, a storage and a clock of the test's choice.

::

    async with harness(tmp_path) as hub:
        await hub.put(SOURCE)
        ended = await hub.run("demo/hello", {"name": "Ada"})
        assert ended.state == "SUCCESS"
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hub.app import Place, open_node
from hub.clock import Clock
from hub.config.settings import Settings
from hub.engine.node import Node
from hub.model.execution import Execution
from hub.model.ids import FlowKey, TriggerKey
from hub.model.task_run import TaskRun
from hub.plugin.notices import Notice, NoticeFilter
from hub.plugin.storage import LogLine, Page
from hub.registry import Registry


class VirtualClock:
    """A wall clock that a test moves by hand; it stands still otherwise."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def advance(self, length: timedelta) -> None:
        """Move the clock; a negative length puts it back."""
        self._now += length


@dataclass(frozen=True)
class Harness:
    """A running hub and what tests ask of it."""

    node: Node

    async def put(self, source: str) -> FlowKey:
        """Save a flow. Raises ``InvalidFlow``."""
        stored = await self.node.catalog.put(source)
        await self.node.triggers.settle()
        return stored.record.key

    async def start(
        self,
        flow: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        trigger: str | None = None,
        data: Any = None,
    ) -> Execution:
        """Start ``namespace/id`` without waiting for it."""
        return await self.node.intake.start(
            _key(flow), inputs=inputs or {}, labels={}, trigger=trigger, data=data
        )

    async def run(self, flow: str, inputs: Mapping[str, Any] | None = None) -> Execution:
        """Start ``namespace/id`` and wait for its end."""
        return await self.node.run_to_end(_key(flow), inputs or {})

    async def ended(self, execution_id: str) -> Execution:
        """Wait for the end of an execution."""
        storage = self.node.services.storage
        with self.node.services.bus.subscribe("execution", size=100_000) as news:
            while not (found := await storage.execution(execution_id)).state.is_terminal:
                while (await news.next()).id != execution_id:
                    pass
        return found

    async def task_runs(self, execution_id: str) -> dict[str, TaskRun]:
        """The task runs of an execution, by path."""
        runs = await self.node.services.storage.task_runs(execution_id, Page(1000))
        return {run.path: run for run in runs.items}

    async def logs(self, execution_id: str) -> list[LogLine]:
        """An execution's log."""
        return await self.node.services.storage.logs(execution_id)

    async def notices(self, **filter: Any) -> list[Notice]:
        """The notices that a filter shows, newest first, once nothing is due and nothing is being sent."""
        await self.node.notifications.settled()
        return list((await self.node.services.storage.notices(NoticeFilter(**filter), Page(1000))).items)

    def state_of(self, flow: str, trigger: str) -> Mapping[str, Any]:
        """A trigger's stored state."""
        return self.node.intake.state(TriggerKey(*_key(flow), trigger))


def _key(flow: str) -> FlowKey:
    namespace, _, id = flow.rpartition("/")
    return FlowKey(namespace, id)


@asynccontextmanager
async def harness(
    folder: Path,
    *,
    storage: str = "memory:",
    clock: Clock | None = None,
    registry: Registry | None = None,
    environ: Mapping[str, str] | None = None,
    with_triggers: bool = True,
    most_executions: int = 500,
    settings: Mapping[str, Any] | None = None,
) -> AsyncIterator[Harness]:
    """A hub over a data folder until the block ends; what runs then is handed back at once.

    ``settings`` are more of what ``hub.yaml`` may hold.
    """
    limits = {"maxConcurrentExecutions": most_executions}
    given = Settings.model_validate({"storage": storage, "limits": limits, **(settings or {})})
    place = Place(given, folder, folder, dict(environ or {}))
    async with open_node(place, clock=clock, registry=registry) as node:
        node.drain_grace = node.notices_grace = 0.0
        async with node.running(with_triggers=with_triggers):
            yield Harness(node)
            await asyncio.sleep(0)
