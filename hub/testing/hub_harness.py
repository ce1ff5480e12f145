"""A hub in one process for tests: real engine, real plugins, a storage and a clock of the test's choice.

::

    async with harness(tmp_path) as hub:
        await hub.put(SOURCE)
        ended = await hub.run("demo/hello", {"name": "Ada"})
        assert ended.state == "SUCCESS"
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
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
from hub.testing.clock import VirtualClock


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
        """Wait for the end of an execution; a clock that hurries jumps over what it waits for."""
        storage = self.node.services.storage
        with self.node.services.bus.subscribe("execution", size=100_000) as news:
            while not (found := await storage.execution(execution_id)).state.is_terminal:
                await self._hurry_on()
                while (await news.next()).id != execution_id:
                    pass
        return found

    async def _hurry_on(self) -> None:
        """Jump to the moment that a waiting execution waits for."""
        services = self.node.services
        if isinstance(services.clock, VirtualClock) and services.clock.is_hurrying:
            moment = await services.storage.next_wake_at()
            if moment is not None:
                services.clock.move_to(moment)

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
    plugins: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    data: Path | None = None,
) -> AsyncIterator[Harness]:
    """A hub over a folder until the block ends; what runs then is handed back at once.

    ``plugins`` are the plugins' settings, as ``hub.yaml`` has them, and ``settings`` more of what it may hold;
    ``data`` is the data folder, ``folder`` itself where none is given.
    """
    given = Settings.model_validate(
        {
            "storage": storage,
            "limits": {"maxConcurrentExecutions": most_executions},
            "plugins": dict(plugins or {}),
            **(settings or {}),
        }
    )
    place = Place(given, folder, data or folder, dict(environ or {}))
    async with open_node(place, clock=clock, registry=registry) as node:
        node.drain_grace = node.notices_grace = 0.0
        with _following(node, clock):
            async with node.running(with_triggers=with_triggers):
                yield Harness(node)
                await asyncio.sleep(0)


@contextmanager
def _following(node: Node, clock: Clock | None) -> Iterator[None]:
    """Let the hub notice at once when a virtual clock is moved, and such a clock when the hub waits."""
    if not isinstance(clock, VirtualClock):
        yield
        return
    timer = node.services.timer

    def moved() -> None:
        timer.look()
        node.dispatcher.poke()
        node.services.owed.set()

    def armed(moment: datetime) -> None:
        if clock.is_hurrying:
            asyncio.get_running_loop().call_soon(clock.move_to, moment)

    timer.on_armed = armed
    with clock.watched(moved):
        yield
