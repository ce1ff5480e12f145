"""A storage in plain dictionaries: everything the contract promises, except that it outlives its process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from hub.plugin import (
    Accepted,
    Arrival,
    ChangeSet,
    Claim,
    Clock,
    Conflict,
    Ends,
    Event,
    EventFilter,
    Execution,
    ExecutionFilter,
    ExecutionState,
    FenceRefused,
    FlowKey,
    FlowRecord,
    Killed,
    LogLine,
    NotFound,
    Notice,
    NoticeClaim,
    NoticeFilter,
    NoticeSettlement,
    NoticeState,
    Page,
    Purged,
    Receipt,
    Recorded,
    Restart,
    Slice,
    Storage,
    StorageError,
    StorageSettings,
    StoredEvent,
    TaskRun,
    TaskRunState,
    Transition,
    TriggerKey,
    TriggerMove,
    TriggerState,
    scope_of,
)
from plugins_core.memory import steering
from plugins_core.memory.events import Events
from plugins_core.memory.executions import Executions
from plugins_core.memory.journal import Journal
from plugins_core.memory.lists import matches, page_of, shows
from plugins_core.memory.notices import Notices, is_past
from plugins_core.memory.notices import shows as shows_notice


class MemoryStorage(Storage):
    """Keeps everything in this process, as long as it is open."""

    type: ClassVar[str] = "memory"
    schemes: ClassVar[tuple[str, ...]] = ("memory",)

    def __init__(self, clock: Clock) -> None:
        self._journal = Journal(clock)
        self._executions = Executions(self._journal)
        self._events = Events(self._journal)
        self._notices = Notices(self._journal)
        self._triggers: dict[TriggerKey, TriggerState] = {}
        self._flows: dict[FlowKey, FlowRecord] = {}
        self._sources: dict[FlowKey, list[tuple[int, str, datetime]]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: StorageSettings) -> AsyncIterator[Storage]:
        yield cls(settings.clock)

    # events and executions

    async def accept(
        self,
        arrivals: Sequence[Arrival],
        *,
        at: datetime,
        move: TriggerMove | None = None,
        room: int | None = None,
    ) -> list[Accepted]:
        if not all(self._events.waits(event_id) for one in arrivals for event_id in one.takes):
            raise FenceRefused("an event does not wait for a batch any more: another has taken it up")
        self._refuse_repeats(arrivals)
        if move is not None:
            known = self._triggers.get(move.key, TriggerState())
            if known.version != move.expected:
                raise FenceRefused(f"trigger {move.key} was moved on by another")
            self._triggers[move.key] = TriggerState(move.state, known.version + 1)
        with self._journal.call():
            accepted = []
            for arrival in arrivals:
                accepted.append(self._accept(arrival, at, room))
                if room is not None:
                    room -= len(accepted[-1].claims)
            return accepted

    def _refuse_repeats(self, arrivals: Sequence[Arrival]) -> None:
        """Refuse what a unique key would, before anything is stored. Raises ``StorageError``."""
        events: set[str] = set()
        executions: set[str] = set()
        for arrival in arrivals:
            if _starts_one_twice(arrival):
                raise StorageError("a trigger starts its flow once for an event")
            if arrival.event is not None and arrival.delivery is None:
                if arrival.event.id in events or self._events.find(arrival.event.id) is not None:
                    raise StorageError("an event of this id is stored already")
                events.add(arrival.event.id)
            for new in arrival.executions:
                if not new.is_derived and arrival.delivery is None:
                    if new.id in executions or new.id in self._executions:
                        raise StorageError("an execution of this id is stored already")
                    executions.add(new.id)

    def _accept(self, arrival: Arrival, at: datetime, room: int | None) -> Accepted:
        event = arrival.event
        if event is not None:
            known = self._known(arrival, event, at)
            if known is not None:
                return Accepted(known)
            self._events.add(event, arrival, at)
        for notice in arrival.notices:
            self._notices.owe(notice, at)
        claims: list[Claim] = []
        waiting = 0
        born: dict[str, ExecutionState] = {}
        for new in arrival.executions:
            if new.is_derived and new.id in self._executions:
                continue
            is_free = room is None or len(claims) < room
            kept, claimed = self._executions.add(new, arrival, at, claim=is_free)
            born[new.id] = kept.execution.state
            waiting += kept.ready_at is not None
            if claimed is not None:
                claims.append(claimed)
            following = arrival.ends.get(new.id, {}).get(kept.execution.state)
            if following is not None:
                accepted = self._accept(following, at, None if room is None else room - len(claims))
                claims += accepted.claims
                waiting += accepted.waiting
                born |= accepted.born
        receipt = Receipt(
            event_id=event.id if event is not None else "",
            execution_ids=tuple(new.id for new in arrival.executions),
            verdicts=arrival.verdicts,
        )
        return Accepted(receipt, tuple(claims), waiting, born)

    def _known(self, arrival: Arrival, event: Event, at: datetime) -> Receipt | None:
        """The receipt of an earlier delivery with this key, or None after remembering this one."""
        if arrival.delivery is None:
            return None
        first = self._events.first_of(arrival.delivery, event, at)
        if first is None:
            return None
        first_id, differs = first
        if differs:
            return Receipt(event_id=first_id, conflict=True)
        stored = self._events.repeat(first_id, event)
        return Receipt(
            event_id=first_id,
            execution_ids=tuple(execution.id for execution in self._started_by(first_id)),
            duplicate=True,
            verdicts=stored.verdicts if stored is not None else (),
        )

    async def record(self, transition: Transition) -> Recorded:
        return self._record(transition)

    def record_soon(self, transition: Transition) -> None:
        try:
            self._record(transition)
        except FenceRefused:
            return  # nobody waits for it, and its execution is another's now

    def _record(self, step: Transition) -> Recorded:
        with self._journal.call():
            recorded = self._executions.step(step)
            brought = [self._accept(arrival, step.at, 0) for arrival in step.arrivals]
            born = {id: state for one in brought for id, state in one.born.items()}
            waiting = recorded.waiting + sum(one.waiting for one in brought)
            return replace(recorded, waiting=waiting, born=born)

    async def claim(self, *, limit: int, at: datetime, held: Mapping[str, int] | None = None) -> list[Claim]:
        return self._executions.claim_ready(limit, at, held or {})

    async def next_wake_at(self) -> datetime | None:
        return self._executions.next_wake_at()

    async def take_over(self, *, at: datetime) -> int:
        self._notices.take_over()
        return self._executions.take_over(at)

    async def request_kill(
        self, execution_id: str, *, at: datetime, reason: str, ends: Mapping[str, Ends] | None = None
    ) -> Killed:
        with self._journal.call():
            return steering.request_kill(
                self._executions,
                execution_id,
                at,
                reason,
                ends,
                lambda arrival: self._accept(arrival, at, 0),
            )

    async def restart(self, restart: Restart) -> Execution:
        with self._journal.call():
            return steering.restart(self._executions, restart)

    async def execution(self, execution_id: str) -> Execution:
        return self._executions.get(execution_id).execution

    async def executions(
        self, filter: ExecutionFilter, page: Page, *, count: bool = False
    ) -> Slice[Execution]:
        found = [
            (kept.number, replace(kept.execution, trigger_data=None))
            for kept in self._executions
            if matches(filter, kept.execution)
        ]
        found.reverse()
        return page_of(found, page, newest_first=True, total=len(found) if count else None)

    async def executions_of_events(
        self, event_ids: Sequence[str], *, with_replays: bool = False
    ) -> dict[str, list[Execution]]:
        found: dict[str, list[Execution]] = {}
        for event_id in event_ids:
            events = [event_id, *(self._events.replays_of(event_id) if with_replays else ())]
            executions = [one for event in events for one in self._executions.of_event(event)]
            executions += self._started_by_batch_of(event_id)
            if executions:
                found[event_id] = executions
        return found

    def _started_by(self, event_id: str) -> list[Execution]:
        return [*self._executions.of_event(event_id), *self._started_by_batch_of(event_id)]

    def _started_by_batch_of(self, event_id: str) -> list[Execution]:
        stored = self._events.find(event_id)
        return self._executions.of_event(stored.batch) if stored is not None and stored.batch else []

    async def task_runs(
        self, execution_id: str, page: Page, *, states: Sequence[TaskRunState] = ()
    ) -> Slice[TaskRun]:
        found = list(enumerate(self._task_runs(execution_id).values(), start=1))
        wanted = [one for one in found if not states or one[1].state in states]
        return page_of(wanted, page, newest_first=False)

    async def scope_task_runs(self, execution_id: str, scope: str) -> dict[str, TaskRun]:
        return {path: run for path, run in self._task_runs(execution_id).items() if scope_of(path) == scope}

    def _task_runs(self, execution_id: str) -> Mapping[str, TaskRun]:
        try:
            return self._executions.get(execution_id).task_runs
        except NotFound:
            return {}

    async def logs(self, execution_id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        try:
            return self._executions.get(execution_id).logs[after : after + limit]
        except NotFound:
            return []

    async def log_size(self, execution_id: str) -> tuple[int, int]:
        lines = await self.logs(execution_id, limit=sys.maxsize)
        return len(lines), sum(len(line.message) for line in lines)

    async def event(self, event_id: str) -> StoredEvent:
        found = self._events.find(event_id)
        if found is None:
            raise NotFound(f'no event "{event_id}"')
        return found

    async def events(self, filter: EventFilter, page: Page) -> Slice[StoredEvent]:
        found = [one for one in self._events if shows(filter, one[1])]
        found.reverse()
        return page_of(found, page, newest_first=True)

    async def known_deliveries(self, scope: str, keys: Sequence[str], *, at: datetime) -> dict[str, str]:
        return self._events.known(scope, keys, at)

    async def waiting_events(self, key: TriggerKey, page: Page) -> Slice[StoredEvent]:
        found = [
            one
            for one in self._events
            if one[1].batch == "" and (one[1].event.namespace, one[1].event.flow, one[1].event.trigger) == key
        ]
        return page_of(found, page, newest_first=False)

    async def settle_dead(self, event_id: str) -> None:
        with self._journal.call():
            self._events.settle(event_id)

    async def counts(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        for kept in self._executions.live():
            state = kept.execution.state.value
            counts[state] = counts.get(state, 0) + 1
        return counts

    # notices

    async def claim_notices(self, *, at: datetime, room: Mapping[str, int], others: int) -> list[NoticeClaim]:
        return self._notices.claim(at, room, others)

    async def settle_notices(self, settlements: Sequence[NoticeSettlement]) -> list[bool]:
        with self._journal.call():
            return [self._notices.settle(one) for one in settlements]

    async def next_notice_at(self, *, but: Collection[str] = ()) -> datetime | None:
        return self._notices.next_at(but)

    async def notice(self, notice_id: str) -> Notice:
        return self._notices.get(notice_id)

    async def notices(self, filter: NoticeFilter, page: Page) -> Slice[Notice]:
        found = [one for one in self._notices if shows_notice(filter, one[1])]
        found.reverse()
        return page_of(found, page, newest_first=True)

    async def retry_notice(self, notice_id: str, *, at: datetime) -> Notice:
        with self._journal.call():
            return self._notices.retry(notice_id, at)

    async def drop_notice(self, notice_id: str, *, at: datetime) -> Notice:
        with self._journal.call():
            return self._notices.drop(notice_id, at)

    async def notice_counts(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        for _, notice in self._notices:
            if notice.state in (NoticeState.OWED, NoticeState.DEAD):
                counts[notice.state.value] = counts.get(notice.state.value, 0) + 1
        return counts

    async def purge_notices(self, *, before: datetime, limit: int = 500) -> Purged:
        return Purged(*self._notices.remove(limit, lambda notice: is_past(notice, before)))

    async def disabled_notifiers(self) -> dict[str, str]:
        return dict(self._notices.disabled)

    async def enable_notifier(self, name: str) -> None:
        self._notices.disabled.pop(name, None)

    # what live views read

    async def last_change(self) -> int:
        return self._journal.last

    async def changes(self, *, after: int, limit: int = 500) -> tuple[list[ChangeSet], bool]:
        return self._journal.after(after, limit)

    # retention

    async def purge_executions(
        self, filter: ExecutionFilter, *, limit: int = 500, keep: Sequence[ExecutionFilter] = ()
    ) -> Purged:
        def is_wanted(execution: Execution) -> bool:
            ended = execution.ended_at
            spared = any(matches(one, execution, ended) for one in keep)
            return matches(filter, execution, ended) and not spared

        return Purged(*self._executions.remove(limit, is_wanted))

    async def purge_events(
        self, filter: EventFilter, *, before: datetime, limit: int = 500, keep: Sequence[EventFilter] = ()
    ) -> Purged:
        in_use = {kept.execution.event_id for kept in self._executions}
        in_use |= {stored.event.replay_of for _, stored in self._events}

        def is_wanted(stored: StoredEvent) -> bool:
            is_old = stored.received_at < before and stored.event.id not in in_use
            is_held = stored.batch is not None and (not stored.batch or stored.batch in self._events)
            return (
                is_old
                and not is_held
                and shows(filter, stored)
                and not any(shows(one, stored) for one in keep)
            )

        return Purged(*self._events.remove(limit, is_wanted))

    async def purge_rest(self, *, now: datetime, changes_before: datetime) -> bool:
        self._events.forget_deliveries(now)
        self._notices.forget_topics(now)
        self._journal.forget(changes_before)
        return False

    async def existing(self, ids: Sequence[str]) -> set[str]:
        return {id for id in ids if id in self._executions or id in self._events}

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
        with self._journal.call():
            self._journal.tell("flow", str(key), None, str(key))
        self._flows[key] = record
        if not same:
            self._sources.setdefault(key, []).append((revision, source, at))
        return record, True

    async def retire_flow(self, key: FlowKey, *, at: datetime) -> None:
        known = await self.flow(key)
        self._flows[key] = replace(known, retired_at=known.retired_at or at)
        with self._journal.call():
            self._journal.tell("flow", str(key), None, str(key))

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


def _starts_one_twice(arrival: Arrival) -> bool:
    started = [(new.flow, new.trigger) for new in arrival.executions if new.trigger is not None]
    return arrival.event is not None and len(set(started)) < len(started)
