"""A stage: tasks whose bodies a test writes, and a storage whose every step a test may hold or refuse."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

from hub.plugin import (
    Accepted,
    Arrival,
    Children,
    Claim,
    Emit,
    FenceRefused,
    Recorded,
    Storage,
    StorageSettings,
    Task,
    TaskContext,
    Transition,
    Trigger,
    TriggerContext,
)
from hub.registry import Registry, load_plugins
from hub.testing import Harness, harness
from plugins_core.memory.storage import MemoryStorage

Body = Callable[[Any], Any]


class Stage:
    """What the tasks ``test.call`` and ``test.plain`` do, by the name that they are given."""

    def __init__(self) -> None:
        self.bodies: dict[str, Body] = {}
        self.sources: dict[str, Callable[[TriggerContext, Emit], Awaitable[None]]] = {}
        self.calls: list[str] = []
        self.kept: dict[str, MemoryStorage] = {}
        self.lines: list[Line] = []
        self._events: dict[str, asyncio.Event] = {}

        async def nothing(step: Any) -> None:
            return None

        self.before_record: Callable[[Transition], Awaitable[None]] = nothing
        self.after_record: Callable[[Transition], Awaitable[None]] = nothing
        self.after_soon: Callable[[Transition], None] = lambda step: None
        """Called when a step that nobody waits for has reached the storage; its time is up to the storage."""
        self.before_accept: Callable[[Sequence[Arrival]], Awaitable[None]] = nothing
        self.after_accept: Callable[[Sequence[Arrival]], Awaitable[None]] = nothing
        self.after_claim: Callable[[Sequence[Claim]], Awaitable[None]] = nothing
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


class Line:
    """One hub's line to a storage that outlives it. Once it is cut nothing goes through, as after a crash."""

    def __init__(self, stage: Stage, kept: MemoryStorage) -> None:
        self._stage = stage
        self._kept = kept
        self._soon: list[Transition] = []
        self.is_cut = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)

    def cut(self) -> None:
        """The hub is gone, and with it what nobody had waited for."""
        self.is_cut = True
        self._soon.clear()

    def record_soon(self, transition: Transition) -> None:
        # kept back for as long as the contract allows it
        if not self.is_cut:
            self._soon.append(transition)
            asyncio.get_running_loop().call_later(0.02, self._send)

    def _send(self) -> None:
        if not self.is_cut:
            for step in self._soon:
                self._kept.record_soon(step)
                self._stage.after_soon(step)
                if self.is_cut:
                    return
        self._soon.clear()

    async def record(self, transition: Transition) -> Recorded:
        await self._stage.before_record(transition)
        self._refuse_when_cut(transition.execution_id)
        self._send()
        self._refuse_when_cut(transition.execution_id)
        recorded = await self._kept.record(transition)
        await self._stage.after_record(transition)
        self._refuse_when_cut(transition.execution_id)
        return recorded

    async def accept(self, arrivals: Sequence[Arrival], **given: Any) -> list[Accepted]:
        await self._stage.before_accept(arrivals)
        self._refuse_when_cut("")
        accepted = await self._kept.accept(arrivals, **given)
        await self._stage.after_accept(arrivals)
        self._refuse_when_cut("")
        return accepted

    async def execution(self, execution_id: str) -> Any:
        await asyncio.sleep(0.001)  # as long as a read takes: what is not waited for is on its way by then
        return await self._kept.execution(execution_id)

    async def claim(self, **given: Any) -> list[Any]:
        if self.is_cut:
            return []
        claims = await self._kept.claim(**given)
        await self._stage.after_claim(claims)
        return claims

    async def request_kill(self, *given: Any, **more: Any) -> Any:
        self._refuse_when_cut("")
        self._send()
        return await self._kept.request_kill(*given, **more)

    def _refuse_when_cut(self, what: str) -> None:
        if self.is_cut:
            raise FenceRefused(f"the hub that moved {what} is gone")


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
