"""The context of one task run: what ``Task.run`` is given."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hub.engine.logs import TaskRunLogger
from hub.model.event import Delivery, Occurrence, Origin, Receipt
from hub.model.execution import Execution, Parent
from hub.model.flow import TaskDeclaration
from hub.model.ids import FlowKey, derived_id
from hub.plugin.context import Branch, GroupOutcome, TaskContext

if TYPE_CHECKING:
    from hub.engine.executor import Executor
    from hub.engine.scope import RunScope
    from hub.engine.task_runner import LiveRun

T = TypeVar("T")

_EMITTED = "emitted"
"""The scope of the delivery keys of events that tasks emit."""
_EMITTED_WINDOW = timedelta(days=30)
"""How long an execution may wait between two tries of a task run that emits."""


class RunningTask(TaskContext):
    """``TaskContext`` over a live task run of an executor."""

    def __init__(self, executor: Executor, live: LiveRun, scope: RunScope) -> None:
        self._executor = executor
        self._live = live
        self._scope = scope
        self.execution_id = executor.execution_id
        self.flow = executor.claim.execution.flow
        self.task_id = live.task.declaration.id
        self.path = live.path
        self.attempt = live.attempts
        self.logger = TaskRunLogger(executor.log, live.path, live.attempts)
        self._emitted = 0

    @cached_property
    def task_run_id(self) -> str:  # type: ignore[override]
        return derived_id(self.execution_id, self.path)

    @property
    def idempotency_key(self) -> str:  # type: ignore[override]
        return self.task_run_id

    @property
    def process_token(self) -> str:  # type: ignore[override]
        return f"{self._executor.services.instance}:{self.task_run_id}"

    def now(self) -> datetime:
        return self._executor.services.clock.now()

    async def secret(self, name: str) -> str:
        return await self._executor.services.vault.get(name)

    async def decide(self, name: str, make: Callable[[], T]) -> T:
        found: T = await self._live.decide(name, make)
        return found

    async def run(self, tasks: Sequence[TaskDeclaration]) -> GroupOutcome:
        return await self._executor.run_group(self._live, self._scope, [Branch(tasks)], count=1, limit=1)

    async def run_branches(
        self, branches: Iterable[Branch], *, count: int | None = None, limit: int | None = None
    ) -> GroupOutcome:
        return await self._executor.run_group(self._live, self._scope, branches, count=count, limit=limit)

    async def emit(self, occurrence: Occurrence) -> Receipt:
        executor, execution = self._executor, self._executor.claim.execution
        self._emitted += 1
        if occurrence.delivery is None:
            # the same task run emits the same events, in the same order, whenever it is tried
            occurrence = replace(
                occurrence,
                delivery=Delivery(f"{self.task_run_id}#{self._emitted}", window=_EMITTED_WINDOW),
                scope=_EMITTED,
            )
        origin = Origin(f"/{self.flow}", self.flow, depth=execution.depth + 1)
        [receipt] = await executor.services.bus.publish(origin, [occurrence], event_type="hub.event.emitted")
        return receipt

    async def start(
        self,
        flow: FlowKey,
        *,
        inputs: Mapping[str, Any],
        labels: Mapping[str, str] | None = None,
        revision: int | None = None,
        together: bool = True,
    ) -> str:
        executor = self._executor
        started = await executor.host.start(
            flow,
            inputs=inputs,
            labels=labels or {},
            revision=revision,
            execution_id=derived_id(executor.execution_id, self.path, str(self.attempt)),
            parent=Parent(executor.execution_id, self.path) if together else None,
            depth=executor.claim.execution.depth + 1,
        )
        return started.id

    async def execution(self, execution_id: str) -> Execution:
        services = self._executor.services
        found = await services.storage.execution(execution_id)
        if found.outputs is None:
            return found
        return replace(found, outputs=await services.payloads.unpack(found.outputs))

    def place(self, path: str, *, write: bool = False, below: bool = False) -> Path:
        return self._executor.services.places.resolve(path, write=write, below=below)

    def working_folder(self) -> AbstractAsyncContextManager[Path]:
        return _fresh_folder(self._executor.services.work_dir)

    async def shared(self, key: str, open: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        return await self._executor.services.shared.get(key, open)


@asynccontextmanager
async def _fresh_folder(parent: Path) -> AsyncIterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    try:
        yield folder
    finally:
        # a handful of files is quicker to remove than a thread is to reach; a tree goes to a thread
        if _is_small(folder):
            shutil.rmtree(folder, ignore_errors=True)
        else:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def _is_small(folder: Path) -> bool:
    entries = list(folder.iterdir())
    return len(entries) <= 8 and not any(entry.is_dir() and not entry.is_symlink() for entry in entries)


def outputs_of(returned: Any) -> Mapping[str, Any]:
    """What a task returned as its outputs: a model, a mapping, or nothing."""
    if returned is None:
        return {}
    if isinstance(returned, Mapping):
        return returned
    dump = getattr(returned, "model_dump", None)
    if dump is not None:
        found: Mapping[str, Any] = dump(by_alias=True)
        return found
    return {"value": returned}
