"""The storage contract notices bugs: each planted here makes one of its tests fail, which passes without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hub.clock import SystemClock
from hub.plugin import (
    Accepted,
    Arrival,
    EventFilter,
    Execution,
    ExecutionFilter,
    FlowKey,
    FlowRecord,
    NoticeClaim,
    NoticeSettlement,
    Page,
    Purged,
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
)
from hub.testing.storage_contract import StorageContract
from plugins_core.memory.storage import MemoryStorage
from plugins_core.sqlite.storage import SqliteStorage


async def fails(storage: Storage, test: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a test of the contract fails on a storage."""
    try:
        await getattr(StorageContract(), test)(storage, **arguments)
    except (Exception, pytest.fail.Exception):
        return True
    return False


# -- planted in Python, around a memory storage


class LosesOutputs(MemoryStorage):
    async def record(self, transition: Transition) -> Recorded:
        return await super().record(replace(transition, outputs=None))


class OverwritesTheStart(MemoryStorage):
    async def record(self, transition: Transition) -> Recorded:
        recorded = await super().record(transition)
        kept = self._executions.get(transition.execution_id)
        if transition.state is not None and kept.execution.started_at is not None:
            kept.execution = replace(kept.execution, started_at=transition.at)
        return recorded


class DropsTheScope(MemoryStorage):
    async def accept(self, arrivals: Sequence[Arrival], **more: Any) -> list[Accepted]:
        bare = [
            replace(one, delivery=replace(one.delivery, scope="") if one.delivery else None)
            for one in arrivals
        ]
        return await super().accept(bare, **more)


class ForgetsTheFence(MemoryStorage):
    async def accept(
        self, arrivals: Sequence[Arrival], *, move: TriggerMove | None = None, **more: Any
    ) -> list[Accepted]:
        if move is not None and move.expected > 0:
            move = replace(move, expected=self._triggers.get(move.key, TriggerState()).version)
        return await super().accept(arrivals, move=move, **more)


class TakesUpTwice(MemoryStorage):
    async def accept(self, arrivals: Sequence[Arrival], **more: Any) -> list[Accepted]:
        still = [
            replace(one, takes=tuple(id for id in one.takes if self._events.waits(id))) for one in arrivals
        ]
        return await super().accept(still, **more)


class WakesWhatWaits(MemoryStorage):
    async def take_over(self, *, at: datetime) -> int:
        for kept in self._executions.live():
            if kept.ready_at is not None:
                kept.ready_at = at
        return await super().take_over(at=at)


class RoundsIntegers(MemoryStorage):
    async def trigger_states(self) -> dict[TriggerKey, TriggerState]:
        def rounded(state: Mapping[str, Any]) -> dict[str, Any]:
            return {key: float(value) if isinstance(value, int) else value for key, value in state.items()}

        states = await super().trigger_states()
        return {key: replace(found, state=rounded(found.state)) for key, found in states.items()}


class IgnoresTheFilter(MemoryStorage):
    async def events(self, filter: EventFilter, page: Page) -> Slice[StoredEvent]:
        return await super().events(EventFilter(dead=filter.dead), page)


class IgnoresTheCursor(MemoryStorage):
    async def task_runs(self, execution_id: str, page: Page, **more: Any) -> Slice[TaskRun]:
        return await super().task_runs(execution_id, Page(page.limit), **more)


class CountsThePage(MemoryStorage):
    async def executions(self, filter: ExecutionFilter, page: Page, **more: Any) -> Slice[Execution]:
        found = await super().executions(filter, page, **more)
        return replace(found, total=len(found.items)) if found.total is not None else found


class ForgetsDisabled(MemoryStorage):
    async def put_flow(self, key: FlowKey, **more: Any) -> tuple[FlowRecord, bool]:
        return await super().put_flow(key, **{**more, "disabled": False})


class MixesExecutions(MemoryStorage):
    async def scope_task_runs(self, execution_id: str, scope: str) -> dict[str, TaskRun]:
        found: dict[str, TaskRun] = {}
        for kept in self._executions:
            found |= await super().scope_task_runs(kept.execution.id, scope)
        return found


class StartsOneTwice(MemoryStorage):
    async def accept(self, arrivals: Sequence[Arrival], **more: Any) -> list[Accepted]:
        answers: list[Accepted] = []
        for arrival in arrivals:
            alone = [replace(arrival, executions=(one,), event=None) for one in arrival.executions]
            answers += await super().accept([replace(arrival, executions=()), *alone], **more)
        return answers


class LosesTheNoticesOfEnds(MemoryStorage):
    async def accept(self, arrivals: Sequence[Arrival], **more: Any) -> list[Accepted]:
        return await super().accept([replace(one, ends={}) for one in arrivals], **more)


class OwesBeforeItLooks(MemoryStorage):
    async def record(self, transition: Transition) -> Recorded:
        await self.accept([Arrival(notices=one.notices) for one in transition.arrivals], at=transition.at)
        return await super().record(transition)


class IgnoresTheNoticesFence(MemoryStorage):
    async def settle_notices(self, settlements: Sequence[NoticeSettlement]) -> list[bool]:
        kept = self._notices._kept
        return await super().settle_notices(
            [replace(one, fence=kept[one.delivery_id].fence) for one in settlements]
        )


class ForgetsWhatIsBeingSent(MemoryStorage):
    async def take_over(self, *, at: datetime) -> int:
        return self._executions.take_over(at)


class SendsWhatIsBeingSent(MemoryStorage):
    async def claim_notices(self, **more: Any) -> list[NoticeClaim]:
        self._notices.take_over()
        return await super().claim_notices(**more)


class LetsLatecomersIn(MemoryStorage):
    async def settle_notices(self, settlements: Sequence[NoticeSettlement]) -> list[bool]:
        answers = await super().settle_notices(settlements)
        for kept in self._notices._kept.values():
            if kept.is_owed:
                kept.change(delivery_id=None)
        return answers


class PurgesWhatWaits(MemoryStorage):
    async def purge_notices(self, *, before: datetime, limit: int = 500) -> Purged:
        return Purged(*self._notices.remove(limit, lambda notice: notice.created_at < before))


class CountsBrokenOffAttempts(MemoryStorage):
    async def settle_notices(self, settlements: Sequence[NoticeSettlement]) -> list[bool]:
        return await super().settle_notices([replace(one, counts=True) for one in settlements])


_IN_PYTHON: list[tuple[type[MemoryStorage], str]] = [
    (LosesOutputs, "test_an_end_keeps_its_outputs_and_its_error"),
    (OverwritesTheStart, "test_an_execution_started_when_it_first_ran"),
    (DropsTheScope, "test_a_delivery_key_is_known_in_its_own_scope_only"),
    (ForgetsTheFence, "test_a_trigger_moves_step_by_step_and_only_from_where_it_stands"),
    (WakesWhatWaits, "test_a_take_over_leaves_what_waits_alone"),
    (RoundsIntegers, "test_integers_stay_exact_wherever_data_is_kept"),
    (IgnoresTheFilter, "test_events_are_filtered_and_their_pages_meet"),
    (IgnoresTheCursor, "test_pages_of_events_and_task_runs_meet"),
    (CountsThePage, "test_a_total_counts_what_the_filter_shows_on_every_page"),
    (ForgetsDisabled, "test_a_flow_keeps_everything_it_was_put_with"),
    (MixesExecutions, "test_task_runs_and_logs_of_others_are_not_shown"),
    (StartsOneTwice, "test_a_trigger_starts_its_flow_once_for_an_event"),
    (TakesUpTwice, "test_of_two_batches_that_take_up_the_same_event_one_is_refused_whole"),
    (LosesTheNoticesOfEnds, "test_an_execution_that_is_born_ended_owes_its_notices"),
    (OwesBeforeItLooks, "test_a_refused_step_owes_nothing"),
    (IgnoresTheNoticesFence, "test_settlements_stand_alone"),
    (IgnoresTheNoticesFence, "test_a_take_over_gives_claims_back_and_counts_no_attempt"),
    (ForgetsWhatIsBeingSent, "test_a_take_over_gives_claims_back_and_counts_no_attempt"),
    (SendsWhatIsBeingSent, "test_what_is_due_is_claimed_once_oldest_first"),
    (LetsLatecomersIn, "test_notices_of_a_topic_go_together_and_stay_together"),
    (PurgesWhatWaits, "test_only_what_was_delivered_or_dropped_is_purged"),
    (CountsBrokenOffAttempts, "test_an_attempt_that_was_broken_off_counts_for_nothing"),
]


@pytest.mark.parametrize(("planted", "test"), _IN_PYTHON, ids=lambda one: getattr(one, "__name__", None))
async def test_a_bug_planted_in_python_is_noticed(
    planted: type[MemoryStorage], test: str, tmp_path: Path
) -> None:
    settings = StorageSettings("memory:", tmp_path, SystemClock())
    async with MemoryStorage.open(settings) as sound, planted.open(settings) as broken:
        assert not await fails(sound, test, {})
        assert await fails(broken, test, {})


# -- planted in SQL, below a SQLite storage


@dataclass(frozen=True)
class Planted:
    """A bug as a statement, and the test that has to notice it."""

    bug: str
    sql: str
    test: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def after(what: str, statement: str, when: str = "1") -> str:
    """A database trigger that spoils what was just written."""
    return f"CREATE TRIGGER planted AFTER {what} WHEN {when} BEGIN {statement}; END"


_IN_SQL = [
    Planted(
        "the unique key of event, flow and trigger is gone",
        "DROP INDEX executions_by_event",
        "test_a_trigger_starts_its_flow_once_for_an_event",
    ),
    Planted(
        "an error is lost",
        after("UPDATE OF error ON executions", "UPDATE executions SET error = NULL WHERE id = NEW.id"),
        "test_an_end_keeps_its_outputs_and_its_error",
    ),
    Planted(
        "a claim keeps the progress of the one before",
        after(
            "UPDATE OF fence ON executions", "UPDATE executions SET progress = OLD.progress WHERE id = NEW.id"
        ),
        "test_progress_counts_for_one_claim_only",
    ),
    Planted(
        "a kill while letting go is never claimed again",
        after(
            "UPDATE OF claimed ON executions",
            "UPDATE executions SET ready_at = NULL WHERE id = NEW.id",
            "NEW.state = 'KILLING'",
        ),
        "test_what_is_killed_while_it_lets_go_is_claimed_at_once",
        {"waits": "for a moment"},
    ),
    Planted(
        "trigger data is lost for whoever was not born claimed",
        after(
            "UPDATE OF claimed ON executions",
            "UPDATE events SET data = '{}' WHERE id = NEW.event_id",
            "NEW.claimed AND NOT OLD.claimed",
        ),
        "test_every_claim_brings_all_of_its_execution",
        {"way": "waited"},
    ),
    Planted(
        "a trigger's move takes the flow's others along",
        after(
            "UPDATE ON trigger_states",
            "UPDATE trigger_states SET state = NEW.state WHERE namespace = NEW.namespace AND flow = NEW.flow",
        ),
        "test_a_trigger_moves_alone",
    ),
    Planted(
        "a key that is used again keeps its old expiry",
        after(
            "UPDATE OF expires_at ON delivery_keys",
            "UPDATE delivery_keys SET expires_at = OLD.expires_at WHERE scope = NEW.scope AND key = NEW.key",
        ),
        "test_a_key_that_is_used_again_after_its_time_is_known_for_its_new_time",
    ),
    Planted(
        "a repeat's verdicts are lost",
        after("INSERT ON events", "UPDATE events SET verdicts = '[]' WHERE id = NEW.id"),
        "test_a_repeat_answers_the_verdicts_of_the_first",
    ),
    Planted(
        "a raised limit lets in one only",
        after(
            "UPDATE OF state ON executions",
            "UPDATE executions SET queue_limit = 1 WHERE queue = NEW.queue AND state = 'QUEUED'",
            "OLD.state = 'QUEUED'",
        ),
        "test_a_raised_limit_lets_in_as_many_as_it_has_room_for",
    ),
    Planted(
        "a take-over counts an attempt",
        after(
            "UPDATE OF claimed ON notices",
            "UPDATE notices SET attempts = OLD.attempts + 1 WHERE id = NEW.id",
            "OLD.claimed AND NOT NEW.claimed",
        ),
        "test_a_take_over_gives_claims_back_and_counts_no_attempt",
    ),
    Planted(
        "a topic's gap is forgotten",
        after("INSERT ON notice_topics", "DELETE FROM notice_topics"),
        "test_a_topic_with_a_gap_rests_after_each",
    ),
    Planted(
        "a notice is sent under an id of its own each time",
        after(
            "UPDATE OF fence ON notices",
            "UPDATE notices SET delivery_id = hex(randomblob(8)) WHERE id = NEW.id",
            "NEW.fence > 1",
        ),
        "test_a_failed_attempt_is_tried_again_when_it_is_due",
    ),
]


@pytest.mark.parametrize("planted", _IN_SQL, ids=lambda one: one.bug)
async def test_a_bug_planted_in_sql_is_noticed(planted: Planted, tmp_path: Path) -> None:
    async with open_in(tmp_path / "sound") as sound, open_in(tmp_path / "broken") as broken:
        assert isinstance(broken, SqliteStorage)
        await broken._write(lambda commit: commit.connection.execute(planted.sql).close())
        assert not await fails(sound, planted.test, planted.arguments)
        assert await fails(broken, planted.test, planted.arguments)


def open_in(folder: Path) -> AbstractAsyncContextManager[Storage]:
    folder.mkdir()
    return SqliteStorage.open(StorageSettings(f"sqlite:///{folder / 'hub.db'}", folder, SystemClock()))
