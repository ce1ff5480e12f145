"""Kill executions with all that they wait for.

Called by the node for whoever asks, and by executors for the subflows of tasks whose time is over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from hub.engine.intake import Intake
from hub.engine.services import Services
from hub.engine.telling import tell_killed
from hub.errors import Conflict
from hub.model.execution import Execution, ExecutionState
from hub.plugin.storage import Ends, ExecutionFilter, Page

_LIVE = tuple(state for state in ExecutionState if not state.is_terminal)


class Holder(Protocol):
    """Who moves executions on this node."""

    def kill(self, execution_id: str, reason: str, /) -> None:
        """Kill one that is held here."""

    def tell_parents(self, parents: tuple[str, ...], child: str, /) -> None:
        """Tell those that wait for one which has ended."""

    def poke(self) -> None:
        """Something may be claimed now."""


class Kills:
    """Kills that reach every child."""

    def __init__(self, services: Services, intake: Intake, holder: Holder) -> None:
        self._services = services
        self._intake = intake
        self._holder = holder

    async def kill(self, execution_id: str, reason: str) -> Execution:
        """Kill an execution wherever it stands, and those it waits for. Raises ``NotFound``."""
        services = self._services
        while True:
            ends = await self._ends_of_family(execution_id, reason)
            try:
                killed = await services.storage.request_kill(
                    execution_id, at=services.clock.now(), reason=reason, ends=ends
                )
                break
            except Conflict:
                continue  # it has started another meanwhile, which is to be told of too
        for held in killed.held:
            if held not in killed.elsewhere:
                self._holder.kill(held, reason)
        for ended in killed.ended:
            services.watches.end(ended, ())
            self._holder.tell_parents(killed.woken, ended)
            services.bus.tell("execution", ended, state=ExecutionState.KILLED.value)
        await tell_killed(services, killed, ends, reason)
        self._holder.poke()
        services.owed.set()
        services.bus.tell("execution", execution_id, state=killed.execution.state.value)
        return killed.execution

    async def kill_children(self, execution_id: str, reason: str, is_meant: Callable[[str], bool]) -> None:
        """Kill what an execution waits for at the paths that are meant, all of it when this returns."""
        meant = [
            child.id
            async for child in self._children(execution_id)
            if child.parent is not None and is_meant(child.parent.path)
        ]
        for child in meant:
            await self.kill(child, reason)

    async def _children(self, execution_id: str) -> AsyncIterator[Execution]:
        """The live ones that it waits for."""
        filter = ExecutionFilter(parent=execution_id, states=_LIVE)
        page: Page | None = Page(1000)
        while page is not None:
            found = await self._services.storage.executions(filter, page)
            for child in found.items:
                yield child
            page = Page(1000, found.next_cursor) if found.next_cursor is not None else None

    async def _ends_of_family(self, execution_id: str, reason: str) -> dict[str, Ends]:
        """What an execution and its live children bring by being killed."""
        found: dict[str, Ends] = {}
        family = [await self._services.storage.execution(execution_id)]
        while family:
            one = family.pop()
            found[one.id] = await self._intake.ends_of(one, reason)
            family += [child async for child in self._children(one.id)]
        return found
