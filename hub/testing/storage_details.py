"""Part of the storage contract: every column is kept, every filter filters, every bound binds.

Each test here was written for a bug that a storage could have without any other test noticing.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hub.errors import FenceRefused, StorageError
from hub.model.event import Verdict
from hub.model.execution import Claim, ExecutionState, Queue
from hub.model.ids import FlowKey, TriggerKey
from hub.model.task_run import TaskRunState
from hub.plugin.storage import (
    Arrival,
    DeliveryKey,
    EventFilter,
    ExecutionFilter,
    LogLine,
    Page,
    Restart,
    Storage,
    TriggerMove,
    TriggerState,
)
from hub.testing.storage_samples import (
    AT,
    FLOW,
    HOUR,
    TRIGGER,
    a_child_of,
    a_delivery,
    a_run,
    an_event,
    an_event_from_outside,
    an_execution,
    child_of,
    claimed_ids,
    ids_of,
    kill,
    paths_of,
    paused,
    started,
    step,
)

_S = ExecutionState
_BIG = 2**70 + 1
"""An integer that no float is equal to; 2**70 itself is one."""


class DetailsContract:
    """What is easily lost."""

    # what is kept

    async def test_integers_stay_exact_wherever_data_is_kept(self, storage: Storage) -> None:
        event, execution = an_event({"n": _BIG}), an_execution(inputs={"n": _BIG})
        move = TriggerMove(TRIGGER, {"n": _BIG}, 0)
        [accepted] = await storage.accept([Arrival((execution,), event)], at=AT, move=move)
        run = a_run(outputs={"n": _BIG}, decisions={"n": _BIG})
        await storage.record(
            step(accepted.claims[0], task_runs=(run,), state=_S.SUCCESS, outputs={"n": _BIG})
        )
        found = await storage.execution(execution.id)
        [kept] = (await storage.task_runs(execution.id, Page())).items
        [listed] = (await storage.executions(ExecutionFilter(), Page())).items
        values = [
            (await storage.event(event.id)).event.data,
            found.trigger_data,
            found.inputs,
            found.outputs,
            listed.outputs,
            kept.outputs,
            kept.decisions,
            (await storage.trigger_states())[TRIGGER].state,
        ]
        assert values == [{"n": _BIG}] * len(values)

    async def test_an_end_keeps_its_outputs_and_its_error(self, storage: Storage) -> None:
        good, bad = await started(storage), await started(storage)
        await storage.record(step(good, state=_S.SUCCESS, outputs={"x": [1]}, at=AT + HOUR))
        await storage.record(step(bad, state=_S.FAILED, error="no good"))
        found = await storage.execution(good.execution.id)
        assert (found.outputs, found.error, found.ended_at) == ({"x": [1]}, None, AT + HOUR)
        found = await storage.execution(bad.execution.id)
        assert (found.outputs, found.error, found.ended_at) == (None, "no good", AT)

    async def test_what_a_later_step_leaves_open_stays(self, storage: Storage) -> None:
        claim = await started(storage)
        await storage.record(step(claim, state=_S.RUNNING, outputs={"x": 1}, error="a warning"))
        await storage.record(step(claim, state=_S.WARNING, at=AT + HOUR))
        found = await storage.execution(claim.execution.id)
        assert (found.state, found.outputs, found.error) == (_S.WARNING, {"x": 1}, "a warning")

    async def test_an_execution_started_when_it_first_ran(self, storage: Storage) -> None:
        claim = await started(storage)
        assert (await storage.execution(claim.execution.id)).started_at is None
        for hours in range(1, 4):
            await storage.record(step(claim, state=_S.RUNNING, at=AT + hours * HOUR))
        await storage.record(step(claim, state=_S.RUNNING, at=AT + 4 * HOUR, started_at=AT + 4 * HOUR))
        await storage.record(step(claim, state=_S.SUCCESS, at=AT + 5 * HOUR))
        found = await storage.execution(claim.execution.id)
        assert (found.started_at, found.ended_at) == (AT + HOUR, AT + 5 * HOUR)

    async def test_a_flow_keeps_everything_it_was_put_with(self, storage: Storage) -> None:
        summary = {"triggers": [], "labels": {"a": "b"}}
        for revision, disabled in enumerate((True, False, True), start=1):
            put, _ = await storage.put_flow(
                FLOW,
                source="one",
                source_hash=f"h{revision}",
                summary=summary,
                disabled=disabled,
                origin="/f",
                at=AT,
            )
            [listed] = await storage.flows()
            assert put == listed == await storage.flow(FLOW)
            assert (put.key, put.revision, put.source_hash) == (FLOW, revision, f"h{revision}")
            assert (put.disabled, put.origin, put.updated_at) == (disabled, "/f", AT)
            assert (put.summary, put.retired_at) == (summary, None)

    async def test_log_lines_keep_everything(self, storage: Storage) -> None:
        claim = await started(storage)
        line = LogLine(AT + HOUR, "ERROR", "no \u2028 good", "each[3]/book", 2, "stderr")
        await storage.record(step(claim, logs=(line,)))
        assert await storage.logs(claim.execution.id) == [replace(line, number=1)]

    # claims

    @pytest.mark.parametrize("way", ["waited", "queued", "taken over", "released", "restarted"])
    async def test_every_claim_brings_all_of_its_execution(self, storage: Storage, way: str) -> None:
        event, queue = an_event({"body": {"n": 1}}), Queue("q", 1)
        execution = an_execution(inputs={"a": 1}, labels={"team": "x"}, queue=queue)
        first = await started(storage, queue=queue) if way == "queued" else None
        room = 0 if way == "waited" else None
        [accepted] = await storage.accept([Arrival((execution,), event)], at=AT, room=room)
        claim = await self._claimed_again(storage, way, first, accepted.claims)
        stored = await storage.execution(execution.id)
        assert claim.execution == stored
        assert stored.trigger_data == {"body": {"n": 1}}
        assert (stored.inputs, stored.labels, stored.event_id) == ({"a": 1}, {"team": "x"}, event.id)

    async def _claimed_again(
        self, storage: Storage, way: str, first: Claim | None, born: tuple[Claim, ...]
    ) -> Claim:
        if first is not None:
            [claim] = (await storage.record(step(first, state=_S.SUCCESS))).claims
            return claim
        if way == "taken over":
            await storage.take_over(at=AT)
        elif way == "released":
            await paused(storage, born[0])
        elif way == "restarted":
            await storage.record(step(born[0], state=_S.FAILED))
            await storage.restart(Restart(born[0].execution.id, AT))
        [claim] = await storage.claim(limit=5, at=AT)
        return claim

    async def test_a_claim_takes_no_more_than_it_asked_for(self, storage: Storage) -> None:
        arrivals = [Arrival((an_execution(),)) for _ in range(5)]
        await storage.accept(arrivals, at=AT, room=0)
        counts = [len(await storage.claim(limit=limit, at=AT)) for limit in (2, 0, 2, 2)]
        assert counts == [2, 0, 2, 1]

    async def test_a_take_over_leaves_what_waits_alone(self, storage: Storage) -> None:
        queue = Queue("q", 1)
        sleeping = await paused(storage, await started(storage), wake_at=AT + HOUR)
        parent = await started(storage)
        child = await child_of(storage, parent)
        await paused(storage, parent, waits_for=(child.execution.id,))
        await paused(storage, child, wake_at=AT + 2 * HOUR)
        await started(storage, queue=queue)
        queued = an_execution(queue=queue)
        await storage.accept([Arrival((queued,))], at=AT)
        assert await storage.take_over(at=AT) == 1
        [claim] = await storage.claim(limit=10, at=AT)
        assert claim.suspect
        assert await claimed_ids(storage, AT + timedelta(minutes=90)) == [sleeping.execution.id]
        assert (await storage.execution(queued.id)).state is _S.QUEUED
        assert (await storage.execution(sleeping.execution.id)).wake_at == AT + HOUR

    async def test_progress_counts_for_one_claim_only(self, storage: Storage) -> None:
        claim = await started(storage)
        for _ in range(2):
            await storage.record(step(claim, task_runs=(a_run(),), progress=True))
            await storage.take_over(at=AT)
            [claim] = await storage.claim(limit=1, at=AT)
            assert not claim.suspect
        # this one ended no task run under its own claim
        await storage.take_over(at=AT)
        [claim] = await storage.claim(limit=1, at=AT)
        assert claim.suspect

    @pytest.mark.parametrize("waits", ["for a moment", "for another", "for an ended one", "for nothing"])
    async def test_what_is_killed_while_it_lets_go_is_claimed_at_once(
        self, storage: Storage, waits: str
    ) -> None:
        claim = await started(storage)
        other, ended = await started(storage), await started(storage)
        await storage.record(step(ended, state=_S.SUCCESS))
        changes: dict[str, dict[str, Any]] = {
            "for a moment": {"wake_at": AT + 100 * HOUR},
            "for another": {"waits_for": (other.execution.id,)},
            "for an ended one": {"waits_for": (ended.execution.id,)},
            "for nothing": {},
        }
        await kill(storage, claim)
        # this one has been ready for longer
        older = an_execution(created_at=AT - HOUR)
        await storage.accept([Arrival((older,))], at=AT, room=0)
        await paused(storage, claim, **changes[waits])
        [again, behind] = await storage.claim(limit=5, at=AT)
        assert behind.execution.id == older.id
        assert (again.execution.id, again.execution.state) == (claim.execution.id, _S.KILLING)
        await storage.record(step(again, state=_S.KILLED))
        assert (await storage.execution(claim.execution.id)).state is _S.KILLED

    # queues

    async def test_a_raised_limit_lets_in_as_many_as_it_has_room_for(self, storage: Storage) -> None:
        first = await started(storage, queue=Queue("q", 1))
        kept_out = an_execution(queue=Queue("q", 1))
        more = [an_execution(queue=Queue("q", 3)) for _ in range(3)]
        await storage.accept([Arrival((one,)) for one in (kept_out, *more)], at=AT)
        assert [(await storage.execution(one.id)).state for one in (kept_out, *more)] == [_S.QUEUED] * 4
        recorded = await storage.record(step(first, state=_S.SUCCESS))
        assert [claim.execution.id for claim in recorded.claims] == [
            kept_out.id,
            *(one.id for one in more[:2]),
        ]

    async def test_queues_are_told_apart_by_their_keys(self, storage: Storage) -> None:
        first, other = (
            await started(storage, queue=Queue("q", 1)),
            await started(storage, queue=Queue("r", 1)),
        )
        second = an_execution(queue=Queue("r", 1))
        await storage.accept([Arrival((second,))], at=AT)
        assert (await storage.record(step(first, state=_S.SUCCESS))).claims == ()
        [claim] = (await storage.record(step(other, state=_S.SUCCESS))).claims
        assert claim.execution.id == second.id

    # triggers and deliveries

    async def test_a_trigger_moves_step_by_step_and_only_from_where_it_stands(self, storage: Storage) -> None:
        for version in range(3):
            await storage.accept([], at=AT, move=TriggerMove(TRIGGER, {"last": version}, version))
        for expected in (0, 1, 2, 4, 99):
            with pytest.raises(FenceRefused):
                await storage.accept([], at=AT, move=TriggerMove(TRIGGER, {"last": "x"}, expected))
        assert await storage.trigger_states() == {TRIGGER: TriggerState({"last": 2}, 3)}

    async def test_a_trigger_moves_alone(self, storage: Storage) -> None:
        others = [
            TriggerKey(*FLOW, "other"),
            TriggerKey("shop", "bills", TRIGGER.trigger),
            TriggerKey("mill", FLOW.id, TRIGGER.trigger),
        ]
        for key in (TRIGGER, *others):
            await storage.accept([], at=AT, move=TriggerMove(key, {"of": str(key)}, 0))
        await storage.accept([], at=AT, move=TriggerMove(TRIGGER, {"of": "later"}, 1))
        assert await storage.trigger_states() == {
            TRIGGER: TriggerState({"of": "later"}, 2),
            **{key: TriggerState({"of": str(key)}, 1) for key in others},
        }

    async def test_a_delivery_key_is_known_in_its_own_scope_only(self, storage: Storage) -> None:
        events = {scope: an_event() for scope in ("one", "other")}
        for scope, event in events.items():
            key = DeliveryKey(scope, "same", "h1", AT + HOUR)
            [accepted] = await storage.accept([Arrival((an_execution(),), event, key)], at=AT)
            assert (accepted.receipt.event_id, accepted.receipt.duplicate) == (event.id, False)
        for scope, event in events.items():
            assert await storage.known_deliveries(scope, ["same"], at=AT) == {"same": event.id}
            [again] = await storage.accept(
                [Arrival((), an_event(), DeliveryKey(scope, "same", "h1", AT + HOUR))], at=AT
            )
            assert (again.receipt.event_id, again.receipt.duplicate) == (event.id, True)

    async def test_a_key_that_is_used_again_after_its_time_is_known_for_its_new_time(
        self, storage: Storage
    ) -> None:
        first, second = an_event(), an_event()
        await storage.accept([Arrival((), first, a_delivery(body="h1", expires=HOUR))], at=AT)
        later = AT + 2 * HOUR
        await storage.accept([Arrival((), second, a_delivery(body="h2", expires=4 * HOUR))], at=later)
        for hours, body in ((2, "h2"), (3, "h2")):
            [again] = await storage.accept(
                [Arrival((), an_event(), a_delivery(body=body, expires=9 * HOUR))], at=AT + hours * HOUR
            )
            assert (again.receipt.event_id, again.receipt.duplicate) == (second.id, True)
        [other] = await storage.accept([Arrival((), an_event(), a_delivery(body="h1"))], at=AT + 3 * HOUR)
        assert (other.receipt.event_id, other.receipt.conflict) == (second.id, True)
        [free] = await storage.accept([Arrival((), an_event(), a_delivery())], at=AT + 4 * HOUR)
        assert not free.receipt.duplicate

    async def test_a_conflict_starts_nothing_and_counts_as_no_repeat(self, storage: Storage) -> None:
        first = an_event()
        await storage.accept([Arrival((), first, a_delivery(body="h1"))], at=AT)
        [other] = await storage.accept([Arrival((an_execution(),), an_event(), a_delivery(body="h2"))], at=AT)
        assert (other.claims, other.waiting, other.receipt.duplicate) == ((), 0, False)
        assert await ids_of(storage) == []
        assert (await storage.event(first.id)).repeats == 0

    async def test_a_repeat_answers_the_verdicts_of_the_first(self, storage: Storage) -> None:
        verdicts = (
            Verdict(*TRIGGER, "refused", "when is false"),
            Verdict("shop", "bills", "hook", "disabled", "the trigger is disabled"),
        )
        event = an_event()
        await storage.accept([Arrival((), event, a_delivery(), verdicts)], at=AT)
        [again] = await storage.accept([Arrival((), an_event(), a_delivery())], at=AT)
        assert again.receipt.verdicts == verdicts
        assert again.receipt.reason == "when is false"

    async def test_a_trigger_starts_its_flow_once_for_an_event(self, storage: Storage) -> None:
        twice = Arrival((an_execution(), an_execution()), an_event())
        [answer] = await asyncio.gather(storage.accept([twice], at=AT), return_exceptions=True)
        assert type(answer) is StorageError
        assert "a trigger starts its flow once for an event" in answer.message
        assert await ids_of(storage) == []
        assert (await storage.events(EventFilter(), Page())).items == ()
        # one event may start several flows, and one flow by several triggers
        several = (
            an_execution(),
            an_execution(trigger="other"),
            an_execution(flow=FlowKey("shop", "bills")),
            an_execution(flow=FlowKey("mill", FLOW.id)),
        )
        [accepted] = await storage.accept([Arrival(several, an_event())], at=AT)
        assert len(accepted.claims) == 4

    async def test_an_id_that_is_stored_already_is_refused_by_name(self, storage: Storage) -> None:
        event, execution = an_event(), an_execution()
        await storage.accept([Arrival((execution,), event)], at=AT)
        repeats = {
            "an event of this id is stored already": Arrival((an_execution(),), event),
            "an execution of this id is stored already": Arrival((execution,), an_event()),
        }
        for message, arrival in repeats.items():
            [answer] = await asyncio.gather(storage.accept([arrival], at=AT), return_exceptions=True)
            assert type(answer) is StorageError
            assert answer.message == message
        assert await ids_of(storage) == [execution.id]

    # lists

    @pytest.mark.parametrize(
        "given", [{"namespace": "shop"}, {"flow": "orders"}, {"namespace": "shop", "flow": "orders"}]
    )
    async def test_events_of_others_are_not_shown(self, storage: Storage, given: dict[str, Any]) -> None:
        ours = an_event()
        others = [
            an_event_from_outside(),
            replace(an_event(), namespace="mill", flow="bills"),
            *([replace(an_event(), flow="bills")] if "flow" in given else []),
            *([replace(an_event(), namespace="mill")] if "namespace" in given else []),
        ]
        await storage.accept([Arrival((), event) for event in (ours, *others)], at=AT)
        found = await storage.events(EventFilter(**given), Page())
        assert [stored.event.id for stored in found.items] == [ours.id]

    async def test_pages_of_events_and_task_runs_meet(self, storage: Storage) -> None:
        claim = await started(storage)
        paths = [f"a{number}" for number in range(5)]
        await storage.record(step(claim, task_runs=tuple(map(a_run, paths))))
        events = [an_event() for _ in range(5)]
        await storage.accept([Arrival((), event) for event in events], at=AT)
        seen: list[str] = []
        shown: list[str] = []
        run_cursor = event_cursor = None
        for count in (2, 2, 1):
            runs = await storage.task_runs(claim.execution.id, Page(2, run_cursor))
            found = await storage.events(EventFilter(), Page(2, event_cursor))
            assert (len(runs.items), len(found.items)) == (count, count)
            seen += [run.path for run in runs.items]
            shown += [stored.event.id for stored in found.items]
            run_cursor, event_cursor = runs.next_cursor, found.next_cursor
        assert (run_cursor, event_cursor) == (None, None)
        assert seen == paths
        assert shown == [event.id for event in reversed(events)]

    async def test_a_total_counts_what_the_filter_shows_on_every_page(self, storage: Storage) -> None:
        for _ in range(5):
            await started(storage)
        for _ in range(3):
            await started(storage, flow=FlowKey("shop", "bills"))
        for wanted, total in (({}, 8), ({"flow": "bills"}, 3), ({"flow": "none"}, 0)):
            filter = ExecutionFilter(**wanted)  # type: ignore[arg-type]
            first = await storage.executions(filter, Page(2), count=True)
            assert first.total == total
            if first.next_cursor is not None:
                rest = await storage.executions(filter, Page(2, first.next_cursor), count=True)
                assert rest.total == total
        assert (await storage.executions(ExecutionFilter(), Page(2))).total is None

    async def test_task_runs_and_logs_of_others_are_not_shown(self, storage: Storage) -> None:
        claims = [await started(storage) for _ in range(2)]
        for number, claim in enumerate(claims):
            runs = (a_run("each[0]/a", outputs={"of": number}), a_run(f"own{number}"))
            await storage.record(step(claim, task_runs=runs, logs=(LogLine(AT, "INFO", f"of {number}"),)))
        for number, claim in enumerate(claims):
            id = claim.execution.id
            [run] = (await storage.scope_task_runs(id, "each[0]/")).values()
            assert run.outputs == {"of": number}
            assert set(await storage.scope_task_runs(id, "")) == {f"own{number}"}
            assert await paths_of(storage, id) == ["each[0]/a", f"own{number}"]
            assert [line.message for line in await storage.logs(id)] == [f"of {number}"]

    async def test_a_task_run_is_listed_where_it_was_first_recorded(self, storage: Storage) -> None:
        claim = await started(storage)
        running = TaskRunState.RUNNING
        for path in ("a", "b"):
            await storage.record(step(claim, task_runs=(a_run(path, running),)))
        for path in ("b", "a"):
            await storage.record(step(claim, task_runs=(a_run(path),)))
        assert await paths_of(storage, claim.execution.id) == ["a", "b"]

    async def test_a_child_is_found_by_its_own_parent_only(self, storage: Storage) -> None:
        one, other = await started(storage), await started(storage)
        child = a_child_of(one)
        await storage.accept([Arrival((child,)), Arrival((a_child_of(other),))], at=AT)
        assert await ids_of(storage, parent=one.execution.id) == [child.id]
