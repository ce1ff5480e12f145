"""Refuse a plugin that cancels asyncio tasks that are not its own, and say which one it is.

``for task in asyncio.all_tasks(): task.cancel()`` would end the reader of a stream and leave its trigger as if
it ran, break off what is being stored, and end the hub. So every task knows whether a plugin's own code has
made it, and a plugin's own code cancels no other but the one that it runs in. Set up with the loop that a hub
is served in; what is refused is noted as the plugin's fault while a node runs.

What takes the trouble to call ``asyncio.Task.cancel(task)`` gets past it: the hub ends then, and its next
start goes on.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from hub.engine.faults import PluginFault, packages_of_others
from hub.engine.watchdog import block_of

if TYPE_CHECKING:
    from hub.engine.services import Services
    from hub.registry import Registry

log = structlog.get_logger("hub.watchdog")

T = TypeVar("T")
_Work = Generator[Any, None, T] | Coroutine[Any, Any, T]
_OURS = frozenset({"hub", "plugins_core"})
_FAULT = "it cancels tasks that are not its own"
_HINT = "cancel only what it has made itself: keep the tasks that asyncio.create_task gives it"
_DEEPEST = 30


class TaskGuard:
    """Makes a loop's tasks: a factory for ``loop.set_task_factory``."""

    def __init__(self) -> None:
        self._services: Services | None = None
        self._known: tuple[Registry | None, Mapping[str, str]] = (None, {})

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: _Work[T], /, **given: Any
    ) -> asyncio.Task[T]:
        """A new task; a plugin's own where one of its modules is nearest among those that ask for it."""
        made = asyncio.Task if self._is_of_plugin(sys._getframe(1)) else _Guarded
        return made(coroutine, loop=loop, **given)

    @contextmanager
    def noting(self, services: Services) -> Iterator[None]:
        """Until the block ends, plugins are known, and what they do is noted."""
        self._services = services
        try:
            yield
        finally:
            self._services, self._known = None, (None, {})

    def refuses(self, frame: FrameType | None, task: asyncio.Task[Any]) -> bool:
        """Whether whoever stands at ``frame`` may not cancel a task that no plugin has made."""
        while frame is not None and (top := _package(frame)) in sys.stdlib_module_names:
            if frame.f_globals.get("__name__") == "asyncio.runners":
                return False  # Ctrl-C, in the middle of whatever ran
            frame = frame.f_back
        services = self._services
        plugin = self._plugins.get(top) if frame is not None else None
        if frame is None or plugin is None or services is None or task is _current():
            return False
        self._note(services, plugin, frame, task)
        return True

    @property
    def _plugins(self) -> Mapping[str, str]:
        """The plugins of others by package."""
        registry = self._services.registry if self._services is not None else None
        if registry is not self._known[0]:
            self._known = registry, packages_of_others(registry) if registry is not None else {}
        return self._known[1]

    def _is_of_plugin(self, frame: FrameType | None) -> bool:
        plugins = self._plugins
        if not plugins:
            return False
        while frame is not None:
            top = _package(frame)
            if top in _OURS:
                return False
            if top in plugins:
                return True
            frame = frame.f_back
        return False

    def _note(self, services: Services, plugin: str, frame: FrameType, task: asyncio.Task[Any]) -> None:
        block = block_of(frame, services.registry.owner_of)
        # a callback of its own is nobody's call: its module alone says whose it is
        component = block.component if block.plugin == plugin else None
        fault = PluginFault(component, _FAULT, _HINT, services.clock.now(), block.where)
        if services.faults.note(plugin, fault) == 1:
            log.error(
                "a plugin cancels tasks that are not its own; they go on",
                plugin=plugin,
                component=component,
                where=block.where,
                task=task.get_name(),
                hint=_HINT,
                stack="".join(traceback.format_stack(frame, _DEEPEST)),
            )


class _Guarded(asyncio.Task[Any]):
    """A task that no plugin has made."""

    def cancel(self, msg: Any | None = None) -> bool:
        guard = self.get_loop().get_task_factory()
        if isinstance(guard, TaskGuard) and guard.refuses(sys._getframe(1), self):
            return False
        return super().cancel(msg)


@contextmanager
def guarding(services: Services) -> Iterator[None]:
    """Note what the running loop's guard refuses, where it has one, until the block ends."""
    guard = asyncio.get_running_loop().get_task_factory()
    if not isinstance(guard, TaskGuard):
        yield
        return
    with guard.noting(services):
        yield


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # a thread of its own
        return None
