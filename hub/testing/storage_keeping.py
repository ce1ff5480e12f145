"""Part of the storage contract: lists, logs, flows, what live views read, and retention."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.errors import Conflict, FenceRefused, InvalidInput, NotFound
from hub.model.execution import ExecutionState
from hub.model.ids import FlowKey
from hub.model.task_run import TaskRunState
from hub.plugin.storage import (
    Arrival,
    Change,
    EventFilter,
    ExecutionFilter,
    LogLine,
    Page,
    Purged,
    Storage,
    Transition,
)
from hub.testing.storage_samples import (
    AT,
    FLOW,
    HOUR,
    a_child_of,
    a_delivery,
    a_run,
    an_event,
    an_event_from_outside,
    an_execution,
    child_of,
    ids_of,
    kill,
    paths_of,
    paused,
    started,
    step,
)

_S = ExecutionState
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_SOME_DAY = datetime(2200, 1, 1, tzinfo=UTC)
"""Change sets carry the time of their commit, which a test does not know."""


class KeepingContract:
    """What is promised about reading, and about what goes away."""

    # lists

    async def test_lists_are_newest_first_and_their_pages_meet(self, storage: Storage) -> None:
        ids = []
        for _ in range(7):
            ids.append((await started(storage)).execution.id)
        seen: list[str] = []
        cursor = None
        while True:
            page = await storage.executions(ExecutionFilter(), Page(3, cursor), count=True)
            assert page.total == 7
            seen += [execution.id for execution in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
            assert cursor.replace("-", "").replace("_", "").isalnum()
        assert seen == ids[::-1]

    async def test_a_filter_shows_only_what_matches(self, storage: Storage) -> None:
        one = await started(storage, labels={"team": "a"})
        other = await started(storage, flow=FlowKey("shop", "bills"), created_at=AT + timedelta(hours=1))
        await storage.record(step(other, state=_S.SUCCESS))

        async def ids(**given: Any) -> list[str]:
            found = await storage.executions(ExecutionFilter(**given), Page())
            return [execution.id for execution in found.items]

        assert await ids(labels={"team": "a"}) == [one.execution.id]
        assert await ids(flow="bills") == [other.execution.id]
        assert await ids(states=(_S.SUCCESS, _S.FAILED)) == [other.execution.id]
        assert await ids(since=AT + timedelta(minutes=1)) == [other.execution.id]
        assert await ids(until=AT + timedelta(minutes=1)) == [one.execution.id]
        assert await ids(namespace="elsewhere") == []

    async def test_a_cursor_of_somebody_else_is_refused(self, storage: Storage) -> None:
        with pytest.raises(InvalidInput):
            await storage.executions(ExecutionFilter(), Page(3, "bm9uc2Vuc2U"))

    async def test_what_does_not_exist_is_not_found(self, storage: Storage) -> None:
        for asked in (
            storage.execution("x"),
            storage.event("x"),
            storage.flow(FLOW),
            storage.revisions(FLOW),
        ):
            with pytest.raises(NotFound):
                await asked

    async def test_log_lines_are_numbered_over_chunks(self, storage: Storage) -> None:
        claim = await started(storage)
        for number in range(3):
            lines = tuple(LogLine(AT, "INFO", f"{number}{letter}") for letter in "ab")
            await storage.record(step(claim, logs=lines))
        found = await storage.logs(claim.execution.id, after=1, limit=3)
        assert [(line.number, line.message) for line in found] == [(2, "0b"), (3, "1a"), (4, "1b")]

    async def test_live_executions_are_counted_by_state(self, storage: Storage) -> None:
        await started(storage)
        ended = await started(storage)
        await storage.record(step(ended, state=_S.SUCCESS))
        assert await storage.counts() == {"CREATED": 1}

    async def test_task_runs_are_shown_by_state_and_their_pages_meet(self, storage: Storage) -> None:
        claim = await started(storage)
        bad = TaskRunState.FAILED
        runs = tuple(a_run(str(n), bad if n % 2 else TaskRunState.SUCCESS) for n in range(7))
        await storage.record(step(claim, task_runs=runs))
        first = await storage.task_runs(claim.execution.id, Page(2), states=(bad, TaskRunState.SKIPPED))
        rest = await storage.task_runs(
            claim.execution.id, Page(2, first.next_cursor), states=(bad, TaskRunState.SKIPPED)
        )
        assert [run.path for run in (*first.items, *rest.items)] == ["1", "3", "5"]
        assert rest.next_cursor is None
        assert (
            await storage.task_runs(claim.execution.id, Page(), states=(TaskRunState.KILLED,))
        ).items == ()

    async def test_ids_that_exist_are_told_from_others(self, storage: Storage) -> None:
        event = an_event()
        claim = await started(storage)
        await storage.accept([Arrival((), event)], at=AT)
        assert await storage.existing([event.id, "x", claim.execution.id]) == {event.id, claim.execution.id}
        assert await storage.existing([]) == set()

    # flows

    async def _put(self, storage: Storage, source: str, **changes: Any) -> tuple[int, bool]:
        given = {"summary": {"triggers": []}, "disabled": False, "origin": None, "at": AT, **changes}
        record, changed = await storage.put_flow(FLOW, source=source, source_hash=source, **given)
        return record.revision, changed

    async def test_the_same_content_is_no_new_revision(self, storage: Storage) -> None:
        assert await self._put(storage, "one") == (1, True)
        assert await self._put(storage, "one") == (1, False)
        assert await self._put(storage, "two") == (2, True)
        assert [number for number, _ in await storage.revisions(FLOW)] == [2, 1]
        assert await storage.flow_source(FLOW) == (2, "two")
        assert await storage.flow_source(FLOW, 1) == (1, "one")

    async def test_a_retired_flow_is_out_of_use_and_comes_back(self, storage: Storage) -> None:
        await self._put(storage, "one")
        await storage.retire_flow(FLOW, at=AT)
        assert await storage.flows() == []
        assert (await storage.flow(FLOW)).retired_at == AT
        assert await self._put(storage, "one") == (1, True)
        assert [record.key for record in await storage.flows()] == [FLOW]

    async def test_a_flow_of_a_file_cannot_be_put_by_another(self, storage: Storage) -> None:
        await self._put(storage, "one", origin="/flows/a.hub.yaml")
        with pytest.raises(Conflict, match=r"a\.hub\.yaml"):
            await self._put(storage, "two")

    # what live views read

    async def _told(self, storage: Storage, after: int) -> list[Change]:
        sets, is_whole = await storage.changes(after=after)
        assert is_whole
        return [change for one in sets for change in one.changes]

    async def test_nothing_was_changed_at_first(self, storage: Storage) -> None:
        assert await storage.last_change() == 0
        assert await storage.changes(after=0) == ([], True)

    async def test_what_changes_is_told_with_its_flow(self, storage: Storage) -> None:
        event, outside, execution = an_event(), an_event_from_outside(), an_execution()
        [accepted] = await storage.accept([Arrival((execution,), event)], at=AT)
        await storage.accept([Arrival((), outside, dead="wrong")], at=AT)
        await storage.record(step(accepted.claims[0], state=_S.RUNNING))
        await storage.record(step(accepted.claims[0], state=_S.FAILED))
        await storage.settle_dead(outside.id)
        told = await self._told(storage, 0)
        assert [(change.topic, change.id, change.flow) for change in told] == [
            ("event", event.id, "shop/orders"),
            ("execution", execution.id, "shop/orders"),
            ("event", outside.id, None),
            ("execution", execution.id, "shop/orders"),
            ("execution", execution.id, "shop/orders"),
            ("event", outside.id, None),
        ]
        assert [change.state for change in told if change.topic == "execution"] == [
            "CREATED",
            "RUNNING",
            "FAILED",
        ]

    async def test_a_step_of_one_that_is_being_killed_is_told_as_it_stands(self, storage: Storage) -> None:
        claim = await started(storage)
        await kill(storage, claim)
        before = await storage.last_change()
        await storage.record(step(claim, state=_S.RUNNING))
        assert {change.state for change in await self._told(storage, before)} == {"KILLING"}

    async def test_a_change_of_a_flow_is_told_once(self, storage: Storage) -> None:
        for _ in range(2):
            await self._put(storage, "one")
        await storage.retire_flow(FLOW, at=AT)
        flow = Change("flow", "shop/orders", None, "shop/orders")
        assert await self._told(storage, 0) == [flow, flow]

    async def test_what_changes_nothing_that_is_shown_has_no_number(self, storage: Storage) -> None:
        claim = await started(storage)
        before = await storage.last_change()
        await storage.record(step(claim, task_runs=(a_run(),), progress=True))
        await storage.record(step(claim, logs=(LogLine(AT, "INFO", "one"),)))
        await storage.claim(limit=1, at=AT)
        with pytest.raises(FenceRefused):
            await storage.record(Transition(claim.execution.id, 99, AT, state=_S.FAILED))
        assert await storage.last_change() == before

    async def test_a_delivery_is_told_when_it_comes_again(self, storage: Storage) -> None:
        event = an_event()
        await storage.accept([Arrival((), event, a_delivery())], at=AT)
        before = await storage.last_change()
        await storage.accept([Arrival((), an_event(), a_delivery(body="h2"))], at=AT)
        assert await storage.last_change() == before
        await storage.accept([Arrival((), an_event(), a_delivery())], at=AT)
        assert [change.id for change in await self._told(storage, before)] == [event.id]

    async def test_numbers_go_up_and_reading_on_skips_nothing(self, storage: Storage) -> None:
        executions = [an_execution() for _ in range(20)]
        seen: list[str] = []
        numbers = [0]

        async def read_on(limit: int) -> bool:
            sets, is_whole = await storage.changes(after=numbers[-1], limit=limit)
            assert is_whole
            numbers.extend(one.number for one in sets)
            seen.extend(change.id for one in sets for change in one.changes)
            return bool(sets)

        writes = [asyncio.ensure_future(storage.accept([Arrival((one,))], at=AT)) for one in executions]
        while not all(write.done() for write in writes):
            await read_on(2)
            await asyncio.sleep(0)
        while await read_on(2):
            pass
        assert sorted(seen) == sorted(one.id for one in executions)
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == await storage.last_change()

    async def test_a_gap_is_told_to_whoever_has_missed_something(self, storage: Storage) -> None:
        for _ in range(3):
            await started(storage)
        last = await storage.last_change()
        assert await storage.purge_rest(now=AT, changes_before=_LONG_AGO) is False
        assert (await storage.changes(after=0))[1]
        await storage.purge_rest(now=AT, changes_before=_SOME_DAY)
        assert await storage.changes(after=0) == ([], False)
        assert await storage.changes(after=last - 1) == ([], False)
        assert await storage.changes(after=last) == ([], True)
        assert await storage.last_change() == last
        await started(storage)
        sets, is_whole = await storage.changes(after=last)
        assert ([one.number for one in sets], is_whole) == ([last + 1], True)
        assert not (await storage.changes(after=last - 1))[1]

    # retention

    async def _ended(self, storage: Storage, **changes: Any) -> str:
        at = changes.pop("ended_at", AT)
        state = changes.pop("state", _S.SUCCESS)
        claim = await started(storage, **changes)
        line = LogLine(AT, "INFO", "one")
        await storage.record(step(claim, state=state, at=at, task_runs=(a_run(),), logs=(line,)))
        return claim.execution.id

    async def test_the_oldest_ended_executions_are_purged_first(self, storage: Storage) -> None:
        ids = [await self._ended(storage) for _ in range(5)]
        assert await storage.purge_executions(ExecutionFilter(), limit=2) == Purged((ids[0], ids[1]), True)
        assert await ids_of(storage) == [ids[4], ids[3], ids[2]]
        assert await storage.purge_executions(ExecutionFilter(), limit=3) == Purged(tuple(ids[2:]), False)
        assert await storage.purge_executions(ExecutionFilter(), limit=3) == Purged(())

    async def test_a_purged_execution_leaves_nothing(self, storage: Storage) -> None:
        gone, kept = await self._ended(storage), await self._ended(storage, flow=FlowKey("shop", "bills"))
        await storage.purge_executions(ExecutionFilter(flow="orders"))
        with pytest.raises(NotFound):
            await storage.execution(gone)
        assert (await paths_of(storage, gone), await storage.logs(gone)) == ([], [])
        assert await storage.existing([gone, kept]) == {kept}
        assert await paths_of(storage, kept) == ["a"]
        assert len(await storage.logs(kept)) == 1

    async def test_a_live_execution_is_never_purged(self, storage: Storage) -> None:
        claimed = await started(storage)
        sleeping = await paused(storage, await started(storage), wake_at=AT + HOUR)
        assert (await storage.purge_executions(ExecutionFilter())).ids == ()
        assert await ids_of(storage) == [sleeping.execution.id, claimed.execution.id]

    async def test_purging_goes_by_the_end_not_the_beginning(self, storage: Storage) -> None:
        early = await self._ended(storage, ended_at=AT)
        await self._ended(storage, ended_at=AT + HOUR)
        before = ExecutionFilter(until=AT + timedelta(minutes=1))
        assert (await storage.purge_executions(before)).ids == (early,)

    async def test_a_child_stays_until_its_parent_has_ended(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        await storage.record(step(child, state=_S.SUCCESS))
        assert (await storage.purge_executions(ExecutionFilter())).ids == ()
        await storage.record(step(parent, state=_S.SUCCESS))
        purged = await storage.purge_executions(ExecutionFilter())
        assert purged.ids == (parent.execution.id, child.execution.id)

    async def test_what_a_keep_filter_matches_stays(self, storage: Storage) -> None:
        failed = await self._ended(storage, state=_S.FAILED)
        labelled = await self._ended(storage, labels={"keep": "yes"})
        gone = await self._ended(storage)
        parent = await started(storage)
        child = a_child_of(parent)
        await storage.accept([Arrival((child,))], at=AT)
        await kill(storage, parent)
        keep = [
            ExecutionFilter(states=(_S.FAILED,)),
            ExecutionFilter(labels={"keep": "yes"}),
            ExecutionFilter(parent=parent.execution.id),
        ]
        assert (await storage.purge_executions(ExecutionFilter(), keep=keep)).ids == (gone,)
        assert set(await ids_of(storage)) == {failed, labelled, parent.execution.id, child.id}

    async def test_old_events_that_nothing_came_from_are_purged(self, storage: Storage) -> None:
        old = [an_event() for _ in range(3)]
        used, dead, kept, young = an_event(), an_event(), an_event_from_outside(), an_event()
        arrivals = [Arrival((), event) for event in (*old, kept)]
        arrivals += [Arrival((an_execution(),), used), Arrival((), dead, dead="wrong")]
        await storage.accept(arrivals, at=AT)
        await storage.accept([Arrival((), young)], at=AT + HOUR)
        shop = EventFilter(namespace="shop")
        purged = await storage.purge_events(shop, before=AT + HOUR, limit=2)
        assert purged == Purged((old[0].id, old[1].id), True)
        assert await storage.purge_events(shop, before=AT + HOUR, limit=2) == Purged((old[2].id,))
        left = {stored.event.id for stored in (await storage.events(EventFilter(), Page())).items}
        assert left == {used.id, dead.id, kept.id, young.id}

    async def test_an_event_goes_after_its_execution_or_its_settling(self, storage: Storage) -> None:
        used, dead = an_event(), an_event()
        execution = an_execution()
        [accepted, _] = await storage.accept(
            [Arrival((execution,), used), Arrival((), dead, dead="wrong")], at=AT
        )
        await storage.record(step(accepted.claims[0], state=_S.SUCCESS))
        assert (await storage.purge_events(EventFilter(), before=AT + HOUR)).ids == ()
        await storage.purge_executions(ExecutionFilter())
        await storage.settle_dead(dead.id)
        assert (await storage.purge_events(EventFilter(), before=AT + HOUR)).ids == (used.id, dead.id)

    async def test_an_event_stays_while_it_waits_and_while_its_batch_or_replay_is_there(
        self, storage: Storage
    ) -> None:
        waiting, taken, repeated, batch = an_event(), an_event(), an_event(), an_event()
        again = replace(an_event(), replay_of=repeated.id)
        await storage.accept(
            [Arrival((), waiting, waits=True), Arrival((), taken, waits=True), Arrival((), repeated)], at=AT
        )
        await storage.accept([Arrival((), batch, takes=(taken.id,)), Arrival((), again)], at=AT + HOUR)
        assert (await storage.purge_events(EventFilter(), before=AT + HOUR)).ids == ()
        assert (await storage.purge_events(EventFilter(), before=AT + 2 * HOUR)).ids == (batch.id, again.id)
        assert (await storage.purge_events(EventFilter(), before=AT + HOUR)).ids == (taken.id, repeated.id)
        left = (await storage.events(EventFilter(), Page())).items
        assert [stored.event.id for stored in left] == [waiting.id]

    async def test_what_a_keep_filter_matches_stays_among_events(self, storage: Storage) -> None:
        gone, kept = an_event_from_outside(), an_event()
        await storage.accept([Arrival((), gone), Arrival((), kept)], at=AT)
        keep = [EventFilter(namespace="shop"), EventFilter(flow="bills")]
        purged = await storage.purge_events(EventFilter(), before=AT + HOUR, keep=keep)
        assert purged.ids == (gone.id,)

    async def test_only_expired_delivery_keys_are_purged(self, storage: Storage) -> None:
        short, long = a_delivery("short", expires=HOUR), a_delivery("long", expires=10 * HOUR)
        await storage.accept([Arrival((), an_event(), short), Arrival((), an_event(), long)], at=AT)
        await storage.purge_rest(now=AT + 2 * HOUR, changes_before=_LONG_AGO)
        # asked at a moment when the short one would still have been known
        [first, other] = await storage.accept(
            [Arrival((), an_event(), short), Arrival((), an_event(), long)], at=AT
        )
        assert (first.receipt.duplicate, other.receipt.duplicate) == (False, True)

    async def test_a_delivery_key_outlives_its_event(self, storage: Storage) -> None:
        event = an_event()
        await storage.accept([Arrival((), event, a_delivery())], at=AT)
        await storage.purge_events(EventFilter(), before=AT + HOUR)
        before = await storage.last_change()
        [again] = await storage.accept([Arrival((an_execution(),), an_event(), a_delivery())], at=AT)
        assert (again.receipt.event_id, again.receipt.duplicate) == (event.id, True)
        assert await ids_of(storage) == []
        assert await storage.last_change() == before
