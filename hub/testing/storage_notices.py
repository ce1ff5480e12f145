"""Part of the storage contract: notices are owed with what they tell of, claimed, settled and never lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hub.errors import Conflict, FenceRefused, NotFound
from hub.model.execution import ExecutionState, Queue, QueueBehavior
from hub.model.ids import new_id
from hub.plugin.notices import (
    MOST_TOGETHER,
    NewNotice,
    Notice,
    NoticeClaim,
    NoticeFilter,
    NoticeSettlement,
    NoticeState,
)
from hub.plugin.storage import Arrival, Page, Storage
from hub.testing.storage_samples import AT, FLOW, HOUR, a_run, an_execution, kill, paused, started, step

_S = ExecutionState
_N = NoticeState
_MINUTE = timedelta(minutes=1)


def a_notice(**changes: Any) -> NewNotice:
    """A notice to ``oncall``, due at once."""
    given = {"id": new_id(), "notifier": "oncall", "content": {"message": "hello"}, "due_at": AT, **changes}
    return NewNotice(**given)


async def owed(storage: Storage, *notices: NewNotice) -> tuple[NewNotice, ...]:
    """Notices that are owed without anything else."""
    await storage.accept([Arrival(notices=notices)], at=AT)
    return notices


async def claimed(
    storage: Storage, at: Any = AT, room: Mapping[str, int] | None = None, others: int = 1000
) -> list[NoticeClaim]:
    """Claim whatever is due."""
    return await storage.claim_notices(at=at, room=room or {}, others=others)


def settled(claim: NoticeClaim, state: NoticeState = _N.DELIVERED, **changes: Any) -> NoticeSettlement:
    """What became of a claim."""
    return NoticeSettlement(claim.delivery_id, claim.fence, changes.pop("at", AT), state, **changes)


def ids_in(claims: list[NoticeClaim]) -> list[list[str]]:
    return [[notice.id for notice in claim.notices] for claim in claims]


async def listed(storage: Storage, **filter: Any) -> list[Notice]:
    return list((await storage.notices(NoticeFilter(**filter), Page(1000))).items)


class NoticesContract:
    """What is promised about notices."""

    # owed

    async def test_a_notice_is_owed_with_the_step_it_tells_of(self, storage: Storage) -> None:
        claim, notice = await started(storage), a_notice(flow=FLOW, content={"n": 2**70 + 1})
        notice = replace(notice, execution_id=claim.execution.id)
        await storage.record(step(claim, task_runs=(a_run(),), arrivals=(Arrival(notices=(notice,)),)))
        found = await storage.notice(notice.id)
        assert found == Notice(
            notice.id,
            "oncall",
            _N.OWED,
            {"n": 2**70 + 1},
            AT,
            AT,
            flow=FLOW,
            execution_id=claim.execution.id,
        )

    async def test_a_refused_step_owes_nothing(self, storage: Storage) -> None:
        claim, notice = await started(storage), a_notice()
        late = replace(step(claim, state=_S.FAILED, arrivals=(Arrival(notices=(notice,)),)), fence=99)
        with pytest.raises(FenceRefused):
            await storage.record(late)
        assert await listed(storage) == []

    async def test_an_end_owes_its_notices(self, storage: Storage) -> None:
        claim, notice = await started(storage), a_notice()
        await storage.record(step(claim, state=_S.FAILED, arrivals=(Arrival(notices=(notice,)),)))
        assert [one.id for one in await listed(storage)] == [notice.id]

    async def test_a_kill_owes_what_the_end_brings(self, storage: Storage) -> None:
        claim = await paused(storage, await started(storage))
        wanted, other = a_notice(), a_notice()
        ends = {_S.KILLED: Arrival(notices=(wanted,)), _S.CANCELLED: Arrival(notices=(other,))}
        await kill(storage, claim, {claim.execution.id: ends})
        assert [one.id for one in await listed(storage)] == [wanted.id]

    async def test_an_execution_that_is_born_ended_owes_its_notices(self, storage: Storage) -> None:
        queue = Queue("q", 1, QueueBehavior.CANCEL)
        await started(storage, queue=queue)
        late, notice = an_execution(queue=queue), a_notice()
        ends = {late.id: {_S.CANCELLED: Arrival(notices=(notice,))}}
        await storage.accept([Arrival((late,), ends=ends)], at=AT)
        assert [one.id for one in await listed(storage)] == [notice.id]

    async def test_a_known_notice_is_not_owed_again(self, storage: Storage) -> None:
        notice = a_notice()
        await owed(storage, notice)
        [claim] = await claimed(storage)
        await storage.settle_notices([settled(claim)])
        await owed(storage, replace(notice, content={"message": "again"}), a_notice())
        found = await storage.notice(notice.id)
        assert (found.state, found.content) == (_N.DELIVERED, {"message": "hello"})
        assert len(await listed(storage)) == 2

    # claimed

    async def test_what_is_due_is_claimed_once_oldest_first(self, storage: Storage) -> None:
        later, first, second = await owed(
            storage, a_notice(due_at=AT + HOUR), a_notice(due_at=AT - _MINUTE), a_notice()
        )
        assert await storage.next_notice_at() == AT - _MINUTE
        assert ids_in(await claimed(storage)) == [[first.id], [second.id]]
        assert await claimed(storage) == []
        assert await storage.next_notice_at() == AT + HOUR
        assert ids_in(await claimed(storage, AT + HOUR)) == [[later.id]]
        assert await storage.next_notice_at() is None

    async def test_a_notifier_gets_what_it_has_room_for(self, storage: Storage) -> None:
        slow = [a_notice(notifier="slow") for _ in range(3)]
        full, other = a_notice(notifier="full"), [a_notice(notifier="other") for _ in range(3)]
        await owed(storage, *slow, full, *other)
        found = await claimed(storage, room={"slow": 1, "full": 0}, others=2)
        assert sorted(claim.notifier for claim in found) == ["other", "other", "slow"]
        assert await storage.next_notice_at(but=["slow", "other"]) == AT
        assert await storage.next_notice_at(but=["slow", "other", "full"]) is None

    async def test_a_take_over_gives_claims_back_and_counts_no_attempt(self, storage: Storage) -> None:
        [notice] = await owed(storage, a_notice())
        [before] = await claimed(storage)
        assert await storage.take_over(at=AT) == 0
        [after] = await claimed(storage)
        assert (after.delivery_id, after.attempts) == (before.delivery_id, 0)
        assert after.fence > before.fence
        assert ids_in([after]) == [[notice.id]]
        assert await storage.settle_notices([settled(before)]) == [False]
        assert (await storage.notice(notice.id)).state is _N.OWED

    async def test_take_overs_are_counted_until_a_claim_is_settled(self, storage: Storage) -> None:
        sent, waiting = await owed(storage, a_notice(), a_notice(due_at=AT + HOUR))
        for crashes in range(3):
            [claim] = await claimed(storage)
            assert (claim.delivery_id, claim.crashes) == (sent.id, crashes)
            await storage.take_over(at=AT)
        [claim] = await claimed(storage)
        await storage.settle_notices([settled(claim, _N.OWED)])
        claims = await claimed(storage, AT + HOUR)
        assert {claim.delivery_id: claim.crashes for claim in claims} == {sent.id: 0, waiting.id: 0}
        await storage.take_over(at=AT)
        await storage.retry_notice(sent.id, at=AT)
        assert [claim.crashes for claim in await claimed(storage)] == [0]

    # settled

    async def test_a_delivered_notice_is_never_claimed_again(self, storage: Storage) -> None:
        [notice] = await owed(storage, a_notice())
        [claim] = await claimed(storage)
        assert await storage.settle_notices([settled(claim, at=AT + HOUR)]) == [True]
        found = await storage.notice(notice.id)
        assert (found.state, found.settled_at, found.due_at) == (_N.DELIVERED, AT + HOUR, None)
        assert found.delivery_id == notice.id
        await storage.take_over(at=AT)
        assert await claimed(storage, AT + 10 * HOUR) == []

    async def test_a_failed_attempt_is_tried_again_when_it_is_due(self, storage: Storage) -> None:
        [notice] = await owed(storage, a_notice())
        [claim] = await claimed(storage)
        again = settled(claim, _N.OWED, due_at=AT + HOUR, error="away", counts=True, progress={"done": ["a"]})
        assert await storage.settle_notices([again]) == [True]
        assert await claimed(storage) == []
        found = await storage.notice(notice.id)
        assert (found.attempts, found.error, found.due_at) == (1, "away", AT + HOUR)
        [second] = await claimed(storage, AT + HOUR)
        assert (second.attempts, second.progress) == (1, {"done": ["a"]})
        assert second.delivery_id == claim.delivery_id

    async def test_an_attempt_that_was_broken_off_counts_for_nothing(self, storage: Storage) -> None:
        await owed(storage, a_notice())
        [claim] = await claimed(storage)
        await storage.settle_notices([settled(claim, _N.OWED)])
        [again] = await claimed(storage)
        assert (again.attempts, again.progress) == (0, {})

    async def test_settlements_stand_alone(self, storage: Storage) -> None:
        await owed(storage, a_notice(), a_notice())
        one, other = await claimed(storage)
        old = replace(settled(one), fence=one.fence - 1)
        assert await storage.settle_notices([old, settled(other)]) == [False, True]
        assert await storage.settle_notices([settled(other), settled(one, _N.DEAD, error="no")]) == [
            False,
            True,
        ]
        assert sorted(one.state for one in await listed(storage)) == [_N.DEAD, _N.DELIVERED]

    # together

    async def test_notices_of_a_topic_go_together_and_stay_together(self, storage: Storage) -> None:
        one, two = await owed(
            storage, a_notice(topic="t", due_at=AT + HOUR), a_notice(topic="t", due_at=AT + 2 * HOUR)
        )
        await owed(storage, a_notice(topic="u", due_at=AT + 9 * HOUR))
        await owed(storage, a_notice(topic="t", notifier="sales", due_at=AT + 9 * HOUR))
        assert await claimed(storage) == []
        [claim] = await claimed(storage, AT + HOUR)
        assert (claim.delivery_id, ids_in([claim])) == (one.id, [[one.id, two.id]])
        [late] = await owed(storage, a_notice(topic="t", due_at=AT))
        await storage.settle_notices([settled(claim, _N.OWED, counts=True)])
        await storage.take_over(at=AT)
        again = {claim.delivery_id: claim for claim in await claimed(storage, AT + HOUR)}
        assert ids_in([again[one.id]]) == [[one.id, two.id]]
        assert ids_in([again[late.id]]) == [[late.id]]
        assert await storage.settle_notices([settled(again[one.id])]) == [True]
        states = [(await storage.notice(id)).state for id in (one.id, two.id, late.id)]
        assert states == [_N.DELIVERED, _N.DELIVERED, _N.OWED]

    async def test_a_topic_with_a_gap_rests_after_each(self, storage: Storage) -> None:
        [first] = await owed(storage, a_notice(topic="t", gap=HOUR))
        assert ids_in(await claimed(storage)) == [[first.id]]
        more = await owed(storage, *(a_notice(topic="t", gap=HOUR, due_at=AT) for _ in range(3)))
        [other] = await owed(storage, a_notice(topic="t", notifier="sales", gap=HOUR))
        assert ids_in(await claimed(storage, AT + _MINUTE)) == [[other.id]]
        assert await storage.next_notice_at() == AT + HOUR
        assert ids_in(await claimed(storage, AT + HOUR)) == [[one.id for one in more]]

    async def test_a_gap_outlives_a_take_over_and_a_purge(self, storage: Storage) -> None:
        await owed(storage, a_notice(topic="t", gap=HOUR))
        await claimed(storage)
        await storage.take_over(at=AT)
        await storage.purge_rest(now=AT + _MINUTE, changes_before=AT)
        await owed(storage, a_notice(topic="t", gap=HOUR))
        again = await claimed(storage, AT + _MINUTE)
        assert [len(claim.notices) for claim in again] == [1]
        await storage.purge_rest(now=AT + HOUR, changes_before=AT)
        assert len(await claimed(storage, AT + HOUR)) == 1

    async def test_no_more_go_together_than_may(self, storage: Storage) -> None:
        many = [a_notice(topic="t") for _ in range(MOST_TOGETHER + 1)]
        await owed(storage, *many)
        found = await claimed(storage)
        assert [len(claim.notices) for claim in found] == [MOST_TOGETHER, 1]
        assert [id for ids in ids_in(found) for id in ids] == [one.id for one in many]

    # by hand

    async def test_a_dead_notice_begins_anew_under_the_same_id(self, storage: Storage) -> None:
        one, two = await owed(storage, a_notice(topic="t"), a_notice(topic="t"))
        [claim] = await claimed(storage)
        await storage.settle_notices([settled(claim, _N.DEAD, error="gone", counts=True)])
        assert await storage.next_notice_at() is None
        found = await storage.retry_notice(two.id, at=AT + HOUR)
        assert (found.state, found.due_at, found.attempts) == (_N.OWED, AT + HOUR, 0)
        assert (found.settled_at, found.error) == (None, "gone")
        [again] = await claimed(storage, AT + HOUR)
        assert (again.delivery_id, ids_in([again])) == (one.id, [[one.id, two.id]])

    async def test_what_is_put_off_can_be_sent_at_once(self, storage: Storage) -> None:
        [notice] = await owed(storage, a_notice(due_at=AT + HOUR))
        await storage.retry_notice(notice.id, at=AT)
        assert ids_in(await claimed(storage)) == [[notice.id]]
        # whoever sends it goes on
        await storage.retry_notice(notice.id, at=AT)
        assert await claimed(storage) == []

    async def test_a_dropped_notice_is_not_sent(self, storage: Storage) -> None:
        waiting, sending = await owed(storage, a_notice(due_at=AT + HOUR), a_notice())
        [claim] = await claimed(storage)
        for one in (waiting, sending):
            found = await storage.drop_notice(one.id, at=AT)
            assert (found.state, found.due_at, found.settled_at) == (_N.DROPPED, None, AT)
        assert await storage.settle_notices([settled(claim, _N.OWED)]) == [False]
        assert await claimed(storage, AT + HOUR) == []
        await storage.retry_notice(sending.id, at=AT)
        assert ids_in(await claimed(storage)) == [[sending.id]]

    async def test_one_of_several_can_be_dropped(self, storage: Storage) -> None:
        one, two = await owed(storage, a_notice(topic="t"), a_notice(topic="t"))
        [claim] = await claimed(storage)
        await storage.drop_notice(one.id, at=AT)
        assert await storage.settle_notices([settled(claim, _N.OWED)]) == [True]
        assert (await storage.notice(one.id)).state is _N.DROPPED
        [again] = await claimed(storage)
        assert (again.delivery_id, ids_in([again])) == (one.id, [[two.id]])

    async def test_a_delivered_notice_is_neither_retried_nor_dropped(self, storage: Storage) -> None:
        [notice] = await owed(storage, a_notice())
        [claim] = await claimed(storage)
        await storage.settle_notices([settled(claim)])
        with pytest.raises(Conflict):
            await storage.retry_notice(notice.id, at=AT)
        with pytest.raises(Conflict):
            await storage.drop_notice(notice.id, at=AT)
        for call in (storage.notice("x"), storage.retry_notice("x", at=AT), storage.drop_notice("x", at=AT)):
            with pytest.raises(NotFound):
                await call

    async def test_a_receiver_that_wants_nothing_is_remembered(self, storage: Storage) -> None:
        await owed(storage, a_notice())
        [claim] = await claimed(storage)
        stale = replace(settled(claim, _N.DEAD, error="410", disables="stale"), fence=99)
        await storage.settle_notices([stale, settled(claim, _N.DEAD, error="410 Gone", disables="oncall")])
        assert await storage.disabled_notifiers() == {"oncall": "410 Gone"}
        await storage.enable_notifier("oncall")
        await storage.enable_notifier("oncall")
        assert await storage.disabled_notifiers() == {}

    # what live views read

    async def test_where_a_notice_stands_is_told_with_its_flow(self, storage: Storage) -> None:
        mine, other = a_notice(flow=FLOW), a_notice(notifier="sales")
        await owed(storage, mine, other)
        await owed(storage, mine)  # known: nothing has changed
        one, two = await claimed(storage)
        await storage.settle_notices([settled(one, _N.OWED), settled(two, _N.DEAD, error="no")])
        await storage.retry_notice(two.delivery_id, at=AT)
        await storage.drop_notice(mine.id, at=AT)
        [again] = await claimed(storage)
        await storage.settle_notices([replace(settled(again), fence=99)])  # it is another's
        await storage.settle_notices([settled(again)])
        sets, _ = await storage.changes(after=0)
        told = [
            (change.topic, change.id, change.state, change.flow) for one in sets for change in one.changes
        ]
        assert told == [
            ("notice", mine.id, "owed", "shop/orders"),
            ("notice", other.id, "owed", None),
            ("notice", mine.id, "owed", "shop/orders"),
            ("notice", other.id, "dead", None),
            ("notice", other.id, "owed", None),
            ("notice", mine.id, "dropped", "shop/orders"),
            ("notice", other.id, "delivered", None),
        ]

    # lists, counts and the past

    async def test_notices_are_filtered_and_their_pages_meet(self, storage: Storage) -> None:
        mine = [a_notice(flow=FLOW, execution_id="e1") for _ in range(3)]
        await owed(storage, *mine, a_notice(notifier="sales"))
        seen: list[str] = []
        cursor = None
        while True:
            page = await storage.notices(NoticeFilter(), Page(2, cursor))
            seen += [one.id for one in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 4
        assert seen[1:] == [one.id for one in reversed(mine)]
        for filter in ({"namespace": "shop"}, {"flow": "orders"}, {"execution_id": "e1"}):
            assert len(await listed(storage, **filter)) == 3
        assert len(await listed(storage, notifier="sales")) == 1
        for filter in ({"namespace": "x"}, {"flow": "x"}, {"execution_id": "x"}, {"notifier": "x"}):
            assert await listed(storage, **filter) == []
        assert len(await listed(storage, states=(_N.OWED, _N.DEAD))) == 4
        assert await listed(storage, states=(_N.DEAD,)) == []

    async def test_what_waits_for_somebody_is_counted(self, storage: Storage) -> None:
        await owed(storage, *(a_notice() for _ in range(4)))
        one, two, three, _ = await claimed(storage)
        await storage.settle_notices([settled(one), settled(two, _N.DEAD), settled(three, _N.OWED)])
        assert dict(await storage.notice_counts()) == {"owed": 2, "dead": 1}

    async def test_only_what_was_delivered_or_dropped_is_purged(self, storage: Storage) -> None:
        gone, dropped, dead, waiting, fresh = await owed(storage, *(a_notice() for _ in range(5)))
        claims = {claim.delivery_id: claim for claim in await claimed(storage)}
        await storage.drop_notice(dropped.id, at=AT)
        await storage.settle_notices(
            [
                settled(claims[gone.id]),
                settled(claims[dead.id], _N.DEAD),
                settled(claims[waiting.id], _N.OWED, due_at=AT),
                settled(claims[fresh.id], at=AT + HOUR),
            ]
        )
        first = await storage.purge_notices(before=AT + HOUR, limit=1)
        rest = await storage.purge_notices(before=AT + HOUR)
        assert (first.ids, first.more, rest.ids, rest.more) == ((gone.id,), True, (dropped.id,), False)
        left = {one.id for one in await listed(storage)}
        assert left == {dead.id, waiting.id, fresh.id}
