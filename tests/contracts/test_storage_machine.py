"""Random histories: memory, SQLite and PostgreSQL answer each step as the model does, and hold the same in the end."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hub.clock import SystemClock
from hub.errors import Conflict, FenceRefused
from hub.model.execution import ExecutionState, NewExecution, Queue, QueueBehavior
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.storage import Arrival, ExecutionFilter, Page, Restart, Storage, StorageSettings, Transition
from hub.testing.storage_samples import AT, FLOW, a_delivery, a_run, an_event
from plugins_core.memory.storage import MemoryStorage
from plugins_core.postgres.settings import PostgresSettings
from plugins_core.postgres.storage import PostgresStorage
from plugins_core.sqlite.storage import SqliteStorage
from tests.contracts.storage_model import REFUSED, Answer, Model
from tests.services.postgres import PostgresServer, empty

_S = ExecutionState
_QUEUES = (
    None,
    Queue("line", 1),
    Queue("pair", 2),
    Queue("cancel", 1, QueueBehavior.CANCEL),
    Queue("fail", 1, QueueBehavior.FAIL),
)
_ENDS = (_S.SUCCESS, _S.FAILED, _S.WARNING, _S.KILLED)
_QUICK = PostgresSettings(allow_unsafe=True, writers=1)


class Storages:
    """All of them, opened on a loop of their own; each step is done to every one."""

    def __init__(self, database: str | None, memory: type[MemoryStorage]) -> None:
        self._memory = memory
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self.all: dict[str, Storage] = self.run(self._open(database))

    async def _open(self, database: str | None) -> dict[str, Storage]:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        given: dict[str, tuple[Any, str, Any]] = {"memory": (self._memory, "memory:", None)}
        if database is not None:
            await empty(database)
            given["sqlite"] = (SqliteStorage, f"sqlite:///{folder / 'hub.db'}", None)
            given["postgres"] = (PostgresStorage, database, _QUICK)
        return {
            name: await self._stack.enter_async_context(
                kind.open(StorageSettings(url, folder, SystemClock(), settings=own))
            )
            for name, (kind, url, own) in given.items()
        }

    def run(self, work: Awaitable[Any]) -> Any:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._loop.close()


class Histories(RuleBasedStateMachine):
    """One history, on every storage and on the model."""

    database: ClassVar[str | None] = None
    """None leaves all but the memory storage out."""
    memory: ClassVar[type[MemoryStorage]] = MemoryStorage

    def __init__(self) -> None:
        super().__init__()
        self.storages = Storages(self.database, self.memory)
        self.model = Model()
        self.at: datetime = AT
        self.count = 0

    def teardown(self) -> None:
        self.storages.close()

    # steps

    @rule(
        queue=st.sampled_from(_QUEUES),
        key=st.none() | st.sampled_from(["a", "b"]),
        room=st.integers(0, 1),
    )
    def accept(self, queue: Queue | None, key: str | None, room: int) -> None:
        self.at += timedelta(seconds=1)
        self.count += 1
        new = NewExecution(f"e{self.count}", FLOW, 1, self.at, "hook", queue=queue)
        event = an_event()
        arrival = Arrival((new,), event, a_delivery(key) if key is not None else None)

        async def step(storage: Storage) -> Answer:
            [done] = await storage.accept([arrival], at=self.at, room=room)
            if done.receipt.duplicate:
                return ("known", done.receipt.event_id)
            return ("claimed", done.claims[0].fence) if done.claims else (done.born[new.id].value,)

        self._same(step, self.model.accept(new.id, event.id, key, queue, self.at, room))

    @precondition(lambda self: self.model.executions)
    @rule(
        pick=st.integers(0, 1000),
        stale=st.sampled_from([0, 0, 0, 1]),
        kind=st.sampled_from(
            ["running", "run", "run ends", "progress", "suspect", "pause", "release", "end", "end"]
        ),
        end=st.sampled_from(_ENDS),
        path=st.sampled_from(["a", "b"]),
    )
    def record(self, pick: int, stale: int, kind: str, end: ExecutionState, path: str) -> None:
        self.at += timedelta(seconds=1)
        one = self._picked(pick)
        fence = one.fence - stale
        kinds: dict[str, dict[str, Any]] = {
            "running": {"state": _S.RUNNING},
            "run": {"run": (path, "RUNNING")},
            "run ends": {"run": (path, "SUCCESS"), "progress": True},
            "progress": {"progress": True},
            "suspect": {"suspect_start": True},
            "pause": {"state": _S.PAUSED, "release": True, "wake_at": self.at + timedelta(seconds=3)},
            "release": {"release": True},
            "end": {"state": end},
        }
        changes = dict(kinds[kind])
        run = changes.pop("run", None)
        rows: tuple[TaskRun, ...] = ()
        if run is not None:
            rows = (a_run(run[0], TaskRunState(run[1])),)
        transition = Transition(one.id, fence, self.at, task_runs=rows, **changes)

        async def step(storage: Storage) -> Answer:
            try:
                done = await storage.record(transition)
            except FenceRefused:
                return REFUSED
            if transition.state is not None and transition.state.is_terminal:
                return ("ended", *[claim.execution.id for claim in done.claims])
            return ("stored",)

        given = {"state": None, **changes}
        self._same(step, self.model.record(one.id, fence, self.at, run=run, **given))

    @rule(limit=st.integers(1, 5))
    def claim(self, limit: int) -> None:
        self.at += timedelta(seconds=1)

        async def step(storage: Storage) -> Answer:
            claims = await storage.claim(limit=limit, at=self.at)
            return tuple((one.execution.id, one.fence, one.suspect, one.suspect_starts) for one in claims)

        self._same(step, tuple(self.model.claim(limit, self.at)))

    @rule()
    def take_over(self) -> None:
        self.at += timedelta(seconds=1)

        async def step(storage: Storage) -> Answer:
            return (await storage.take_over(at=self.at),)

        self._same(step, (self.model.take_over(self.at),))

    @precondition(lambda self: self.model.executions)
    @rule(pick=st.integers(0, 1000))
    def kill(self, pick: int) -> None:
        self.at += timedelta(seconds=1)
        id = self._picked(pick).id

        async def step(storage: Storage) -> Answer:
            killed = await storage.request_kill(id, at=self.at, reason="enough")
            return (killed.execution.state.value, id in killed.held)

        self._same(step, self.model.kill(id))

    @precondition(lambda self: self.model.executions)
    @rule(pick=st.integers(0, 1000))
    def restart(self, pick: int) -> None:
        self.at += timedelta(seconds=1)
        id = self._picked(pick).id

        async def step(storage: Storage) -> Answer:
            try:
                return ((await storage.restart(Restart(id, self.at))).state.value,)
            except Conflict:
                return REFUSED

        self._same(step, self.model.restart(id, self.at))

    @invariant()
    def all_hold_the_same(self) -> None:
        async def step(storage: Storage) -> Answer:
            found = (await storage.executions(ExecutionFilter(), Page(1000))).items
            account: dict[str, Answer] = {}
            for one in found:
                runs = (await storage.task_runs(one.id, Page(100))).items
                states = tuple(sorted((run.path, run.state.value) for run in runs))
                account[one.id] = (one.state.value, one.ended_at is not None, one.restarts, states)
            return (account,)

        self._same(step, (self.model.account(),))

    def _picked(self, pick: int) -> Any:
        return list(self.model.executions.values())[pick % len(self.model.executions)]

    def _same(self, step: Callable[[Storage], Awaitable[Answer]], expected: Answer) -> None:
        answers = {name: self.storages.run(step(storage)) for name, storage in self.storages.all.items()}
        assert answers == dict.fromkeys(answers, expected)


@pytest.fixture
def histories(postgres_server: PostgresServer) -> type[Histories]:
    class OverDatabase(Histories):
        database = postgres_server.database()

    return OverDatabase


_COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}


def test_histories_are_the_same_on_every_storage(histories: type[Histories]) -> None:
    run_state_machine_as_test(
        histories, settings=settings(max_examples=15, stateful_step_count=30, derandomize=True, **_COMMON)
    )


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_many_histories_are_the_same_on_every_storage(histories: type[Histories]) -> None:
    run_state_machine_as_test(
        histories, settings=settings(max_examples=500, stateful_step_count=50, **_COMMON)
    )


class ForgetsTheFence(MemoryStorage):
    """Takes any step of an execution that is claimed."""

    async def record(self, transition: Transition) -> Any:
        held = self._executions.get(transition.execution_id)
        return await super().record(replace(transition, fence=held.fence))


class AdmitsOneMore(MemoryStorage):
    """A queue lets one more in than it may."""

    async def accept(self, arrivals: Sequence[Arrival], **more: Any) -> Any:
        wider = [
            replace(
                arrival,
                executions=tuple(
                    replace(new, queue=replace(new.queue, limit=new.queue.limit + 1)) if new.queue else new
                    for new in arrival.executions
                ),
            )
            for arrival in arrivals
        ]
        return await super().accept(wider, **more)


@pytest.mark.parametrize("bug", [ForgetsTheFence, AdmitsOneMore])
def test_histories_find_a_planted_bug(bug: type[MemoryStorage]) -> None:
    class OverBug(Histories):
        memory = bug

    without_shrinking = (Phase.generate,)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            OverBug,
            settings=settings(
                max_examples=100,
                stateful_step_count=30,
                derandomize=True,
                phases=without_shrinking,
                **_COMMON,
            ),
        )
