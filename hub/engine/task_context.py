"""The context of one task run: what ``Task.run`` is given."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hub.engine.logs import TaskRunLogger
from hub.engine.owned_files import OwnedFiles
from hub.errors import InvalidInput
from hub.model.event import Delivery, Occurrence, Origin, Receipt, check_type
from hub.model.execution import Execution, Parent
from hub.model.flow import TaskDeclaration
from hub.model.ids import FlowKey, derived_id
from hub.plugin.context import BlockingCalls, Branch, GroupOutcome, TaskContext, TaskFiles
from hub.plugin.notifier import Attachment
from hub.plugin.outcomes import Fail
from hub.plugin.trees import remove_tree

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
        self.attempt = live.attempts
        self._emitted = 0

    # most tasks ask for few of these: each is made when it is asked for

    @property
    def execution_id(self) -> str:  # type: ignore[override]
        return self._executor.execution_id

    @property
    def flow(self) -> FlowKey:  # type: ignore[override]
        return self._executor.claim.execution.flow

    @property
    def task_id(self) -> str:  # type: ignore[override]
        return self._live.task.declaration.id

    @property
    def path(self) -> str:  # type: ignore[override]
        return self._live.path

    @cached_property
    def logger(self) -> TaskRunLogger:  # type: ignore[override]
        return TaskRunLogger(self._executor.log, self._live.path, self.attempt)

    @cached_property
    def task_run_id(self) -> str:  # type: ignore[override]
        return derived_id(self.execution_id, self.path)

    @property
    def idempotency_key(self) -> str:  # type: ignore[override]
        return self.task_run_id

    @property
    def settings(self) -> Any:
        return self._executor.services.registry.settings_of(self._live.task.component)

    @property
    def process_token(self) -> str:  # type: ignore[override]
        return f"{self._executor.services.instance}:{self.task_run_id}"

    @property
    def files(self) -> TaskFiles:  # type: ignore[override]
        return OwnedFiles(self._executor.services.payloads.store, self.execution_id)

    def now(self) -> datetime:
        return self._executor.services.clock.now()

    @property
    def killed(self) -> threading.Event:  # type: ignore[override]
        if self._live.killed is None:
            self._live.killed = threading.Event()
            if self._executor.stops.has_to_stop(self._live):
                self._live.killed.set()
        return self._live.killed

    @cached_property
    def blocking(self) -> BlockingCalls:  # type: ignore[override]
        return _FromThread(self, self._executor.log.loop)

    def prepare_for_thread(self) -> None:
        """Make what a thread must not make itself."""
        assert self.killed is not None
        assert self.blocking is not None

    async def secret(self, name: str) -> str:
        return await self._executor.services.vault.get(name)

    async def decide(self, name: str, make: Callable[[], T]) -> T:
        found: T = await self._finished(self._live.decide(name, make))
        return found

    async def _finished(self, work: Coroutine[Any, Any, T]) -> T:
        """What is asked of the hub is done, and its answer used, even where this task run is stopped meanwhile."""
        return await self._executor.owned.finish(self.path, work)

    async def run(self, tasks: Sequence[TaskDeclaration]) -> GroupOutcome:
        return await self._executor.run_group(self._live, self._scope, [Branch(tasks)], count=1, limit=1)

    async def run_branches(
        self, branches: Iterable[Branch], *, count: int | None = None, limit: int | None = None
    ) -> GroupOutcome:
        return await self._executor.run_group(self._live, self._scope, branches, count=count, limit=limit)

    async def emit(self, occurrence: Occurrence) -> Receipt:
        if occurrence.type is not None:
            try:
                check_type(occurrence.type)
            except ValueError as error:
                raise InvalidInput(str(error)) from None
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
        bus, given = executor.services.bus, [occurrence]
        [receipt] = await self._finished(
            executor.recorder.persist(lambda: bus.publish(origin, given, event_type="hub.event.emitted"))
        )
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
        executor, live = self._executor, self._live
        live.has_started_others = True
        execution_id = derived_id(executor.execution_id, self.path, str(live.round))
        started = await self._finished(
            executor.recorder.persist(
                lambda: executor.host.start(
                    flow,
                    inputs=inputs,
                    labels=labels or {},
                    revision=revision,
                    execution_id=execution_id,
                    parent=Parent(executor.execution_id, self.path) if together else None,
                    depth=executor.claim.execution.depth + 1,
                )
            )
        )
        return started.id

    def notify(
        self,
        to: str,
        message: str,
        *,
        subject: str | None = None,
        html: str | None = None,
        level: str = "INFO",
        attachments: Sequence[Attachment] = (),
    ) -> None:
        execution, live = self._executor.claim.execution, self._live
        # the same task run owes the same notices, in the same order, unless it was brought back after the end
        place = str(len(live.owed) + 1)
        live.owed.append(
            self._executor.host.outbox.of_task(
                id=derived_id(self.execution_id, "task", self.path, str(execution.restarts), place),
                to=to,
                subject=subject,
                message=message,
                html=html,
                level=level,
                attachments=attachments,
                flow=self.flow,
                execution_id=self.execution_id,
            )
        )

    async def execution(self, execution_id: str) -> Execution:
        services, persist = self._executor.services, self._executor.recorder.persist
        found = await persist(lambda: services.storage.execution(execution_id))
        outputs = found.outputs
        if outputs is None:
            return found
        return replace(found, outputs=await persist(lambda: services.payloads.unpack(outputs)))

    def place(self, path: str, *, write: bool = False, below: bool = False) -> Path:
        return self._executor.services.places.resolve(path, write=write, below=below)

    @property
    def work_dir(self) -> Path:
        """Where working folders are made."""
        return self._executor.services.work_dir

    def working_folder(self) -> AbstractAsyncContextManager[Path]:
        return _fresh_folder(self.work_dir)

    async def shared(self, key: str, open: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        return await self._executor.services.shared.get(self._live.task.declaration.type, key, open)


class _FromThread(BlockingCalls):
    """``BlockingCalls`` over a task context."""

    def __init__(self, ctx: RunningTask, loop: asyncio.AbstractEventLoop) -> None:
        self._ctx = ctx
        self._loop = loop

    def _call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._ctx.killed.is_set():
            raise Fail("the task run has to stop")
        with suppress(RuntimeError):
            if asyncio.get_running_loop() is self._loop:
                raise TypeError("ctx.blocking is for threads: await the same on ctx")
        return asyncio.run_coroutine_threadsafe(make(), self._loop).result()

    def secret(self, name: str) -> str:
        return self._call(lambda: self._ctx.secret(name))

    def decide(self, name: str, make: Callable[[], T]) -> T:
        return self._call(lambda: self._ctx.decide(name, make))

    def emit(self, occurrence: Occurrence) -> Receipt:
        return self._call(lambda: self._ctx.emit(occurrence))

    def start(
        self,
        flow: FlowKey,
        *,
        inputs: Mapping[str, Any],
        labels: Mapping[str, str] | None = None,
        revision: int | None = None,
        together: bool = True,
    ) -> str:
        return self._call(
            lambda: self._ctx.start(flow, inputs=inputs, labels=labels, revision=revision, together=together)
        )

    def execution(self, execution_id: str) -> Execution:
        return self._call(lambda: self._ctx.execution(execution_id))

    @contextmanager
    def working_folder(self) -> Iterator[Path]:
        folder = _new_folder(self._ctx.work_dir)
        try:
            yield folder
        finally:
            _remove(folder)


def _new_folder(parent: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix="run-", dir=parent))


@asynccontextmanager
async def _fresh_folder(parent: Path) -> AsyncIterator[Path]:
    folder = _new_folder(parent)
    try:
        yield folder
    finally:
        # a handful of files is quicker to remove than a thread is to reach; a tree goes to a thread
        if _is_small(folder):
            _remove(folder)
        else:
            await asyncio.shield(asyncio.to_thread(_remove, folder))


def _remove(folder: Path) -> None:
    # what cannot be removed, or was made anew, goes at the next start
    with suppress(OSError):
        remove_tree(folder)


def _is_small(folder: Path) -> bool:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return False  # its task removed it, or made it unreadable: whoever removes the rest finds out
    return len(entries) <= 8 and not any(entry.is_dir() and not entry.is_symlink() for entry in entries)
