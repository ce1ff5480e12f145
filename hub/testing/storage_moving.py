"""Part of the storage contract: steps under their fences, claims in turn, crashes, and parents that wait."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from hub.errors import FenceRefused
from hub.model.execution import ExecutionState, Queue
from hub.model.ids import FlowKey
from hub.model.task_run import TaskRunState
from hub.plugin.storage import Arrival, EventFilter, LogLine, Page, Recorded, Restart, Storage
from hub.testing.storage_samples import (
    AT,
    HOUR,
    a_child_of,
    a_run,
    an_event,
    an_execution,
    child_of,
    claimed_ids,
    ids_of,
    paused,
    started,
    step,
)

_S = ExecutionState


class MovingContract:
    """What ``record``, ``claim`` and ``take_over`` promise."""

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

    async def test_variables_that_were_decided_come_with_every_later_claim(self, storage: Storage) -> None:
        claim = await started(storage)
        assert claim.variables is None
        await storage.record(step(claim, variables={"at": "noon", "n": 2**70}))
        await storage.record(step(claim, state=_S.RUNNING, release=True))
        [again] = await storage.claim(limit=1, at=AT)
        assert again.variables == {"at": "noon", "n": 2**70}
        await storage.record(step(again, state=_S.FAILED))
        await storage.restart(Restart(claim.execution.id, AT))
        [last] = await storage.claim(limit=1, at=AT)
        assert last.variables == again.variables

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
            await storage.accept([Arrival((execution,))], at=AT, room=0)
        claims = await storage.claim(limit=1, at=AT + timedelta(minutes=1))
        assert [claim.execution.id for claim in claims] == [early.id]

    async def test_steps_that_are_stored_together_all_count(self, storage: Storage) -> None:
        claim = await started(storage)
        storage.record_soon(step(claim, state=_S.RUNNING, suspect_start=True))
        storage.record_soon(step(claim, task_runs=(a_run(),), progress=True))
        await storage.record(step(claim, state=_S.PAUSED, release=True, wake_at=AT + HOUR))
        found = await storage.execution(claim.execution.id)
        assert (found.state, found.started_at, found.wake_at) == (_S.PAUSED, AT, AT + HOUR)
        assert await claimed_ids(storage) == []

    async def test_a_log_is_stored_under_the_fence_in_the_order_of_the_steps(self, storage: Storage) -> None:
        claim = await started(storage)
        storage.record_soon(step(claim, logs=(LogLine(AT, "INFO", "one"),)))
        storage.record_soon(step(claim, logs=(LogLine(AT, "INFO", "two"),), task_runs=(a_run(),)))
        await storage.record(step(claim, logs=(LogLine(AT, "INFO", "three"),)))
        assert await storage.log_size(claim.execution.id) == (3, 11)
        await storage.take_over(at=AT)
        with pytest.raises(FenceRefused):
            await storage.record(step(claim, logs=(LogLine(AT, "INFO", "late"),)))
        found = await storage.logs(claim.execution.id)
        assert [(line.number, line.message) for line in found] == [(1, "one"), (2, "two"), (3, "three")]

    async def test_the_size_of_a_log_is_that_of_its_messages(self, storage: Storage) -> None:
        claim = await started(storage)
        assert await storage.log_size(claim.execution.id) == (0, 0)
        for _ in range(2):
            lines = tuple(LogLine(AT, "INFO", "x" * 10_000, "a") for _ in range(5))
            await storage.record(step(claim, logs=lines))
        assert await storage.log_size(claim.execution.id) == (10, 100_000)

    # ends are final

    async def test_an_ended_task_run_stays_as_it_ended(self, storage: Storage) -> None:
        claim = await started(storage)
        ended = a_run(outputs={"x": 1}, started_at=AT, ended_at=AT)
        later = (
            a_run(state=TaskRunState.CREATED),
            a_run(state=TaskRunState.KILLED, error="killed", ended_at=AT + HOUR),
        )
        for run in (ended, *later):
            storage.record_soon(step(claim, task_runs=(run,)))
        await storage.record(step(claim, state=_S.RUNNING))
        assert (await storage.task_runs(claim.execution.id, Page())).items == (ended,)
        for run in later:
            await storage.record(step(claim, task_runs=(run,)))
        assert (await storage.task_runs(claim.execution.id, Page())).items == (ended,)

    async def test_no_task_run_outlives_its_execution(self, storage: Storage) -> None:
        claim, other = await started(storage), await started(storage)
        await storage.record(
            step(
                claim,
                task_runs=(
                    a_run("a", ended_at=AT),
                    a_run("each[3]/b", TaskRunState.PAUSED, wake_at=AT + HOUR),
                    a_run("c", TaskRunState.RUNNING, outputs={"iterationCount": 3}),
                ),
            )
        )
        await storage.record(step(other, task_runs=(a_run("a", TaskRunState.RUNNING),)))
        storage.record_soon(step(claim, task_runs=(a_run("d", TaskRunState.CREATED),)))
        await storage.record(step(claim, state=_S.FAILED, at=AT + HOUR))
        runs = (await storage.task_runs(claim.execution.id, Page())).items
        assert [(run.path, run.state, run.ended_at, run.wake_at) for run in runs] == [
            ("a", TaskRunState.SUCCESS, AT, None),
            ("each[3]/b", TaskRunState.KILLED, AT + HOUR, None),
            ("c", TaskRunState.KILLED, AT + HOUR, None),
            ("d", TaskRunState.KILLED, AT + HOUR, None),
        ]
        [left] = (await storage.task_runs(other.execution.id, Page())).items
        assert left.state is TaskRunState.RUNNING

    # claims in turn

    async def test_a_namespace_that_floods_leaves_the_others_their_share(self, storage: Storage) -> None:
        flood = [an_execution(flow=FlowKey("flood", "f")) for _ in range(50)]
        other = an_execution(flow=FlowKey("other", "f"), created_at=AT + timedelta(seconds=1))
        await storage.accept([Arrival((one,)) for one in (*flood, other)], at=AT, room=0)
        later = AT + HOUR
        first = [claim.execution.id for claim in await storage.claim(limit=2, at=later)]
        assert first == [flood[0].id, other.id]
        rest = [claim.execution.id for claim in await storage.claim(limit=100, at=later)]
        assert rest == [one.id for one in flood[1:]]

    async def test_every_namespace_comes_to_its_turn(self, storage: Storage) -> None:
        names = ["a", "a", "a", "b", "b", "c"]
        await storage.accept(
            [Arrival((an_execution(flow=FlowKey(name, "f")),)) for name in names], at=AT, room=0
        )
        taken = []
        while claims := await storage.claim(limit=3, at=AT):
            taken.append("".join(claim.execution.flow.namespace for claim in claims))
        assert taken == ["abc", "aab"]

    async def test_a_namespace_whose_time_has_not_come_takes_no_turn(self, storage: Storage) -> None:
        now = [an_execution(flow=FlowKey("b", "f")) for _ in range(2)]
        later = an_execution(flow=FlowKey("a", "f"), created_at=AT + HOUR)
        await storage.accept([Arrival((one,)) for one in (later, *now)], at=AT, room=0)
        assert [claim.execution.id for claim in await storage.claim(limit=2, at=AT)] == [
            one.id for one in now
        ]

    async def test_a_suspect_of_another_namespace_still_comes_last(self, storage: Storage) -> None:
        suspect = await started(storage, flow=FlowKey("a", "f"))
        await storage.take_over(at=AT)
        fine = [an_execution(flow=FlowKey("b", "f")) for _ in range(3)]
        await storage.accept([Arrival((one,)) for one in fine], at=AT, room=0)
        assert [claim.execution.id for claim in await storage.claim(limit=3, at=AT)] == [
            one.id for one in fine
        ]
        assert await claimed_ids(storage) == [suspect.execution.id]

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

    async def test_starts_of_a_suspect_that_went_down_are_counted_until_it_makes_progress(
        self, storage: Storage
    ) -> None:
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

    async def test_a_suspect_that_never_got_to_start_is_not_counted(self, storage: Storage) -> None:
        await started(storage)
        for _ in range(3):
            await storage.take_over(at=AT)
            [claim] = await storage.claim(limit=1, at=AT)
            assert (claim.suspect, claim.suspect_starts) == (True, 0)

    async def test_a_suspect_that_was_handed_back_took_nothing_down(self, storage: Storage) -> None:
        await started(storage)
        await storage.take_over(at=AT)
        for _ in range(3):
            [claim] = await storage.claim(limit=1, at=AT)
            assert (claim.suspect, claim.suspect_starts) == (True, 0)
            await storage.record(step(claim, state=_S.RUNNING, suspect_start=True))
            await storage.record(step(claim, state=_S.RUNNING, release=True))
        [claim] = await storage.claim(limit=1, at=AT)
        await storage.record(step(claim, state=_S.RUNNING, suspect_start=True))
        await storage.take_over(at=AT)
        [claim] = await storage.claim(limit=1, at=AT)
        assert (claim.suspect, claim.suspect_starts) == (True, 1)

    async def test_one_let_in_after_a_restart_begins_without_progress(self, storage: Storage) -> None:
        queue = Queue("q", 1)
        claim = await started(storage, queue=queue)
        await storage.record(step(claim, task_runs=(a_run(),), state=_S.FAILED, progress=True))
        other = await started(storage, queue=queue)
        await storage.restart(Restart(claim.execution.id, AT))
        [again] = (await storage.record(step(other, state=_S.SUCCESS))).claims
        assert again.execution.id == claim.execution.id
        await storage.take_over(at=AT)
        [after] = await storage.claim(limit=1, at=AT)
        assert after.suspect

    # parents that wait

    async def test_a_childs_end_lets_its_waiting_parent_be_claimed(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        await paused(storage, parent, waits_for=(child.execution.id,))
        assert await storage.claim(limit=5, at=AT + 100 * HOUR) == []
        assert await storage.next_wake_at() is None
        recorded = await storage.record(step(child, state=_S.FAILED, at=AT + HOUR))
        assert recorded == Recorded(waiting=1)
        assert await storage.next_wake_at() == AT + HOUR
        assert await claimed_ids(storage, AT + HOUR) == [parent.execution.id]

    async def test_a_childs_end_names_the_parent_that_is_claimed(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        recorded = await storage.record(step(child, state=_S.SUCCESS))
        assert recorded == Recorded(woken=(parent.execution.id,))
        assert await claimed_ids(storage) == []

    async def test_a_childs_end_wakes_no_parent_that_has_ended(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        await storage.record(step(parent, state=_S.FAILED))
        assert await storage.record(step(child, state=_S.SUCCESS)) == Recorded()
        assert (await storage.execution(parent.execution.id)).state is _S.FAILED
        assert await claimed_ids(storage) == []

    async def test_only_a_childs_end_wakes_its_parent(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        await paused(storage, parent, waits_for=(child.execution.id,))
        await storage.record(step(child, state=_S.RUNNING, task_runs=(a_run(),), progress=True))
        await paused(storage, child, wake_at=AT + HOUR)
        assert await claimed_ids(storage) == []

    async def test_waiting_for_what_has_ended_already_is_over_at_once(self, storage: Storage) -> None:
        parent = await started(storage)
        child, other = await child_of(storage, parent), await child_of(storage, parent, path="other")
        await storage.record(step(child, state=_S.SUCCESS))
        await paused(storage, parent, waits_for=(child.execution.id, other.execution.id), wake_at=AT + HOUR)
        assert await claimed_ids(storage) == [parent.execution.id]

    async def test_a_child_that_ends_while_its_parent_lets_go_is_not_missed(self, storage: Storage) -> None:
        for turn in range(2):
            parent = await started(storage)
            child = await child_of(storage, parent)
            let_go = step(parent, state=_S.PAUSED, release=True, waits_for=(child.execution.id,))
            steps = [let_go, step(child, state=_S.SUCCESS)]
            await asyncio.gather(*map(storage.record, steps if turn else reversed(steps)))
            assert await claimed_ids(storage) == [parent.execution.id]

    async def test_a_moment_beside_a_child_still_wakes(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        await paused(storage, parent, waits_for=(child.execution.id,), wake_at=AT + HOUR)
        assert await storage.next_wake_at() == AT + HOUR
        assert await claimed_ids(storage) == []
        assert await claimed_ids(storage, AT + HOUR) == [parent.execution.id]

    async def test_a_child_wakes_its_parent_before_its_moment(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        await paused(storage, parent, waits_for=(child.execution.id,), wake_at=AT + HOUR)
        await storage.record(step(child, state=_S.SUCCESS))
        assert await claimed_ids(storage) == [parent.execution.id]

    async def test_an_end_wakes_the_parent_and_lets_the_next_of_the_queue_in(self, storage: Storage) -> None:
        queue = Queue("q", 1)
        parent = await started(storage)
        child = await child_of(storage, parent, queue=queue)
        second = an_execution(queue=queue)
        await storage.accept([Arrival((second,))], at=AT)
        recorded = await storage.record(step(child, state=_S.SUCCESS))
        assert [claim.execution.id for claim in recorded.claims] == [second.id]
        assert recorded.woken == (parent.execution.id,)

    # what a step brings

    async def test_what_a_step_brings_is_stored_with_it(self, storage: Storage) -> None:
        claim = await started(storage)
        event, started_by_it = an_event(), an_execution()
        recorded = await storage.record(
            step(
                claim, state=_S.SUCCESS, arrivals=(Arrival((started_by_it,), event), Arrival((), an_event()))
            )
        )
        assert recorded == Recorded(waiting=1, born={started_by_it.id: _S.CREATED})
        assert (await storage.event(event.id)).event == event
        assert (await storage.execution(started_by_it.id)).event_id == event.id
        assert await claimed_ids(storage) == [started_by_it.id]

    async def test_what_a_refused_step_brings_is_not_stored(self, storage: Storage) -> None:
        claim = await started(storage)
        await storage.take_over(at=AT)
        with pytest.raises(FenceRefused):
            await storage.record(step(claim, arrivals=(Arrival((an_execution(),), an_event()),)))
        assert (await storage.events(EventFilter(), Page())).items == ()
        assert await ids_of(storage) == [claim.execution.id]

    async def test_a_step_that_goes_on_may_start_a_child(self, storage: Storage) -> None:
        claim = await started(storage)
        child = a_child_of(claim)
        recorded = await storage.record(
            step(claim, task_runs=(a_run("call"),), arrivals=(Arrival((child,)),))
        )
        assert (recorded.claims, recorded.waiting) == ((), 1)
        assert await claimed_ids(storage) == [child.id]
        await storage.record(step(claim, state=_S.SUCCESS))
