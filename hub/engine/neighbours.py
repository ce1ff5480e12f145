"""The other hubs over the same storage: what they did is told here, and when one dies its work goes on.

Runs only over a storage that several hubs share. What the others committed is read in the order of their commits
and told on this hub's bus, so that whoever waits, watches or holds something hears of it wherever it happened. A
notification only wakes; a look every now and then is the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from hub.engine.catalog import FlowCatalog
from hub.engine.dispatcher import Dispatcher
from hub.engine.services import Services
from hub.engine.waiting_events import topic_of
from hub.errors import NotFound, StorageError
from hub.model.execution import ExecutionState
from hub.model.ids import FlowKey, TriggerKey
from hub.plugin.nodes import HubNode
from hub.plugin.storage import Change

log = structlog.get_logger("hub.engine")

_LONGEST_WAIT = 5.0
"""Seconds between looks; a storage may ask for fewer."""
_LOOK_FOR_SILENT = 2.0
"""Seconds between looks for hubs whose lease has run out."""
_AWAY = 1.0
_AT_ONCE = 500


class Neighbours:
    """Follows the other hubs."""

    def __init__(
        self,
        services: Services,
        catalog: FlowCatalog,
        dispatcher: Dispatcher,
        *,
        lost: Callable[[], None],
        drain: Callable[[], None],
    ) -> None:
        self._services = services
        self._catalog = catalog
        self._dispatcher = dispatcher
        self._after = 0
        services.storage.on_lost(lost)
        services.storage.on_drain(drain)

    async def open(self) -> None:
        """Begin with what is stored now: whatever comes later is heard of. Before anything is read."""
        self._after = await self._services.storage.last_change()

    async def run(self) -> None:
        """Follow them, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="neighbours")
            group.create_task(self._recover(), name="recovery")

    async def all(self) -> list[HubNode]:
        """Every hub that has not ended."""
        return await self._services.storage.nodes()

    # what they did

    async def _follow(self) -> None:
        storage = self._services.storage
        while True:
            may_claim = await storage.wait_for_others(_LONGEST_WAIT)
            try:
                if may_claim:
                    # what they left for whoever has room is claimed at once, before all that they only tell of
                    self._dispatcher.poke()
                while await self._hear():
                    pass
            except StorageError as error:
                log.warning("storage is away; the other hubs are not heard", error=str(error))
                await asyncio.sleep(_AWAY)

    async def _hear(self) -> bool:
        """Tell what is new; answers whether there may be more at once."""
        sets, self._after = await self._services.storage.changes_of_others(after=self._after, limit=_AT_ONCE)
        for one in sets:
            for change in one.changes:
                await self._tell(change)
        return len(sets) == _AT_ONCE

    async def _tell(self, change: Change) -> None:
        if change.topic == "flow":
            namespace, _, id = change.id.rpartition("/")
            await self._catalog.refresh(FlowKey(namespace, id))
        elif change.topic == "execution" and change.state is not None:
            await self._tell_execution(change, ExecutionState(change.state))
        elif change.topic == "event" and change.flow is not None:
            self._tell_event(change.id, change.flow)

    async def _tell_execution(self, change: Change, state: ExecutionState) -> None:
        if state is ExecutionState.KILLING:
            await self._kill_here(change.id)
        if state.is_terminal:
            self._services.watches.end(change.id, ())
            if change.parent is not None:
                self._dispatcher.tell_parents((change.parent,), change.id)
        self._services.bus.tell("execution", change.id, state=state.value)

    async def _kill_here(self, execution_id: str) -> None:
        """Another has asked for the end of an execution that may be held here, or is just being claimed."""
        storage = self._services.storage
        if await storage.held_here([execution_id]):
            with suppress(NotFound):
                found = await storage.execution(execution_id)
                self._dispatcher.kill(execution_id, found.error or "killed")

    def _tell_event(self, event_id: str, flow: str) -> None:
        """It may wait for a batch of one of its flow's triggers."""
        namespace, _, id = flow.rpartition("/")
        for declaration in self._catalog.triggers(FlowKey(namespace, id)):
            self._services.bus.tell(topic_of(TriggerKey(namespace, id, declaration.id)), event_id)

    # when one dies

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_FOR_SILENT)
            try:
                taken = await self._services.storage.recover()
            except StorageError as error:
                log.warning("storage is away; silent hubs are not looked for", error=str(error))
                continue
            if taken:
                log.info("executions of a hub that died are taken over", count=taken)
                self._dispatcher.poke()
            # notices that it owed, and those of others that are due
            self._services.owed.set()
