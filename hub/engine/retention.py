"""Take away what is past its time: ended executions with their logs and files, events, and what nobody owns.

Runs beside everything else, so it takes a few rows at a time and rests in between. Rows go first, files after
them: a crash in between leaves files without a row, which the sweep finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from hub.engine.services import Services
from hub.engine.sharing import PROBES
from hub.errors import NotFound, StorageError
from hub.model.execution import TERMINAL, Execution
from hub.plugin.storage import EventFilter, ExecutionFilter, Page, Purged

log = structlog.get_logger("hub.retention")

_FIRST_AFTER = 60.0
_EVERY = 3600.0
_BATCH = 200
_REST = 0.02
"""Seconds between two batches: others come first."""
_CHANGES_FOR = timedelta(hours=1)
"""How far back live views can catch up."""
_ORPHANS_AFTER = timedelta(days=1)
_SWEEP_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How long things are kept; a rule without a flow is about its namespace, one with neither about all."""

    executions: timedelta | None = timedelta(days=30)
    """None keeps them for ever."""
    events: timedelta | None = timedelta(days=7)
    namespace: str | None = None
    flow: str | None = None


class Retention:
    """Keeps the past short."""

    def __init__(self, services: Services, rules: Sequence[RetentionRule]) -> None:
        self._services = services
        # the closer rule decides: a flow's before its namespace's, that before the general one
        self._rules = sorted(rules, key=lambda rule: (rule.flow is None, rule.namespace is None))

    async def run(self) -> None:
        """Clear up now and then, until cancelled."""
        await asyncio.sleep(_FIRST_AFTER)
        while True:
            try:
                await self.clear_up()
            except StorageError as error:
                log.warning("clearing up stopped; trying again later", error=str(error))
            await asyncio.sleep(_EVERY)

    async def clear_up(self) -> int:
        """One round; answers how many executions, events and notices were removed."""
        removed = 0
        for place, rule in enumerate(self._rules):
            closer = self._rules[:place]
            removed += await self._executions(rule, closer)
            removed += await self._events(rule, closer)
        now = self._services.clock.now()
        removed += await self._notices(now)
        while await self._services.storage.purge_rest(now=now, changes_before=now - _CHANGES_FOR):
            await asyncio.sleep(_REST)
        await self._sweep()
        if removed:
            log.info("cleared up", removed=removed)
        return removed

    async def purge(self, filter: ExecutionFilter, *, keep: Sequence[ExecutionFilter] = ()) -> int:
        """Remove every ended execution that ``filter`` matches (``until`` is about its end)."""
        removed = 0
        while True:
            found = await self._services.storage.purge_executions(filter, limit=_BATCH, keep=keep)
            removed += await self._forget(found)
            if not found.more:
                return removed
            await asyncio.sleep(_REST)

    async def purge_some(self, filter: ExecutionFilter, *, most: int) -> Purged:
        """Remove up to ``most`` of the ended executions that ``filter`` matches, a few at a time."""
        ids: list[str] = []
        while True:
            found = await self._services.storage.purge_executions(filter, limit=min(_BATCH, most - len(ids)))
            await self._forget(found)
            ids += found.ids
            if not found.more or len(ids) >= most:
                return Purged(tuple(ids), found.more)
            await asyncio.sleep(_REST)

    async def count(self, filter: ExecutionFilter, *, most: int) -> tuple[int, bool]:
        """How many ``purge_some`` would remove, and whether there are more."""
        storage = self._services.storage
        until = filter.until or self._services.clock.now()
        states = filter.states or tuple(TERMINAL)
        count, cursor = 0, None
        while True:
            # it has ended after it was created, so none is missed
            page = await storage.executions(replace(filter, states=states), Page(_BATCH, cursor))
            for one in page.items:
                if one.ended_at is not None and one.ended_at < until and not await self._is_waited_for(one):
                    if count >= most:
                        return count, True
                    count += 1
            cursor = page.next_cursor
            if cursor is None:
                return count, False

    async def _is_waited_for(self, execution: Execution) -> bool:
        if execution.parent is None:
            return False
        try:
            parent = await self._services.storage.execution(execution.parent.execution_id)
        except NotFound:
            return False
        return not parent.state.is_terminal

    async def _executions(self, rule: RetentionRule, closer: Sequence[RetentionRule]) -> int:
        if rule.executions is None:
            return 0
        until = self._services.clock.now() - rule.executions
        keep = [ExecutionFilter(one.namespace, one.flow) for one in closer]
        return await self.purge(ExecutionFilter(rule.namespace, rule.flow, until=until), keep=keep)

    async def _events(self, rule: RetentionRule, closer: Sequence[RetentionRule]) -> int:
        if rule.events is None:
            return 0
        removed = 0
        keep = [EventFilter(one.namespace, one.flow) for one in closer]
        before = self._services.clock.now() - rule.events
        while True:
            found = await self._services.storage.purge_events(
                EventFilter(rule.namespace, rule.flow), before=before, limit=_BATCH, keep=keep
            )
            removed += await self._forget(found)
            if not found.more:
                return removed
            await asyncio.sleep(_REST)

    async def _notices(self, now: datetime) -> int:
        """Notices that were delivered or dropped go when the events of their time do."""
        length = next((rule.events for rule in self._rules if rule.namespace is None), None)
        if length is None:
            return 0
        removed = 0
        while True:
            found = await self._services.storage.purge_notices(before=now - length, limit=_BATCH)
            removed += len(found.ids)
            if not found.more:
                return removed
            await asyncio.sleep(_REST)

    async def _forget(self, purged: Purged) -> int:
        await self._services.payloads.forget(purged.ids)
        return len(purged.ids)

    async def _sweep(self) -> None:
        """Remove files that no row names: a crash came between them, or what they were for was refused."""
        before = self._services.clock.now() - _ORPHANS_AFTER
        owners = await self._services.payloads.owners(before=before)
        for start in range(0, len(owners), _SWEEP_AT_ONCE):
            part = owners[start : start + _SWEEP_AT_ONCE]
            there = await self._services.storage.existing(part)
            there |= {owner for owner in part if owner.startswith(PROBES)}
            await self._services.payloads.forget([owner for owner in part if owner not in there])
            await asyncio.sleep(_REST)
