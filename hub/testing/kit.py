"""What a plugin's tests ask for: run one task, run a flow, let a trigger fire; in a real hub, in this process.

The pytest fixtures ``run_task``, ``run_flow`` and ``trigger`` are methods of one ``Kit``; other test runners make
it themselves. Every hub it opens has to leave nothing behind: no asyncio task, thread, process or open file.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from hub.model.durations import format_duration
from hub.model.event import Event
from hub.model.execution import Execution
from hub.model.ids import TriggerKey
from hub.model.naming import spelled
from hub.model.task_run import TaskRun
from hub.plugin.component import Component
from hub.plugin.listener import Listener
from hub.plugin.notifier import Notifier
from hub.plugin.storage import EventFilter, Page
from hub.plugin.task import Task
from hub.plugin.trigger import HttpTrigger, Trigger
from hub.registry import Registry, load_plugins
from hub.testing.clock import VirtualClock
from hub.testing.hub_harness import Harness, harness
from hub.testing.leaks import Leaks
from hub.testing.steered import SteeredStorage

_PATIENCE = 10.0
"""Seconds to wait for an event that a test says must come."""
_MOMENT = 0.05
"""Seconds that what is under way gets before a virtual clock jumps."""
_FLOW = "test/flow"
_KEY = "test-key"


class NothingCame(AssertionError):
    """An event that a test waited for did not come."""


@dataclass(frozen=True)
class TaskResult:
    """How a task ended."""

    state: str
    """``SUCCESS``, ``WARNING``, ``FAILED``, ``SKIPPED``, …"""
    outputs: Mapping[str, Any]
    """What later tasks see as ``outputs.<id>``."""
    error: str | None
    attempts: int
    logs: Sequence[str]
    """The messages of its log, in order."""


@dataclass(frozen=True)
class FlowResult:
    """How an execution ended."""

    state: str
    outputs: Mapping[str, Any]
    """The flow's ``outputs``, by their ids."""
    error: str | None
    tasks: Mapping[str, TaskResult]
    """By path: the task's id, ``each[3]/book`` inside a loop."""
    logs: Sequence[str]


@dataclass
class Kit:
    """Runs what a test asks for, each in a hub of its own."""

    folder: Path
    """Relative paths in fields start here."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    plugins: Mapping[str, Any] = field(default_factory=dict)
    """The plugins' settings, as ``hub.yaml`` has them."""
    clock: VirtualClock | None = None
    """Where one is given, nothing waits for the wall clock: retries, pauses and schedules come at once."""
    leaks_allowed: bool = False

    async def run_task(self, type: str | type[Task] | Any, /, **fields: Any) -> TaskResult:
        """Run one task to its end; ``fields`` by their Python or YAML names, ``retry`` and ``timeout`` too.

        ``type`` is the name of an installed one, a class, or a function made a task. Raises ``InvalidFlow`` for
        fields that could not be saved.
        """
        name, component = _named(type)
        source = self.flow_of(name, fields)
        result = await self._run([source], _FLOW, {}, _classes(component))
        return result.tasks.get("task") or TaskResult(result.state, {}, result.error, 0, result.logs)

    async def run_flow(
        self,
        flow: str | Path,
        inputs: Mapping[str, Any] | None = None,
        *,
        also: Sequence[str | Path] = (),
        components: Sequence[Any] = (),
    ) -> FlowResult:
        """Run a flow, its YAML or a file of it, to its end; ``also`` are flows that it calls.

        ``components`` are classes that no installed plugin brings. Raises ``InvalidFlow``.
        """
        sources = [_text(one) for one in (*also, flow)]
        return await self._run(sources, None, inputs or {}, _classes(*components))

    @asynccontextmanager
    async def trigger(self, type: str | type[Trigger], /, **fields: Any) -> AsyncIterator[TriggerRun]:
        """Run one trigger until the block ends, and see its events.

        ``type`` is the name of an installed one, or a class. Raises ``InvalidFlow`` for fields that could not be
        saved.
        """
        name, component = _named(type)
        registry = self._registry(_classes(component))
        found = registry.triggers.get(name)
        given = _fields(fields)
        if found is not None and issubclass(found, HttpTrigger):
            given.setdefault("key", _KEY)
        source = _flow(
            triggers=[{"id": "trigger", "type": name, **given}],
            tasks=[{"id": "seen", "type": "log", "message": "seen"}],
        )
        async with Leaks(allowed=self.leaks_allowed):
            running = TriggerRun(self, registry, source, str(given.get("key", "")))
            try:
                await running._open()
                yield running
            finally:
                await running._close()

    # what contract suites ask for

    def flow_of(self, type: str | type[Task] | Any, fields: Mapping[str, Any]) -> str:
        """The flow ``test/flow`` of one task, ``task``."""
        return _flow(tasks=[{"id": "task", "type": _named(type)[0], **self.document(fields)}])

    def document(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields by their YAML names, as plain data."""
        found: dict[str, Any] = json.loads(json.dumps(_fields(fields), default=_plain))
        return found

    def registry(self, *components: Any) -> Registry:
        """The installed plugins, and these."""
        return self._registry(_classes(*components))

    # hubs

    @asynccontextmanager
    async def hub(
        self,
        *,
        components: Sequence[Any] = (),
        storage: SteeredStorage | None = None,
        settings: Mapping[str, Any] | None = None,
        with_triggers: bool = True,
    ) -> AsyncIterator[Harness]:
        """A hub with the kit's folder, secrets, plugin settings and clock.

        ``components`` are classes that no installed plugin brings; ``settings`` is what else ``hub.yaml`` holds.
        """
        registry = self._registry(_classes(*components))
        with self._data() as data:
            async with self._hub(
                data, registry, storage, settings=settings, with_triggers=with_triggers
            ) as hub:
                yield hub

    @asynccontextmanager
    async def _hub(
        self,
        data: Path,
        registry: Registry,
        storage: SteeredStorage | None,
        *,
        settings: Mapping[str, Any] | None = None,
        with_triggers: bool = True,
    ) -> AsyncIterator[Harness]:
        async with harness(
            self.folder,
            data=data,
            storage=storage.url if storage is not None else "memory:",
            clock=self.clock,
            registry=storage.with_it(registry) if storage is not None else registry,
            environ={f"HUB_SECRET_{name}": value for name, value in self.secrets.items()},
            plugins=self.plugins,
            settings=settings,
            with_triggers=with_triggers,
        ) as hub:
            yield hub

    async def _run(
        self, sources: Sequence[str], flow: str | None, inputs: Mapping[str, Any], classes: Sequence[Any]
    ) -> FlowResult:
        registry = self._registry(classes)
        async with Leaks(allowed=self.leaks_allowed):
            with self._data() as data, self._hurrying():
                async with self._hub(data, registry, None, with_triggers=False) as hub:
                    for source in sources:
                        key = await hub.put(source)
                    started = await hub.start(flow or str(key), inputs)
                    return await _result(hub, await hub.ended(started.id))

    def _hurrying(self) -> Any:
        return self.clock.hurrying() if self.clock is not None else nullcontext()

    @contextmanager
    def _data(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="hub-data-") as name:
            yield Path(name)

    def _registry(self, classes: Sequence[type[Any]]) -> Registry:
        registry = installed()
        tasks = {one.type: one for one in classes if issubclass(one, Task)}
        triggers = {one.type: one for one in classes if issubclass(one, Trigger)}
        notifiers = {one.type: one for one in classes if issubclass(one, Notifier)}
        listeners = [one for one in classes if issubclass(one, Listener)]
        return replace(
            registry,
            tasks={**registry.tasks, **tasks},
            triggers={**registry.triggers, **triggers},
            notifiers={**registry.notifiers, **notifiers},
            listeners=(*(one for one in registry.listeners if one not in listeners), *listeners),
        )


class TriggerRun:
    """A trigger that runs, and what came of it."""

    def __init__(self, kit: Kit, registry: Registry, source: str, key: str) -> None:
        self.events: list[Event] = []
        """Its events so far, oldest first; what has just happened is here once ``next`` has given it."""
        self.storage = SteeredStorage()
        """Where its events go: set ``before_accept`` to hold or to refuse them."""
        self._kit = kit
        self._registry = registry
        self._source = source
        self._key = key
        self._taken = 0
        self._arrived = asyncio.Event()
        self._stack = AsyncExitStack()
        self._stored = AsyncExitStack()
        self._hub: Harness
        self._api: Any = None

    async def next(self, *, timeout: float | None = None) -> Event:
        """The next event that no call has given yet, waiting for it. Raises ``NothingCame`` saying how it does."""
        timeout = _PATIENCE if timeout is None else timeout
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        if not await self._has_more(loop.time() + _MOMENT) and not await self._hurried(until):
            raise NothingCame(f"no event came within {timeout:g} s; {self.how_it_does()}")
        self._taken += 1
        return self.events[self._taken - 1]

    @property
    def state(self) -> Mapping[str, Any]:
        """What the trigger has stored last with ``emit(…, state=…)``."""
        return self._hub.state_of(_FLOW, "trigger")

    @property
    def error(self) -> str | None:
        """Why it is failing or broken, None while it is well."""
        return self._hub.node.triggers.status(TriggerKey("test", "flow", "trigger")).error

    async def send(
        self,
        body: Any = None,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a real request to a trigger that receives them; ``body`` is bytes, text, or sent as JSON."""
        import aiohttp

        given = dict(headers or {})
        if body is not None and not isinstance(body, bytes | str):
            body = json.dumps(body)
            given.setdefault("Content-Type", "application/json")
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, await self.url(), data=body, headers=given, params=query) as answer,
        ):
            return Reply(answer.status, dict(answer.headers), await answer.read())

    async def url(self) -> str:
        """Where it listens."""
        from hub.api import open_api
        from hub.config.settings import Settings

        if self._api is None:
            settings = Settings.model_validate({"server": {"port": 0}})
            self._api = await self._stack.enter_async_context(open_api(self._hub.node, settings))
        return f"{self._api.local_url}/api/v1/webhooks/{_FLOW}/{self._key}"

    async def restart(
        self, *, crash: bool = False, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Stop the hub and start it again over what it has stored, after what happens ``meanwhile``.

        ``crash``: from here on nothing of what it does is stored.
        """
        if crash:
            self.storage.cut()
        await self.stop()
        if meanwhile is not None:
            await meanwhile()
        await self._start()

    async def stop(self) -> None:
        """Stop the hub; what has been stored stays known."""
        await self._stack.aclose()

    def hurry(self) -> None:
        """Move a virtual clock to whatever the trigger waits for; nothing without one."""
        clock, moment = self._kit.clock, self._hub.node.services.timer.next_moment
        if clock is not None and moment is not None:
            clock.move_to(moment)

    def how_it_does(self) -> str:
        """The trigger's status in words."""
        status = self._hub.node.triggers.status(TriggerKey("test", "flow", "trigger"))
        return f"the trigger is {status.state}" + (f": {status.error}" if status.error else "")

    # inside

    async def _open(self) -> None:
        self._folder = Path(self._stored.enter_context(self._kit._data()))
        self._stored.push_async_callback(self.storage.close)
        await self._start()
        await self._hub.put(self._source)

    async def _close(self) -> None:
        await self._stack.aclose()
        await self._stored.aclose()

    async def _start(self) -> None:
        self._api = None
        self._stack = AsyncExitStack()
        hub = self._kit._hub(self._folder, self._registry, self.storage)
        self._hub = await self._stack.enter_async_context(hub)
        news = self._stack.enter_context(self._hub.node.services.bus.subscribe("event"))
        gathering = asyncio.create_task(self._gather(news), name="gathering events")
        self._stack.push_async_callback(_ended, gathering)

    async def _gather(self, news: Any) -> None:
        while True:
            await self._look()
            await news.next()

    async def _look(self) -> None:
        """Take what is stored and not known yet: the news only wake."""
        services = self._hub.node.services
        known = {event.id for event in self.events}
        fresh: list[Event] = []
        page = Page(200)
        while True:
            found = await services.storage.events(EventFilter(), page)
            new = [one.event for one in found.items if one.event.id not in known and one.event.trigger]
            fresh += new
            if found.next_cursor is None or len(new) < len(found.items):
                break
            page = Page(200, found.next_cursor)
        for event in reversed(fresh):
            data = await services.payloads.unpack(event.data)
            self.events.append(replace(event, data=data))
        if fresh:
            self._arrived.set()

    async def _hurried(self, until: float) -> bool:
        """Wait for one more, while a virtual clock jumps to whatever the trigger waits for."""
        clock = self._kit.clock
        if clock is None:
            return await self._has_more(until)
        with clock.hurrying():
            self.hurry()
            return await self._has_more(until)

    async def _has_more(self, until: float) -> bool:
        try:
            async with asyncio.timeout_at(until):
                while len(self.events) <= self._taken:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return False
        return True


@dataclass(frozen=True)
class Reply:
    """What a trigger answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@cache
def installed() -> Registry:
    """The installed plugins, loaded once for all tests of a process."""
    return load_plugins({})


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _result(hub: Harness, execution: Execution) -> FlowResult:
    services = hub.node.services
    outputs = await services.payloads.unpack(execution.outputs or {})
    lines = await hub.logs(execution.id)
    runs = await hub.task_runs(execution.id)
    tasks = {
        path: TaskResult(
            run.state.value,
            await services.payloads.unpack(run.outputs or {}),
            run.error,
            run.attempts,
            tuple(line.message for line in lines if line.path == path),
        )
        for path, run in runs.items()
    }
    said = tuple(line.message for line in lines)
    return FlowResult(execution.state.value, outputs, execution.error or _first_error(runs), tasks, said)


def _first_error(runs: Mapping[str, TaskRun]) -> str | None:
    return next((run.error for run in runs.values() if run.error), None)


# what a test gives, as a flow


def _named(type: Any) -> tuple[str, Any]:
    """The type's name, and the class that brings it where a class was given."""
    if isinstance(type, str):
        return type, None
    component = getattr(type, "component", type)
    return component.type, component


def _classes(*components: Any) -> list[type[Component]]:
    return [getattr(one, "component", one) for one in components if one is not None]


def _text(flow: str | Path) -> str:
    return flow.read_text(encoding="utf-8") if isinstance(flow, Path) else flow


def _flow(**parts: Any) -> str:
    return yaml_of({"id": "flow", "namespace": "test", **parts})


def _fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {to_camel(name): value for name, value in fields.items()}


_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def yaml_of(data: Any) -> str:
    """Data as YAML: JSON over several lines, so that a message names a place worth looking at."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=_plain)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return spelled(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"a field of a flow is plain data, got {type(value).__name__}")
