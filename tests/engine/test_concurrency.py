"""Concurrency limits under random starts, ends, kills and crashes: never over, never leaked, in order."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hub.clock import SystemClock
from hub.model.execution import Claim, ExecutionState, Queue
from hub.plugin.storage import Arrival, ExecutionFilter, Page, Storage, StorageSettings
from hub.testing.storage_contract import AT, a_run, an_execution, step
from plugins_core.memory.storage import MemoryStorage
from plugins_core.sqlite.storage import SqliteStorage

LIMITS = {"a": 1, "b": 3}
KEYS = st.sampled_from(sorted(LIMITS))
_S = ExecutionState


class Queues(RuleBasedStateMachine):
    """Random steps against a storage; the model is the order in which executions came."""

    storage_class: type[Storage] = MemoryStorage

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory()
        path = Path(self.folder.name)
        self.opened = self.storage_class.open(
            StorageSettings(f"sqlite:///{path / 'hub.db'}", path, SystemClock())
        )
        self.storage = self.loop.run_until_complete(self.opened.__aenter__())
        self.claims: dict[str, Claim] = {}
        self.keys: dict[str, str] = {}
        self.came: dict[str, list[str]] = {key: [] for key in LIMITS}
        self.begun: dict[str, list[str]] = {key: [] for key in LIMITS}

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.opened.__aexit__(None, None, None))
            self.loop.close()
            self.folder.cleanup()

    def _taken(self, claims: tuple[Claim, ...] | list[Claim]) -> None:
        for claim in claims:
            id = claim.execution.id
            self.claims[id] = claim
            if claim.fresh:
                self.begun[self.keys[id]].append(id)

    @rule(key=KEYS, count=st.integers(1, 4), room=st.integers(0, 5))
    def start(self, key: str, count: int, room: int) -> None:
        new = [an_execution(queue=Queue(key, LIMITS[key])) for _ in range(count)]
        for one in new:
            self.keys[one.id] = key
            self.came[key].append(one.id)
        arrivals = [Arrival((one,)) for one in new]
        for accepted in self.loop.run_until_complete(self.storage.accept(arrivals, at=AT, room=room)):
            self._taken(accepted.claims)

    @rule()
    def claim(self) -> None:
        self._taken(self.loop.run_until_complete(self.storage.claim(limit=5, at=AT + timedelta(days=1))))

    @rule(data=st.data(), state=st.sampled_from([_S.SUCCESS, _S.FAILED]))
    def end(self, data: st.DataObject, state: ExecutionState) -> None:
        if self.claims:
            claim = self.claims.pop(data.draw(st.sampled_from(sorted(self.claims))))
            recorded = self.loop.run_until_complete(self.storage.record(step(claim, state=state)))
            self._taken(recorded.claims)

    @rule(data=st.data())
    def wait(self, data: st.DataObject) -> None:
        if self.claims:
            claim = self.claims.pop(data.draw(st.sampled_from(sorted(self.claims))))
            change = step(
                claim, state=_S.PAUSED, release=True, wake_at=AT, progress=True, task_runs=(a_run(),)
            )
            self.loop.run_until_complete(self.storage.record(change))

    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        if self.keys:
            id = data.draw(st.sampled_from(sorted(self.keys)))
            killed = self.loop.run_until_complete(self.storage.request_kill(id, at=AT, reason="no")).execution
            if killed.state is _S.KILLING and id in self.claims:
                recorded = self.loop.run_until_complete(
                    self.storage.record(step(self.claims.pop(id), state=_S.KILLED))
                )
                self._taken(recorded.claims)

    @rule()
    def crash(self) -> None:
        self.claims.clear()
        self.loop.run_until_complete(self.storage.take_over(at=AT))

    def _states(self) -> dict[str, ExecutionState]:
        page = self.loop.run_until_complete(self.storage.executions(ExecutionFilter(), Page(1000)))
        return {one.id: one.state for one in page.items}

    @invariant()
    def never_over_the_limit_and_never_a_free_place_while_one_waits(self) -> None:
        if not hasattr(self, "storage"):
            return
        states = self._states()
        for key, limit in LIMITS.items():
            mine = [states[id] for id in self.came[key]]
            under_way = sum(not state.is_terminal and state is not _S.QUEUED for state in mine)
            assert under_way <= limit
            assert not (_S.QUEUED in mine and under_way < limit)

    @invariant()
    def each_queue_is_let_in_in_the_order_it_came(self) -> None:
        if not hasattr(self, "storage"):
            return
        states = self._states()
        for key in LIMITS:
            places = [
                place
                for place, id in enumerate(self.came[key])
                if states[id] not in (_S.QUEUED, _S.CANCELLED)
            ]
            waiting = [place for place, id in enumerate(self.came[key]) if states[id] is _S.QUEUED]
            assert not waiting or max(places, default=-1) < min(waiting)


class SqliteQueues(Queues):
    storage_class = SqliteStorage


Queues.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
SqliteQueues.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestMemoryQueues = Queues.TestCase
TestSqliteQueues = SqliteQueues.TestCase
