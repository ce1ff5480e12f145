"""Part of the storage contract: events, deliveries, dead letters, queues, and what a flow's limit decides."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from hub.errors import FenceRefused, NotFound
from hub.model.event import Verdict
from hub.model.execution import Execution, ExecutionState, Parent, Queue, QueueBehavior
from hub.model.ids import FlowKey, derived_id
from hub.plugin.storage import (
    Arrival,
    EventFilter,
    ExecutionFilter,
    Page,
    Storage,
    TriggerMove,
    TriggerState,
)
from hub.testing.storage_samples import (
    AT,
    FLOW,
    TRIGGER,
    a_delivery,
    a_run,
    an_event,
    an_event_from_outside,
    an_execution,
    ids_of,
    started,
    step,
)

_S = ExecutionState


class AcceptingContract:
    """What ``accept`` promises."""

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

    async def test_known_delivery_keys_are_found_with_their_events(self, storage: Storage) -> None:
        event = an_event()
        expires = timedelta(hours=1)
        await storage.accept([Arrival((), event, a_delivery("a", expires=expires))], at=AT)
        asked = ["a", "b"]
        scope = str(TRIGGER)
        assert await storage.known_deliveries(scope, asked, at=AT) == {"a": event.id}
        assert await storage.known_deliveries("elsewhere", asked, at=AT) == {}
        assert await storage.known_deliveries(scope, asked, at=AT + expires) == {}

    async def test_executions_of_an_event_are_found_with_those_of_its_replays(self, storage: Storage) -> None:
        event = an_event()
        again = replace(an_event(), replay_of=event.id)
        first, second = an_execution(), an_execution()
        await storage.accept([Arrival((first,), event), Arrival((second,), again)], at=AT)
        alone = await storage.executions_of_events([event.id, "x"])
        both = await storage.executions_of_events([event.id], with_replays=True)
        assert [one.id for one in alone[event.id]] == [first.id]
        assert list(alone) == [event.id]
        assert [one.id for one in both[event.id]] == [first.id, second.id]

    async def test_an_execution_is_born_claimed_and_fresh(self, storage: Storage) -> None:
        claim = await started(storage)
        assert (claim.fence, claim.fresh, claim.suspect) == (1, True, False)
        assert await storage.claim(limit=10, at=AT) == []

    async def test_an_unclaimed_execution_waits_to_be_claimed(self, storage: Storage) -> None:
        [accepted] = await storage.accept([Arrival((an_execution(),))], at=AT, room=0)
        assert (accepted.claims, accepted.waiting) == ((), 1)
        [claim] = await storage.claim(limit=10, at=AT)
        assert claim.fresh

    async def test_no_more_are_born_claimed_than_there_is_room_for(self, storage: Storage) -> None:
        new = [an_execution() for _ in range(5)]
        accepted = await storage.accept([Arrival((one,)) for one in new[:4]], at=AT, room=2)
        [last] = await storage.accept([Arrival((new[4],))], at=AT, room=1)
        assert [len(one.claims) for one in (*accepted, last)] == [1, 1, 0, 0, 1]
        assert [one.waiting for one in (*accepted, last)] == [0, 0, 1, 1, 0]
        left = [claim.execution.id for claim in await storage.claim(limit=10, at=AT)]
        assert left == [new[2].id, new[3].id]

    async def test_what_is_born_ended_takes_no_room(self, storage: Storage) -> None:
        queue = Queue("q", 1, QueueBehavior.CANCEL)
        await started(storage, queue=queue)
        over, free = an_execution(queue=queue), an_execution()
        one, other = await storage.accept([Arrival((over,)), Arrival((free,))], at=AT, room=1)
        assert (len(one.claims), len(other.claims)) == (0, 1)

    async def test_a_namespace_that_has_little_under_way_goes_first(self, storage: Storage) -> None:
        flood = [an_execution() for _ in range(4)]
        calm = an_execution(flow=FlowKey("calm", "f"))
        for one in (*flood, calm):
            await storage.accept([Arrival((one,))], at=AT, room=0)
        held = {FLOW.namespace: 3, "calm": 1}
        claimed: list[str] = []
        for _ in range(3):
            [claim] = await storage.claim(limit=1, at=AT, held=held)
            claimed.append(claim.execution.id)
            held[claim.execution.flow.namespace] += 1
        assert claimed == [calm.id, flood[0].id, flood[1].id]

    async def test_it_is_said_how_each_execution_was_born(self, storage: Storage) -> None:
        line, cancel = Queue("line", 1), Queue("c", 1, QueueBehavior.CANCEL)
        await started(storage, queue=line)
        await started(storage, queue=cancel)
        free, waiting, over, by_its_end = (
            an_execution(),
            an_execution(queue=line),
            an_execution(queue=cancel),
            an_execution(),
        )
        known = replace(an_execution(), is_derived=True)
        end = Arrival((by_its_end,), an_event())
        given = [
            Arrival((free,)),
            Arrival((waiting,)),
            Arrival((over,), ends={over.id: {_S.CANCELLED: end}}),
            Arrival((known,)),
            Arrival((known,)),
        ]
        accepted = await storage.accept(given, at=AT)
        assert [one.born for one in accepted] == [
            {free.id: _S.CREATED},
            {waiting.id: _S.QUEUED},
            {over.id: _S.CANCELLED, by_its_end.id: _S.CREATED},
            {known.id: _S.CREATED},
            {},
        ]

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

    # batches

    async def test_an_event_waits_until_a_batch_takes_it_up(self, storage: Storage) -> None:
        one, two, other = an_event(), an_event(), an_event_from_outside()
        await storage.accept([Arrival((), one, waits=True), Arrival((), two, waits=True)], at=AT)
        await storage.accept([Arrival((), an_event()), Arrival((), other, waits=True)], at=AT)
        assert await self._waiting(storage) == [one.id, two.id]
        assert (await storage.event(one.id)).batch == ""
        batch, execution = an_event(), an_execution()
        [accepted] = await storage.accept([Arrival((execution,), batch, takes=(one.id,))], at=AT)
        assert len(accepted.claims) == 1
        assert await self._waiting(storage) == [two.id]
        batches = [(await storage.event(event.id)).batch for event in (one, two, batch)]
        assert batches == [batch.id, "", None]

    async def test_waiting_events_come_in_pages_oldest_first(self, storage: Storage) -> None:
        events = [an_event() for _ in range(5)]
        await storage.accept([Arrival((), event, waits=True) for event in events], at=AT)
        first = await storage.waiting_events(TRIGGER, Page(3))
        rest = await storage.waiting_events(TRIGGER, Page(3, first.next_cursor))
        found = [stored.event.id for stored in (*first.items, *rest.items)]
        assert (found, rest.next_cursor) == ([event.id for event in events], None)

    async def test_of_two_batches_that_take_up_the_same_event_one_is_refused_whole(
        self, storage: Storage
    ) -> None:
        events = [an_event() for _ in range(3)]
        await storage.accept([Arrival((), event, waits=True) for event in events], at=AT)
        one, two, three = (event.id for event in events)
        batches = [an_event(), an_event()]
        answers = await asyncio.gather(
            storage.accept([Arrival((an_execution(),), batches[0], takes=(one, two))], at=AT),
            storage.accept([Arrival((an_execution(),), batches[1], takes=(two, three))], at=AT),
            return_exceptions=True,
        )
        assert [isinstance(answer, FenceRefused) for answer in answers] == [False, True]
        assert await self._waiting(storage) == [three]
        assert len(await ids_of(storage)) == 1
        with pytest.raises(NotFound):
            await storage.event(batches[1].id)
        with pytest.raises(FenceRefused):
            await storage.accept([Arrival((), an_event(), takes=("unknown",))], at=AT)

    async def test_a_repeat_of_one_that_a_batch_took_up_gives_what_the_batch_started(
        self, storage: Storage
    ) -> None:
        event, batch, execution = an_event(), an_event(), an_execution()
        first = Arrival((), event, a_delivery(), waits=True)
        again = Arrival((), an_event(), a_delivery(), waits=True)
        await storage.accept([first], at=AT)
        [waiting] = await storage.accept([again], at=AT)
        await storage.accept([Arrival((execution,), batch, takes=(event.id,))], at=AT)
        [taken] = await storage.accept([again], at=AT)
        receipts = [waiting.receipt, taken.receipt]
        assert [(one.event_id, one.duplicate) for one in receipts] == [(event.id, True)] * 2
        assert [one.execution_ids for one in receipts] == [(), (execution.id,)]
        assert await self._waiting(storage) == []
        found = await storage.executions_of_events([event.id, batch.id])
        assert {id: [one.id for one in executions] for id, executions in found.items()} == {
            event.id: [execution.id],
            batch.id: [execution.id],
        }

    async def _waiting(self, storage: Storage) -> list[str]:
        found = await storage.waiting_events(TRIGGER, Page())
        return [stored.event.id for stored in found.items]

    # deliveries

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
        assert len((await storage.events(EventFilter(), Page())).items) == 1

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
        assert (await storage.events(EventFilter(), Page())).items == ()
        assert await storage.trigger_states() == {TRIGGER: TriggerState({"last": 1}, 1)}

    # events from elsewhere, dead letters

    async def test_an_event_that_came_by_no_flow_is_stored_as_it_is(self, storage: Storage) -> None:
        event = an_event_from_outside()
        await storage.accept([Arrival((), event)], at=AT)
        assert (await storage.event(event.id)).event == event
        [listed] = (await storage.events(EventFilter(), Page())).items
        assert listed.event == event

    async def test_an_event_says_what_it_repeats_and_how_deep_it_is(self, storage: Storage) -> None:
        event = replace(an_event(), replay_of="first", depth=3, trigger=None)
        await storage.accept([Arrival((), event)], at=AT)
        assert (await storage.event(event.id)).event == event

    async def test_repeats_of_a_delivery_are_counted(self, storage: Storage) -> None:
        first = an_event()
        await storage.accept([Arrival((), first, a_delivery())], at=AT)
        assert (await storage.event(first.id)).repeats == 0
        for _ in range(2):
            await storage.accept([Arrival((), an_event(), a_delivery())], at=AT)
        await storage.accept([Arrival((), an_event(), a_delivery(body="h2"))], at=AT)
        assert (await storage.event(first.id)).repeats == 2

    async def test_dead_letters_are_listed_until_they_are_settled(self, storage: Storage) -> None:
        dead, fine = an_event(), an_event_from_outside()
        await storage.accept([Arrival((), dead, dead="inputs are wrong"), Arrival((), fine)], at=AT)
        [listed] = (await storage.events(EventFilter(dead=True), Page())).items
        assert (listed.event.id, listed.dead) == (dead.id, "inputs are wrong")
        [other] = (await storage.events(EventFilter(dead=False), Page())).items
        assert other.event.id == fine.id
        await storage.settle_dead(dead.id)
        assert (await storage.events(EventFilter(dead=True), Page())).items == ()
        assert (await storage.event(dead.id)).dead is None

    async def test_only_a_dead_letter_can_be_settled(self, storage: Storage) -> None:
        fine = an_event()
        await storage.accept([Arrival((), fine)], at=AT)
        for event_id in (fine.id, "unknown"):
            with pytest.raises(NotFound):
                await storage.settle_dead(event_id)

    async def test_events_are_filtered_and_their_pages_meet(self, storage: Storage) -> None:
        events = [an_event() for _ in range(5)]
        others = [an_event_from_outside(), replace(an_event(), flow="bills")]
        await storage.accept([Arrival((), event) for event in (*events, *others)], at=AT)
        wanted = EventFilter(namespace="shop", flow="orders")
        first = await storage.events(wanted, Page(3))
        rest = await storage.events(wanted, Page(3, first.next_cursor))
        found = [stored.event.id for stored in (*first.items, *rest.items)]
        assert (found, rest.next_cursor) == ([event.id for event in events[::-1]], None)

    async def test_the_executions_of_events_are_found_by_event(self, storage: Storage) -> None:
        event, quiet = an_event(), an_event()
        pair = (an_execution(), an_execution(trigger="other"))
        await storage.accept([Arrival(pair, event), Arrival((), quiet), Arrival((an_execution(),))], at=AT)
        found = await storage.executions_of_events([event.id, quiet.id, "unknown"])
        assert {id: [one.id for one in them] for id, them in found.items()} == {
            event.id: [pair[0].id, pair[1].id]
        }
        assert found[event.id][0].trigger_data is None

    # where an execution comes from

    async def test_an_execution_keeps_its_parent_depth_and_original(self, storage: Storage) -> None:
        parent = await started(storage)
        origin = {"parent": Parent(parent.execution.id, "each[2]/call"), "depth": 4, "replay_of": "first"}
        born = await started(storage, **origin)

        def origin_of(execution: Execution) -> dict[str, object]:
            return {name: getattr(execution, name) for name in origin}

        assert origin_of(born.execution) == origin
        assert origin_of(await storage.execution(born.execution.id)) == origin
        assert (await storage.execution(born.execution.id)).restarts == 0
        assert await ids_of(storage, parent=parent.execution.id) == [born.execution.id]

    async def test_a_derived_execution_is_stored_once(self, storage: Storage) -> None:
        child = an_execution(id=derived_id("parent", "path"), is_derived=True, task_runs=(a_run(),))
        [first] = await storage.accept([Arrival((child,))], at=AT)
        await storage.record(step(first.claims[0], task_runs=(a_run("b"),), state=_S.SUCCESS))
        other = replace(child, inputs={"other": 1})
        [again] = await storage.accept([Arrival((other,))], at=AT)
        assert (again.claims, again.waiting) == ((), 0)
        assert again.receipt.execution_ids == (child.id,)
        found = await storage.execution(child.id)
        assert (found.inputs, found.state) == ({}, _S.SUCCESS)

    async def test_a_derived_execution_twice_in_one_call_is_stored_once(self, storage: Storage) -> None:
        child = an_execution(id=derived_id("parent", "path"), is_derived=True)
        one, other = await storage.accept([Arrival((child,)), Arrival((child,))], at=AT)
        assert (len(one.claims), other.claims) == (1, ())
        assert await ids_of(storage) == [child.id]

    async def test_one_that_is_born_with_task_runs_is_not_fresh(self, storage: Storage) -> None:
        runs = (a_run("a", outputs={"x": 1}), a_run("each[0]/b", decisions={"values": [1]}))
        claim = await started(storage, task_runs=runs)
        assert not claim.fresh
        assert (await storage.task_runs(claim.execution.id, Page())).items == runs
        await storage.accept([Arrival((an_execution(task_runs=runs),))], at=AT, room=0)
        [other] = await storage.claim(limit=1, at=AT)
        assert (other.fence, other.fresh) == (1, False)

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

    @pytest.mark.parametrize(
        ("behavior", "state"), [(QueueBehavior.CANCEL, _S.CANCELLED), (QueueBehavior.FAIL, _S.FAILED)]
    )
    async def test_one_that_is_born_ended_brings_what_its_end_brings(
        self, storage: Storage, behavior: QueueBehavior, state: ExecutionState
    ) -> None:
        queue = Queue("q", 1, behavior)
        await started(storage, queue=queue)
        second, following, event = an_execution(queue=queue), an_execution(), an_event()
        ends = {second.id: {state: Arrival((following,), event), _S.KILLED: Arrival((), an_event())}}
        [accepted] = await storage.accept([Arrival((second,), ends=ends)], at=AT)
        assert [claim.execution.id for claim in accepted.claims] == [following.id]
        assert accepted.receipt.execution_ids == (second.id,)
        assert [stored.event for stored in (await storage.events(EventFilter(), Page())).items] == [event]

    async def test_one_that_is_not_born_ended_brings_nothing(self, storage: Storage) -> None:
        queue = Queue("q", 1, QueueBehavior.CANCEL)
        first = an_execution(queue=queue)
        ends = {first.id: {_S.CANCELLED: Arrival((an_execution(),), an_event())}}
        [accepted] = await storage.accept([Arrival((first,), ends=ends)], at=AT)
        assert [claim.execution.id for claim in accepted.claims] == [first.id]
        assert (await storage.events(EventFilter(), Page())).items == ()
