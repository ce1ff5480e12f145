"""A stage: tasks whose bodies a test writes, and a storage whose every step a test may hold or refuse."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

from hub.plugin import (
    Children,
    Emit,
    Storage,
    StorageSettings,
    Task,
    TaskContext,
    Trigger,
    TriggerContext,
)
from hub.registry import Registry, load_plugins
from hub.testing import Harness, harness
from hub.testing.steered import Line, Steering
from plugins_core.memory.storage import MemoryStorage

Body = Callable[[Any], Any]


class Stage(Steering):
    """What the tasks ``test.call`` and ``test.plain`` do, by the name that they are given."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: dict[str, Body] = {}
        self.sources: dict[str, Callable[[TriggerContext, Emit], Awaitable[None]]] = {}
        self.calls: list[str] = []
        self.kept: dict[str, MemoryStorage] = {}
        self.lines: list[Line] = []
        self._events: dict[str, asyncio.Event] = {}

        self.registry = self._registry()

    def on(self, name: str) -> Callable[[Body], Body]:
        """Say what a task does."""

        def remember(body: Body) -> Body:
            self.bodies[name] = body
            return body

        return remember

    def source(self, name: str) -> Callable[[Any], Any]:
        """Say what a trigger ``test.source`` does."""

        def remember(body: Any) -> Any:
            self.sources[name] = body
            return body

        return remember

    def event(self, name: str) -> asyncio.Event:
        """A signal between the test and its tasks."""
        return self._events.setdefault(name, asyncio.Event())

    async def reached(self, name: str) -> None:
        """Wait until a signal is given."""
        async with asyncio.timeout(20):
            await self.event(name).wait()

    async def run(self, name: str, ctx: TaskContext) -> Any:
        self.calls.append(name)
        returned = self.bodies[name](ctx) if name in self.bodies else None
        return await returned if inspect.isawaitable(returned) else returned

    def hub(
        self, folder: Path, storage: str = "staged:", **given: Any
    ) -> AbstractAsyncContextManager[Harness]:
        """A hub with this stage's tasks; the same ``staged:NAME`` is the same storage each time."""
        return harness(folder, storage=storage, registry=self.registry, **given)

    def crash(self) -> None:
        """From here on nothing of what the hub does is stored: leave its block, and open it again."""
        self.lines[-1].cut()

    def _registry(self) -> Registry:
        stage = self

        class Call(Task):
            """Do what the test says."""

            type: ClassVar[str] = "test.call"
            name: str

            async def run(self, ctx: TaskContext) -> Any:
                return await stage.run(self.name, ctx)

        class Plain(Task):
            """Do what the test says, in a thread."""

            type: ClassVar[str] = "test.plain"
            name: str

            def run(self, ctx: TaskContext) -> Any:
                stage.calls.append(self.name)
                return stage.bodies[self.name](ctx)

        class Group(Task):
            """A group that does what the test says."""

            type: ClassVar[str] = "test.group"
            name: str
            tasks: Children

            async def run(self, ctx: TaskContext) -> Any:
                return await stage.bodies[self.name](GroupBody(ctx, self.tasks))

        class Source(Trigger):
            """Emit what the test says."""

            type: ClassVar[str] = "test.source"
            event_type: ClassVar[str] = "test"
            name: str

            async def run(self, ctx: TriggerContext, emit: Emit) -> None:
                await stage.sources[self.name](ctx, emit)

        loaded = load_plugins({})
        return replace(
            loaded,
            tasks={**loaded.tasks, **{one.type: one for one in (Call, Plain, Group)}},
            triggers={**loaded.triggers, Source.type: Source},
            storages={**loaded.storages, "staged": _of(self)},
        )


class GroupBody:
    """What the body of a ``test.group`` is given."""

    def __init__(self, ctx: TaskContext, tasks: Any) -> None:
        self.ctx = ctx
        self.tasks = tasks


def _of(stage: Stage) -> type[Storage]:
    class Staged(MemoryStorage):
        type: ClassVar[str] = "staged"
        schemes: ClassVar[tuple[str, ...]] = ("staged",)

        @classmethod
        @asynccontextmanager
        async def open(cls, settings: StorageSettings) -> AsyncIterator[Storage]:
            kept = stage.kept.setdefault(settings.url, MemoryStorage(settings.clock))
            line = Line(stage, kept)
            stage.lines.append(line)
            yield cast("Storage", line)

    return Staged
