"""What every storage promises, as tests: subclass ``StorageContract`` and give it a ``storage`` fixture.

::

    class TestMyStorage(StorageContract):
        @pytest.fixture
        async def storage(self, tmp_path):
            async with MyStorage.open(settings(tmp_path)) as storage:
                yield storage
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.errors import Conflict, FenceRefused, InvalidInput, NotFound
from hub.model.event import Event, Verdict
from hub.model.execution import Claim, ExecutionState, NewExecution, Queue, QueueBehavior
from hub.model.ids import FlowKey, TriggerKey, new_id
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.storage import (
    Arrival,
    DeliveryKey,
    ExecutionFilter,
    LogLine,
    Page,
    Storage,
    Transition,
    TriggerMove,
    TriggerState,
)

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FLOW = FlowKey("shop", "orders")
TRIGGER = TriggerKey("shop", "orders", "hook")
_S = ExecutionState


def an_event(data: Mapping[str, Any] | None = None) -> Event:
    """An event of the trigger ``hook``."""
    return Event(new_id(), f"/{TRIGGER}", "test", AT, *TRIGGER, data=data or {"body": {"n": 1}})


def an_execution(**changes: Any) -> NewExecution:
    """A new execution of ``shop/orders``."""
    given = {"id": new_id(), "flow": FLOW, "revision": 1, "created_at": AT, "trigger": "hook", **changes}
    return NewExecution(**given)


def a_delivery(key: str = "d1", body: str = "h1", expires: timedelta = timedelta(days=1)) -> DeliveryKey:
    """A delivery key of the trigger ``hook``."""
    return DeliveryKey(str(TRIGGER), key, body, AT + expires)


async def started(storage: Storage, **changes: Any) -> Claim:
    """A new execution, born claimed."""
    [accepted] = await storage.accept([Arrival(executions=(an_execution(**changes),))], at=AT)
    [claim] = accepted.claims
    return claim


def step(claim: Claim, **changes: Any) -> Transition:
    """A step under a claim."""
    return Transition(claim.execution.id, claim.fence, changes.pop("at", AT), **changes)


def a_run(path: str = "a", state: TaskRunState = TaskRunState.SUCCESS, **changes: Any) -> TaskRun:
    """A task run."""
    return TaskRun(path, path.rsplit("/", 1)[-1], "log", state, 1, **changes)


class StorageContract:
    """The tests; a subclass gives the ``storage`` fixture."""

    # events and executions

    async def test_an_accepted_event_and_its_execution_can_be_read(self, storage: Storage) -> None:
        event, execution = an_event({"body": {"big": 2**70}}), an_execution(labels={"team": "a"})
        [accepted] = await storage.accept([Arrival((execution,), event)], at=AT)
        assert accepted.receipt.event_id == event.id
        assert accepted.receipt.execution_ids == (execution.id,)
        found = await storage.execution(execution.id)
        assert (found.state, found.event_id, found.labels) == (_S.CREATED, event.id, {"team": "a"})
        assert found.trigger_data == {"body": {"big": 2**70}}
        assert (await storage.event(event.id)).event == event

    async def test_an_execution_is_born_claimed_and_fresh(self, storage: Storage) -> None:
        claim = await started(storage)
        assert (claim.fence, claim.fresh, claim.suspect) == (1, True, False)
        assert await storage.claim(limit=10, at=AT) == []

    async def test_an_unclaimed_execution_waits_to_be_claimed(self, storage: Storage) -> None:
        [accepted] = await storage.accept([Arrival((an_execution(),))], at=AT, claim=False)
        assert (accepted.claims, accepted.waiting) == ((), 1)
        [claim] = await storage.claim(limit=10, at=AT)
        assert claim.fresh

    async def test_a_repeated_delivery_gives_the_first_event_and_starts_nothing(
        self, storage: Storage
    ) -> None:
        first = Arrival((an_execution(),), an_event(), a_delivery())
        again = Arrival((an_execution(),), an_event(), a_delivery())
        [one] = await storage.accept([first], at=AT)
        [other] = await storage.accept([again], at=AT)
        assert other.receipt.event_id == one.receipt.event_id
        assert other.receipt.execution_ids == one.receipt.execution_ids
        assert other.receipt.duplicate
        assert (other.claims, len((await storage.executions(ExecutionFilter(), Page())).items)) == ((), 1)

    async def test_a_repeat_in_the_same_call_is_known(self, storage: Storage) -> None:
        arrivals = [Arrival((an_execution(),), an_event(), a_delivery()) for _ in range(2)]
        one, other = await storage.accept(arrivals, at=AT)
        assert other.receipt.duplicate
        assert other.receipt.execution_ids == one.receipt.execution_ids

    async def test_deliveries_that_race_start_one_execution(self, storage: Storage) -> None:
        answers = await asyncio.gather(
            *(storage.accept([Arrival((an_execution(),), an_event(), a_delivery())], at=AT) for _ in range(5))
        )
        ids = {answer[0].receipt.execution_ids for answer in answers}
        assert len(ids) == 1
        assert sum(not answer[0].receipt.duplicate for answer in answers) == 1

    async def test_another_body_under_a_known_delivery_is_a_conflict(self, storage: Storage) -> None:
        await storage.accept([Arrival((an_execution(),), an_event(), a_delivery(body="h1"))], at=AT)
        [other] = await storage.accept([Arrival((an_execution(),), an_event(), a_delivery(body="h2"))], at=AT)
        assert other.receipt.conflict
        assert len((await storage.events(Page())).items) == 1

    async def test_an_expired_delivery_key_is_forgotten(self, storage: Storage) -> None:
        await storage.accept([Arrival((), an_event(), a_delivery(expires=timedelta(hours=1)))], at=AT)
        later = AT + timedelta(hours=2)
        [other] = await storage.accept([Arrival((), an_event(), a_delivery(body="h2"))], at=later)
        assert not other.receipt.duplicate
        assert not other.receipt.conflict

    async def test_a_verdict_is_kept_with_its_event(self, storage: Storage) -> None:
        verdict = Verdict(*TRIGGER, "refused", "when is false")
        event = an_event()
        await storage.accept([Arrival((), event, None, (verdict,))], at=AT)
        assert (await storage.event(event.id)).verdicts == (verdict,)

    async def test_a_trigger_moves_only_from_where_it_stands(self, storage: Storage) -> None:
        await storage.accept([], at=AT, move=TriggerMove(TRIGGER, {"last": 1}, 0))
        with pytest.raises(FenceRefused):
            await storage.accept([Arrival((), an_event())], at=AT, move=TriggerMove(TRIGGER, {"last": 2}, 0))
        assert (await storage.events(Page())).items == ()
        assert await storage.trigger_states() == {TRIGGER: TriggerState({"last": 1}, 1)}

    # steps

    async def test_a_step_is_stored_with_its_task_runs_and_logs(self, storage: Storage) -> None:
        claim = await started(storage)
        lines = (LogLine(AT, "INFO", "one", "a", 1), LogLine(AT, "WARN", "two", "a", 1, "stderr"))
        run = a_run(outputs={"value": 2**70}, started_at=AT, ended_at=AT)
        await storage.record(step(claim, task_runs=(run,), logs=lines, state=_S.RUNNING))
        assert (await storage.execution(claim.execution.id)).state is _S.RUNNING
        assert (await storage.task_runs(claim.execution.id, Page())).items == (run,)
        found = await storage.logs(claim.execution.id)
        assert [(line.number, line.message, line.stream) for line in found] == [
            (1, "one", None),
            (2, "two", "stderr"),
        ]

    async def test_a_step_under_an_old_fence_changes_nothing(self, storage: Storage) -> None:
        claim = await started(storage)
        await storage.take_over(at=AT)
        [newer] = await storage.claim(limit=1, at=AT)
        assert newer.fence > claim.fence
        with pytest.raises(FenceRefused):
            await storage.record(step(claim, state=_S.SUCCESS, task_runs=(a_run(),)))
        assert (await storage.execution(claim.execution.id)).state is not _S.SUCCESS
        assert (await storage.task_runs(claim.execution.id, Page())).items == ()

    async def test_nothing_follows_an_end(self, storage: Storage) -> None:
        claim = await started(storage)
        await storage.record(step(claim, state=_S.SUCCESS))
        with pytest.raises(FenceRefused):
            await storage.record(step(claim, state=_S.FAILED))
        assert (await storage.execution(claim.execution.id)).state is _S.SUCCESS

    async def test_a_step_that_is_not_waited_for_comes_before_a_later_one(self, storage: Storage) -> None:
        claim = await started(storage)
        storage.record_soon(step(claim, task_runs=(a_run(state=TaskRunState.RUNNING, started_at=AT),)))
        await storage.record(step(claim, task_runs=(a_run(outputs={"x": 1}),)))
        [run] = (await storage.task_runs(claim.execution.id, Page())).items
        assert (run.state, run.outputs, run.started_at) == (TaskRunState.SUCCESS, {"x": 1}, AT)

    async def test_deciding_values_stay_until_others_are_given(self, storage: Storage) -> None:
        claim = await started(storage)
        running = TaskRunState.RUNNING
        await storage.record(step(claim, task_runs=(a_run(state=running, decisions={"values": [1]}),)))
        await storage.record(step(claim, task_runs=(a_run(state=running),)))
        [run] = (await storage.task_runs(claim.execution.id, Page())).items
        assert run.decisions == {"values": [1]}

    async def test_the_task_runs_of_one_iteration_are_found_alone(self, storage: Storage) -> None:
        claim = await started(storage)
        runs = tuple(a_run(path) for path in ("each", "each[0]/a", "each[1]/a", "each[1]/b", "each[11]/a"))
        await storage.record(step(claim, task_runs=runs))
        found = await storage.scope_task_runs(claim.execution.id, "each[1]/")
        assert sorted(found) == ["each[1]/a", "each[1]/b"]
        assert sorted(await storage.scope_task_runs(claim.execution.id, "")) == ["each"]

    async def test_a_released_execution_is_claimed_from_its_wake_time_on(self, storage: Storage) -> None:
        claim = await started(storage)
        wake = AT + timedelta(hours=1)
        await storage.record(step(claim, state=_S.PAUSED, release=True, wake_at=wake, progress=True))
        assert await storage.next_wake_at() == wake
        assert await storage.claim(limit=1, at=AT) == []
        [again] = await storage.claim(limit=1, at=wake)
        assert (again.fence, again.fresh, again.execution.state) == (2, False, _S.PAUSED)

    async def test_the_oldest_is_claimed_first(self, storage: Storage) -> None:
        late = an_execution(created_at=AT + timedelta(seconds=5))
        early = an_execution(created_at=AT)
        for execution in (late, early):
            await storage.accept([Arrival((execution,))], at=AT, claim=False)
        claims = await storage.claim(limit=1, at=AT + timedelta(minutes=1))
        assert [claim.execution.id for claim in claims] == [early.id]

    # crashes

    async def test_one_that_went_down_without_progress_is_a_suspect_and_comes_last(
        self, storage: Storage
    ) -> None:
        suspect = await started(storage)
        moving = await started(storage)
        await storage.record(step(moving, task_runs=(a_run(),), progress=True))
        assert await storage.take_over(at=AT) == 2
        claims = await storage.claim(limit=10, at=AT)
        assert [(claim.execution.id, claim.suspect) for claim in claims] == [
            (moving.execution.id, False),
            (suspect.execution.id, True),
        ]

    async def test_starts_of_a_suspect_are_counted_until_it_makes_progress(self, storage: Storage) -> None:
        await started(storage)
        for count in range(3):
            await storage.take_over(at=AT)
            [claim] = await storage.claim(limit=1, at=AT)
            assert (claim.suspect, claim.suspect_starts) == (True, count)
            await storage.record(step(claim, state=_S.RUNNING, suspect_start=True))
        await storage.record(step(claim, task_runs=(a_run(),), progress=True))
        await storage.take_over(at=AT)
        [claim] = await storage.claim(limit=1, at=AT)
        assert (claim.suspect, claim.suspect_starts) == (False, 0)

    # queues

    async def test_over_the_limit_an_execution_is_queued_and_an_end_lets_it_in(
        self, storage: Storage
    ) -> None:
        queue = Queue("q", 1)
        first = await started(storage, queue=queue)
        second = an_execution(queue=queue)
        [accepted] = await storage.accept([Arrival((second,))], at=AT)
        assert (accepted.claims, accepted.waiting) == ((), 0)
        assert (await storage.execution(second.id)).state is _S.QUEUED
        recorded = await storage.record(step(first, state=_S.SUCCESS))
        assert [claim.execution.id for claim in recorded.claims] == [second.id]

    @pytest.mark.parametrize(
        ("behavior", "state"), [(QueueBehavior.CANCEL, _S.CANCELLED), (QueueBehavior.FAIL, _S.FAILED)]
    )
    async def test_over_the_limit_an_execution_ends_at_once_where_asked(
        self, storage: Storage, behavior: QueueBehavior, state: ExecutionState
    ) -> None:
        queue = Queue("q", 1, behavior)
        await started(storage, queue=queue)
        second = an_execution(queue=queue)
        await storage.accept([Arrival((second,))], at=AT)
        found = await storage.execution(second.id)
        assert (found.state, found.ended_at) == (state, AT)
        assert "limit of 1" in (found.error or "")

    async def test_a_batch_never_goes_over_the_limit(self, storage: Storage) -> None:
        arrivals = [Arrival((an_execution(queue=Queue("q", 2)),)) for _ in range(5)]
        answers = await storage.accept(arrivals, at=AT)
        assert sum(len(answer.claims) for answer in answers) == 2

    async def test_a_waiting_execution_keeps_its_place(self, storage: Storage) -> None:
        queue = Queue("q", 1)
        first = await started(storage, queue=queue)
        await storage.record(step(first, state=_S.PAUSED, release=True, wake_at=AT + timedelta(hours=1)))
        second = an_execution(queue=queue)
        await storage.accept([Arrival((second,))], at=AT)
        assert (await storage.execution(second.id)).state is _S.QUEUED

    async def test_executions_are_let_in_in_the_order_they_came(self, storage: Storage) -> None:
        queue = Queue("q", 1)
        claim = await started(storage, queue=queue)
        waiting = [an_execution(queue=queue) for _ in range(3)]
        for execution in waiting:
            await storage.accept([Arrival((execution,))], at=AT)
        order = []
        for _ in waiting:
            [claim] = (await storage.record(step(claim, state=_S.SUCCESS))).claims
            order.append(claim.execution.id)
        assert order == [execution.id for execution in waiting]

    # kill

    async def test_killing_a_claimed_execution_marks_it(self, storage: Storage) -> None:
        claim = await started(storage)
        assert (await storage.request_kill(claim.execution.id, at=AT, reason="no")).state is _S.KILLING
        await storage.record(step(claim, state=_S.RUNNING, task_runs=(a_run(),)))
        assert (await storage.execution(claim.execution.id)).state is _S.KILLING
        await storage.record(step(claim, state=_S.KILLED, error="no"))
        assert (await storage.execution(claim.execution.id)).state is _S.KILLED

    async def test_killing_a_waiting_execution_ends_it_and_lets_the_next_in(self, storage: Storage) -> None:
        queue = Queue("q", 1)
        claim = await started(storage, queue=queue)
        run = a_run(state=TaskRunState.PAUSED)
        await storage.record(
            step(claim, state=_S.PAUSED, release=True, wake_at=AT + timedelta(hours=1), task_runs=(run,))
        )
        second = an_execution(queue=queue)
        await storage.accept([Arrival((second,))], at=AT)
        killed = await storage.request_kill(claim.execution.id, at=AT, reason="enough")
        assert (killed.state, killed.error) == (_S.KILLED, "enough")
        [left] = (await storage.task_runs(claim.execution.id, Page())).items
        assert left.state is TaskRunState.KILLED
        assert [one.execution.id for one in await storage.claim(limit=5, at=AT)] == [second.id]

    async def test_killing_what_never_started_cancels_it(self, storage: Storage) -> None:
        await started(storage, queue=Queue("q", 1))
        second = an_execution(queue=Queue("q", 1))
        await storage.accept([Arrival((second,))], at=AT)
        assert (await storage.request_kill(second.id, at=AT, reason="no")).state is _S.CANCELLED

    async def test_killing_what_has_ended_changes_nothing(self, storage: Storage) -> None:
        claim = await started(storage)
        await storage.record(step(claim, state=_S.SUCCESS))
        assert (await storage.request_kill(claim.execution.id, at=AT, reason="no")).state is _S.SUCCESS

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
            await storage.append_logs(
                claim.execution.id, [LogLine(AT, "INFO", f"{number}{letter}") for letter in "ab"]
            )
        found = await storage.logs(claim.execution.id, after=1, limit=3)
        assert [(line.number, line.message) for line in found] == [(2, "0b"), (3, "1a"), (4, "1b")]

    async def test_live_executions_are_counted_by_state(self, storage: Storage) -> None:
        await started(storage)
        ended = await started(storage)
        await storage.record(step(ended, state=_S.SUCCESS))
        assert await storage.counts() == {"CREATED": 1}

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
