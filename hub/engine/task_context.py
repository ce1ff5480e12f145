"""The context of one task run: what ``Task.run`` is given."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from hub.engine.logs import TaskRunLogger
from hub.model.flow import TaskDeclaration
from hub.model.ids import derived_id
from hub.plugin.context import Branch, GroupOutcome, TaskContext, TaskFiles
from hub.plugin.file_store import FileStore

if TYPE_CHECKING:
    from hub.engine.executor import Executor
    from hub.engine.scope import RunScope
    from hub.engine.task_runner import LiveRun

T = TypeVar("T")


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

    @cached_property
    def task_run_id(self) -> str:  # type: ignore[override]
        return derived_id(self.execution_id, self.path)

    @property
    def idempotency_key(self) -> str:  # type: ignore[override]
        return self.task_run_id

    @property
    def process_token(self) -> str:  # type: ignore[override]
        return f"{self._executor.services.instance}:{self.task_run_id}"

    @property
    def files(self) -> TaskFiles:  # type: ignore[override]
        return ExecutionFiles(self._executor.services.payloads.store)

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

    def working_folder(self) -> AbstractAsyncContextManager[Path]:
        return _fresh_folder(self._executor.services.work_dir)

    async def shared(self, key: str, open: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        return await self._executor.services.shared.get(key, open)


class ExecutionFiles(TaskFiles):
    """``TaskFiles`` over the hub's file store."""

    def __init__(self, store: FileStore) -> None:
        self._store = store

    async def put(self, name: str, content: bytes | Path | BinaryIO) -> str:
        if isinstance(content, bytes):
            return await self._store.put(name, content)
        if isinstance(content, Path):
            with content.open("rb") as file:
                return await self._store.put_file(name, file)
        return await self._store.put_file(name, content)

    async def get(self, uri: str) -> bytes:
        return await self._store.get(uri)

    async def path(self, uri: str) -> Path:
        return await self._store.path(uri)


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
    try:
        entries = list(folder.iterdir())
    except OSError:
        return False  # its task removed it, or made it unreadable: whoever removes the rest finds out
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
