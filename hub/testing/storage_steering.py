"""Part of the storage contract: kills that reach every child, and restarts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from hub.errors import Conflict, NotFound
from hub.model.execution import Claim, ExecutionState, Queue
from hub.model.task_run import TaskRunState
from hub.plugin.storage import Arrival, EventFilter, LogLine, Page, Restart, Storage
from hub.testing.storage_samples import (
    AT,
    HOUR,
    a_child_of,
    a_run,
    an_event,
    an_execution,
    child_of,
    claimed_ids,
    kill,
    paths_of,
    paused,
    record,
    started,
    step,
)

_S = ExecutionState


class SteeringContract:
    """What ``request_kill`` and ``restart`` promise."""

    # kill

    async def test_killing_a_claimed_execution_marks_it(self, storage: Storage) -> None:
        claim = await started(storage)
        assert (await kill(storage, claim)).execution.state is _S.KILLING
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
        killed = (await kill(storage, claim)).execution
        assert (killed.state, killed.error) == (_S.KILLED, "enough")
        [left] = (await storage.task_runs(claim.execution.id, Page())).items
        assert left.state is TaskRunState.KILLED
        assert [one.execution.id for one in await storage.claim(limit=5, at=AT)] == [second.id]

    async def test_killing_what_never_started_cancels_it(self, storage: Storage) -> None:
        await started(storage, queue=Queue("q", 1))
        second = an_execution(queue=Queue("q", 1))
        await storage.accept([Arrival((second,))], at=AT)
        killed = await storage.request_kill(second.id, at=AT, reason="no")
        assert killed.execution.state is _S.CANCELLED

    async def test_killing_what_has_ended_changes_nothing(self, storage: Storage) -> None:
        claim = await started(storage)
        await storage.record(step(claim, state=_S.SUCCESS))
        assert (await kill(storage, claim)).execution.state is _S.SUCCESS

    async def test_what_does_not_exist_can_be_neither_killed_nor_restarted(self, storage: Storage) -> None:
        with pytest.raises(NotFound):
            await storage.request_kill("x", at=AT, reason="no")
        with pytest.raises(NotFound):
            await storage.restart(Restart("x", AT))

    async def test_a_kill_and_an_end_take_effect_in_their_order(self, storage: Storage) -> None:
        other, first, second = [await started(storage) for _ in range(3)]
        _, killed, _ = await asyncio.gather(
            record(storage, step(other, state=_S.RUNNING)),
            kill(storage, first),
            record(storage, step(first, state=_S.SUCCESS)),
        )
        assert (killed.execution.state, killed.held) == (_S.KILLING, (first.execution.id,))
        _, killed, _ = await asyncio.gather(
            record(storage, step(second, state=_S.SUCCESS)),
            kill(storage, second),
            record(storage, step(other, state=_S.SUCCESS)),
        )
        assert (killed.execution.state, killed.held) == (_S.SUCCESS, ())

    async def test_a_kill_reaches_children_and_their_children(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        grandchild = await child_of(storage, child)
        sleeping = await paused(storage, await child_of(storage, child, path="b"), wake_at=AT + HOUR)
        unborn = a_child_of(child, "c")
        await storage.accept([Arrival((unborn,))], at=AT, room=0)
        stranger = await started(storage)
        await paused(storage, parent, waits_for=(child.execution.id,))
        await paused(storage, child, waits_for=(grandchild.execution.id,))
        killed = await kill(storage, parent)
        assert killed.held == (grandchild.execution.id,)
        assert set(killed.ended) == {
            parent.execution.id,
            child.execution.id,
            sleeping.execution.id,
            unborn.id,
        }
        assert killed.woken == ()
        assert killed.execution == await storage.execution(parent.execution.id)
        states = [
            (await storage.execution(id)).state
            for id in (
                *(one.execution.id for one in (parent, child, grandchild, sleeping, stranger)),
                unborn.id,
            )
        ]
        assert states == [_S.KILLED, _S.KILLED, _S.KILLING, _S.KILLED, _S.CREATED, _S.CANCELLED]
        assert await claimed_ids(storage, AT + 100 * HOUR) == []
        await storage.record(step(grandchild, state=_S.KILLED))

    async def test_a_kill_names_every_one_that_is_held(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        killed = await kill(storage, parent)
        assert (set(killed.held), killed.ended) == ({parent.execution.id, child.execution.id}, ())
        assert killed.execution.state is _S.KILLING

    async def test_killing_a_child_wakes_its_parent(self, storage: Storage) -> None:
        claimed, waiting = await started(storage), await started(storage)
        one = await paused(storage, await child_of(storage, claimed), wake_at=AT + HOUR)
        other = await paused(storage, await child_of(storage, waiting), wake_at=AT + HOUR)
        await paused(storage, waiting, waits_for=(other.execution.id,))
        assert (await kill(storage, one)).woken == (claimed.execution.id,)
        assert (await kill(storage, other)).woken == ()
        assert await claimed_ids(storage) == [waiting.execution.id]

    async def test_a_kill_leaves_what_an_ended_one_has_started(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        await storage.record(step(parent, state=_S.FAILED))
        killed = await kill(storage, parent, {})
        assert (killed.execution.state, killed.held, killed.ended) == (_S.FAILED, (), ())
        assert (await storage.execution(child.execution.id)).state is _S.CREATED

    async def test_a_killed_child_in_the_queue_of_its_parent_is_not_let_in(self, storage: Storage) -> None:
        queue = Queue("q", 1)
        parent = await started(storage, queue=queue)
        child, stranger = a_child_of(parent, queue=queue), an_execution(queue=queue)
        await storage.accept([Arrival((child,)), Arrival((stranger,))], at=AT)
        await paused(storage, parent, waits_for=(child.id,))
        before = await storage.last_change()
        assert set((await kill(storage, parent)).ended) == {parent.execution.id, child.id}
        assert (await storage.execution(child.id)).state is _S.CANCELLED
        told = [
            (change.id, change.state)
            for one in (await storage.changes(after=before))[0]
            for change in one.changes
        ]
        assert (child.id, "CREATED") not in told
        assert await claimed_ids(storage) == [stranger.id]

    async def test_a_kill_stores_what_the_ends_bring(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        held = await child_of(storage, parent, path="held")
        await paused(storage, child, wake_at=AT + HOUR)
        await paused(storage, parent, waits_for=(child.execution.id,))
        events = {claim.execution.id: an_event() for claim in (parent, child, held)}
        following = an_execution()
        ends = {
            id: {
                _S.KILLED: Arrival((following,) if id == child.execution.id else (), event),
                _S.CANCELLED: Arrival((), an_event()),
            }
            for id, event in events.items()
        }
        await kill(storage, parent, ends)
        found = {stored.event.id for stored in (await storage.events(EventFilter(), Page())).items}
        assert found == {events[parent.execution.id].id, events[child.execution.id].id}
        assert await claimed_ids(storage) == [following.id]

    async def test_a_kill_that_does_not_know_of_a_child_changes_nothing(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        ended = await child_of(storage, parent, path="ended")
        await storage.record(step(ended, state=_S.SUCCESS))
        await paused(storage, parent, waits_for=(child.execution.id,))
        before = await storage.last_change()
        with pytest.raises(Conflict):
            await kill(storage, parent, {parent.execution.id: {_S.KILLED: Arrival((), an_event())}})
        assert (await storage.execution(parent.execution.id)).state is _S.PAUSED
        assert (await storage.events(EventFilter(), Page())).items == ()
        assert await storage.last_change() == before
        killed = await kill(storage, parent, {parent.execution.id: {}, child.execution.id: {}})
        assert killed.ended == (parent.execution.id,)

    async def test_a_child_that_comes_after_the_kill_of_its_parent_never_starts(
        self, storage: Storage
    ) -> None:
        held, waiting = await started(storage), await started(storage)
        await paused(storage, waiting, wake_at=AT + HOUR)
        for parent in (held, waiting):
            await kill(storage, parent)
            child = a_child_of(parent)
            event = an_event()
            ends = {child.id: {_S.CANCELLED: Arrival((), event)}}
            [accepted] = await storage.accept([Arrival((child,), ends=ends)], at=AT)
            assert (accepted.claims, accepted.waiting) == ((), 0)
            found = await storage.execution(child.id)
            assert (found.state, found.ended_at) == (_S.CANCELLED, AT)
            assert (await storage.event(event.id)).event == event
        assert await claimed_ids(storage, AT + HOUR) == []

    # restart

    async def _failed(self, storage: Storage, *paths: str, **changes: Any) -> Claim:
        claim = await started(storage, **changes)
        runs = tuple(a_run(path, outputs={"path": path}) for path in paths)
        end = {"state": _S.FAILED, "error": "broken", "outputs": {"x": 1}, "progress": True}
        await storage.record(step(claim, task_runs=runs, at=AT + HOUR, **end))
        return claim

    async def test_a_restarted_execution_may_be_claimed_again(self, storage: Storage) -> None:
        claim = await self._failed(storage, "a", labels={"team": "a"}, inputs={"n": 1})
        restarted = await storage.restart(Restart(claim.execution.id, AT + 2 * HOUR))
        found = await storage.execution(claim.execution.id)
        assert restarted == found
        assert (found.state, found.ended_at, found.error, found.outputs) == (_S.CREATED, None, None, None)
        assert (found.restarts, found.labels, found.inputs) == (1, {"team": "a"}, {"n": 1})
        assert found.started_at is None  # its time begins anew
        assert await paths_of(storage, claim.execution.id) == ["a"]
        assert await storage.claim(limit=5, at=AT + HOUR) == []
        [again] = await storage.claim(limit=5, at=AT + 2 * HOUR)
        assert (again.execution.id, again.fence, again.fresh) == (claim.execution.id, 2, False)
        assert (again.suspect, again.execution.restarts) == (False, 1)

    async def test_every_restart_is_counted_and_every_old_fence_refused(self, storage: Storage) -> None:
        claim = await self._failed(storage)
        for count in (1, 2):
            assert (await storage.restart(Restart(claim.execution.id, AT))).restarts == count
            [again] = await storage.claim(limit=1, at=AT)
            assert again.fence == claim.fence + 1
            claim = again
            await storage.record(step(claim, state=_S.FAILED))

    async def test_restart_forgets_a_path_and_all_below_it(self, storage: Storage) -> None:
        gone = ["each", "each[0]/a", "each[10]/in[1]/b", "each/x", "other[1]/a"]
        kept = ["each2", "each2[0]/a", "other", "other[0]/a", "other[11]/a", "in/each"]
        claim = await self._failed(storage, *gone, *kept)
        await storage.restart(Restart(claim.execution.id, AT, forget=("each", "other[1]", "unknown")))
        assert await paths_of(storage, claim.execution.id) == kept
        assert await storage.scope_task_runs(claim.execution.id, "each[0]/") == {}

    async def test_restart_opens_task_runs_again_as_it_is_told(self, storage: Storage) -> None:
        claim = await started(storage)
        before = a_run(
            "each[0]/a",
            TaskRunState.FAILED,
            outputs={"x": 1},
            error="broken",
            decisions={"deadline": 1},
            started_at=AT,
            ended_at=AT,
        )
        untouched = a_run("b")
        await storage.record(step(claim, task_runs=(before, untouched), state=_S.FAILED))
        opened = a_run("each[0]/a", TaskRunState.CREATED, wake_at=AT + HOUR)
        await storage.restart(Restart(claim.execution.id, AT, reopen=(opened,)))
        assert (await storage.task_runs(claim.execution.id, Page())).items == (opened, untouched)

    async def test_restart_stands_in_line_where_the_queue_is_full(self, storage: Storage) -> None:
        queue = Queue("q", 1)
        claim = await self._failed(storage, queue=queue)
        other = await started(storage, queue=queue)
        assert (await storage.restart(Restart(claim.execution.id, AT))).state is _S.QUEUED
        assert await claimed_ids(storage) == []
        [again] = (await storage.record(step(other, state=_S.SUCCESS))).claims
        assert (again.execution.id, again.fence, again.fresh) == (claim.execution.id, 2, False)

    async def test_restart_takes_its_place_where_the_queue_has_room(self, storage: Storage) -> None:
        queue = Queue("q", 1)
        claim = await self._failed(storage, queue=queue)
        assert (await storage.restart(Restart(claim.execution.id, AT))).state is _S.CREATED
        [accepted] = await storage.accept([Arrival((an_execution(queue=queue),))], at=AT)
        assert accepted.claims == ()

    async def test_only_what_ended_badly_can_be_restarted(self, storage: Storage) -> None:
        live, good = await started(storage), await started(storage)
        await storage.record(step(good, state=_S.SUCCESS, task_runs=(a_run(),)))
        before = await storage.last_change()
        for claim in (live, good):
            with pytest.raises(Conflict):
                await storage.restart(Restart(claim.execution.id, AT, forget=("a",)))
        assert await paths_of(storage, good.execution.id) == ["a"]
        assert await storage.last_change() == before

    @pytest.mark.parametrize("state", [_S.WARNING, _S.FAILED, _S.KILLED, _S.CANCELLED])
    async def test_every_bad_end_can_be_restarted(self, storage: Storage, state: ExecutionState) -> None:
        claim = await started(storage)
        await storage.record(step(claim, state=state))
        assert (await storage.restart(Restart(claim.execution.id, AT))).state is _S.CREATED

    async def test_a_restarted_child_wakes_its_parent_by_its_next_end(self, storage: Storage) -> None:
        parent = await started(storage)
        child = await child_of(storage, parent)
        await storage.record(step(child, state=_S.FAILED))
        await storage.restart(Restart(child.execution.id, AT))
        await paused(storage, parent, waits_for=(child.execution.id,))
        [again] = await storage.claim(limit=5, at=AT)
        assert again.execution.id == child.execution.id
        await storage.record(step(again, state=_S.SUCCESS))
        assert await claimed_ids(storage) == [parent.execution.id]

    async def test_the_log_goes_on_after_a_restart(self, storage: Storage) -> None:
        claim = await started(storage)
        await storage.record(step(claim, state=_S.FAILED, logs=(LogLine(AT, "INFO", "one"),)))
        await storage.restart(Restart(claim.execution.id, AT))
        [again] = await storage.claim(limit=1, at=AT)
        await storage.record(step(again, logs=(LogLine(AT, "INFO", "two"),)))
        found = await storage.logs(claim.execution.id)
        assert [(line.number, line.message) for line in found] == [(1, "one"), (2, "two")]
