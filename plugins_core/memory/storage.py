"""A storage in plain dictionaries: everything the contract promises, except that it outlives its process."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from hub.plugin import (
    Accepted,
    Arrival,
    Claim,
    Conflict,
    DeliveryKey,
    Event,
    Execution,
    ExecutionFilter,
    FenceRefused,
    FlowKey,
    FlowRecord,
    InvalidInput,
    LogLine,
    NotFound,
    Page,
    Receipt,
    Recorded,
    Slice,
    Storage,
    StorageSettings,
    StoredEvent,
    TaskRun,
    Transition,
    TriggerKey,
    TriggerMove,
    TriggerState,
    scope_of,
)
from plugins_core.memory.executions import Executions

Item = TypeVar("Item")


class MemoryStorage(Storage):
    """Keeps everything in this process, as long as it is open."""

    type: ClassVar[str] = "memory"
    schemes: ClassVar[tuple[str, ...]] = ("memory",)

    def __init__(self) -> None:
        self._executions = Executions()
        self._events: dict[str, StoredEvent] = {}
        self._deliveries: dict[tuple[str, str], tuple[DeliveryKey, str]] = {}
        self._triggers: dict[TriggerKey, TriggerState] = {}
        self._flows: dict[FlowKey, FlowRecord] = {}
        self._sources: dict[FlowKey, list[tuple[int, str, datetime]]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: StorageSettings) -> AsyncIterator[Storage]:
        yield cls()

    # events and executions

    async def accept(
        self,
        arrivals: Sequence[Arrival],
        *,
        at: datetime,
        move: TriggerMove | None = None,
        claim: bool = True,
    ) -> list[Accepted]:
        if move is not None:
            known = self._triggers.get(move.key, TriggerState())
            if known.version != move.expected:
                raise FenceRefused(f"trigger {move.key} was moved on by another")
            self._triggers[move.key] = TriggerState(move.state, known.version + 1)
        return [self._accept(arrival, at, claim) for arrival in arrivals]

    def _accept(self, arrival: Arrival, at: datetime, claim: bool) -> Accepted:
        event = arrival.event
        if event is not None and arrival.delivery is not None:
            known = self._known(arrival.delivery, event.id, at)
            if known is not None:
                return Accepted(known)
        if event is not None:
            self._events[event.id] = StoredEvent(event, at, arrival.verdicts)
        claims: list[Claim] = []
        waiting = 0
        for new in arrival.executions:
            claimed, waits = self._executions.add(new, arrival, at, claim=claim)
            waiting += waits
            if claimed is not None:
                claims.append(claimed)
        receipt = Receipt(
            event_id=event.id if event is not None else "",
            execution_ids=tuple(new.id for new in arrival.executions),
            verdicts=arrival.verdicts,
        )
        return Accepted(receipt, tuple(claims), waiting)

    def _known(self, delivery: DeliveryKey, event_id: str, at: datetime) -> Receipt | None:
        """The receipt of an earlier delivery with this key, or None after remembering this one."""
        name = (delivery.scope, delivery.key)
        earlier = self._deliveries.get(name)
        if earlier is None or earlier[0].expires_at <= at:
            self._deliveries[name] = (delivery, event_id)
            return None
        first, first_id = earlier
        if delivery.body_hash and first.body_hash and delivery.body_hash != first.body_hash:
            return Receipt(event_id=first_id, conflict=True)
        return Receipt(
            event_id=first_id,
            execution_ids=self._executions.of_event(first_id),
            duplicate=True,
            verdicts=self._events[first_id].verdicts,
        )

    async def record(self, transition: Transition) -> Recorded:
        return Recorded(claims=tuple(self._executions.step(transition)))

    def record_soon(self, transition: Transition) -> None:
        try:
            self._executions.step(transition)
        except FenceRefused:
            return  # nobody waits for it, and its execution is another's now

    async def claim(self, *, limit: int, at: datetime) -> list[Claim]:
        return self._executions.claim_ready(limit, at)

    async def next_wake_at(self) -> datetime | None:
        return self._executions.next_wake_at()

    async def take_over(self, *, at: datetime) -> int:
        return self._executions.take_over(at)

    async def request_kill(self, execution_id: str, *, at: datetime, reason: str) -> Execution:
        return self._executions.request_kill(execution_id, at, reason)

    async def execution(self, execution_id: str) -> Execution:
        return self._executions.get(execution_id).execution

    async def executions(
        self, filter: ExecutionFilter, page: Page, *, count: bool = False
    ) -> Slice[Execution]:
        found = [
            (kept.number, replace(kept.execution, trigger_data=None))
            for kept in self._executions
            if _matches(filter, kept.execution)
        ]
        found.reverse()
        return _page(found, page, newest_first=True, total=len(found) if count else None)

    async def task_runs(self, execution_id: str, page: Page) -> Slice[TaskRun]:
        kept = self._find(execution_id)
        return _page(list(enumerate(kept.values(), start=1)), page, newest_first=False)

    async def scope_task_runs(self, execution_id: str, scope: str) -> dict[str, TaskRun]:
        return {path: run for path, run in self._find(execution_id).items() if scope_of(path) == scope}

    def _find(self, execution_id: str) -> Mapping[str, TaskRun]:
        try:
            return self._executions.get(execution_id).task_runs
        except NotFound:
            return {}

    async def append_logs(self, execution_id: str, lines: Sequence[LogLine]) -> None:
        self._executions.append_logs(execution_id, list(lines))

    async def logs(self, execution_id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        try:
            return self._executions.get(execution_id).logs[after : after + limit]
        except NotFound:
            return []

    async def event(self, event_id: str) -> StoredEvent:
        found = self._events.get(event_id)
        if found is None:
            raise NotFound(f'no event "{event_id}"')
        return found

    async def events(
        self, page: Page, *, namespace: str | None = None, flow: str | None = None
    ) -> Slice[StoredEvent]:
        found = [
            (number, stored)
            for number, stored in enumerate(self._events.values(), start=1)
            if _wanted(stored.event, namespace, flow)
        ]
        found.reverse()
        return _page(found, page, newest_first=True)

    async def counts(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        for kept in self._executions.live():
            state = kept.execution.state.value
            counts[state] = counts.get(state, 0) + 1
        return counts

    # triggers

    async def trigger_states(self) -> dict[TriggerKey, TriggerState]:
        return dict(self._triggers)

    # flows

    async def put_flow(
        self,
        key: FlowKey,
        *,
        source: str,
        source_hash: str,
        summary: Mapping[str, Any],
        disabled: bool,
        origin: str | None,
        at: datetime,
    ) -> tuple[FlowRecord, bool]:
        known = self._flows.get(key)
        in_use = known is not None and known.retired_at is None
        if known is not None and in_use and known.origin != origin:
            if known.origin is not None:
                raise Conflict(f"flow {key} belongs to the file {known.origin}")
            raise Conflict(f"flow {key} was put through the API and belongs to no file")
        same = known is not None and known.source_hash == source_hash
        if known is not None and same and in_use:
            return known, False
        revision = (known.revision if known is not None else 0) + (0 if same else 1)
        record = FlowRecord(key, revision, source_hash, origin, disabled, summary, at)
        self._flows[key] = record
        if not same:
            self._sources.setdefault(key, []).append((revision, source, at))
        return record, True

    async def retire_flow(self, key: FlowKey, *, at: datetime) -> None:
        known = await self.flow(key)
        self._flows[key] = replace(known, retired_at=known.retired_at or at)

    async def flows(self) -> list[FlowRecord]:
        return [self._flows[key] for key in sorted(self._flows) if self._flows[key].retired_at is None]

    async def flow(self, key: FlowKey) -> FlowRecord:
        found = self._flows.get(key)
        if found is None:
            raise NotFound(f"no flow {key}")
        return found

    async def flow_source(self, key: FlowKey, revision: int | None = None) -> tuple[int, str]:
        for number, source, _ in reversed(self._sources.get(key, [])):
            if revision in (None, number):
                return number, source
        wanted = f" revision {revision}" if revision is not None else ""
        raise NotFound(f"no flow {key}{wanted}")

    async def revisions(self, key: FlowKey) -> list[tuple[int, datetime]]:
        found = self._sources.get(key)
        if not found:
            raise NotFound(f"no flow {key}")
        return [(number, at) for number, _, at in reversed(found)]


def _matches(filter: ExecutionFilter, execution: Execution) -> bool:
    return (
        filter.namespace in (None, execution.flow.namespace)
        and filter.flow in (None, execution.flow.id)
        and (not filter.states or execution.state in filter.states)
        and all(execution.labels.get(name) == value for name, value in filter.labels.items())
        and (filter.since is None or execution.created_at >= filter.since)
        and (filter.until is None or execution.created_at < filter.until)
    )


def _wanted(event: Event, namespace: str | None, flow: str | None) -> bool:
    return namespace in (None, event.namespace) and flow in (None, event.flow)


def _page(
    found: list[tuple[int, Item]], page: Page, *, newest_first: bool, total: int | None = None
) -> Slice[Item]:
    """The part of a numbered list that a page shows."""
    if page.cursor is not None:
        start = _number_of(page.cursor)
        found = [one for one in found if (one[0] < start if newest_first else one[0] > start)]
    shown = found[: page.limit]
    more = len(found) > page.limit
    return Slice(tuple(item for _, item in shown), _cursor(shown[-1][0]) if more else None, total)


def _cursor(number: int) -> str:
    return base64.urlsafe_b64encode(f"s{number}".encode()).decode().rstrip("=")


def _number_of(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        if text[0] != "s":
            raise ValueError(text)
        return int(text[1:])
    except (ValueError, IndexError):
        raise InvalidInput(f'"{cursor}" is not a cursor of this list') from None
