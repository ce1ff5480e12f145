"""Run the plugins' listeners: each in a thread and an event loop of its own, behind its own bounded queue.

Whatever a listener does, sleeps in plain code included, it does to itself: the bus never waits for it. One that
fails is shown and started again with back-off; one that takes no notice of the hub's end is left behind.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import structlog

from hub.bus.listening import ListenerQueue
from hub.engine.services import Services
from hub.plugin.listener import Listener, ListenerContext

log = structlog.get_logger("hub.listeners")

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 60.0
_HEALTHY_AFTER = 60.0
"""Seconds after which a failure counts as the first one again."""
_PATIENCE = 5.0
"""Seconds that listeners have, when the hub stops, to take what waits for them."""
_LAST_PATIENCE = 2.0
"""Seconds that a cancelled listener has to end."""
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40}


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """How a listener does, for lists and metrics."""

    type: str
    plugin: str
    state: str
    """``running``, ``failing`` (it is started again), ``ended`` (it wants no more) or ``stopped``."""
    told: int
    missed: int
    waiting: int
    failures: int
    error: str | None


class Listeners:
    """Owns the listeners of this node."""

    def __init__(self, services: Services, listeners: Sequence[Listener]) -> None:
        self._services = services
        self._running = [_Running(services, one) for one in listeners]

    def start(self) -> None:
        """Let each be told from now on."""
        for one in self._running:
            one.start()

    async def stop(self, patience: float = _PATIENCE) -> None:
        """Tell them nothing more, let them take what waits, and end them, in bounded time."""
        await asyncio.gather(*(one.stop(min(patience, _PATIENCE)) for one in self._running))

    def statuses(self) -> list[ListenerStatus]:
        return [one.status() for one in self._running]


class _Running:
    """One listener with its thread."""

    def __init__(self, services: Services, listener: Listener) -> None:
        self._services = services
        self._listener = listener
        self._plugin = services.registry.owner_of(type(listener))
        self.queue = ListenerQueue(listener.wants, listener.queue_size, self._say_missed)
        self._state = "stopped"
        self._failures = 0
        self._error: str | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Future[None] | None = None
        self._cancel: Callable[[], None] | None = None

    def status(self) -> ListenerStatus:
        queue = self.queue
        return ListenerStatus(
            self._listener.type,
            self._plugin,
            self._state,
            queue.told,
            queue.missed,
            queue.waiting,
            self._failures,
            self._error,
        )

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._state = "running"
        self._services.bus.attach(self.queue)
        ctx = _Context(self._services, self._listener, loop)
        # a daemon: the end of the process waits for no listener
        self._thread = threading.Thread(
            target=self._main, args=(ctx, loop), name=f"listener {self._listener.type}", daemon=True
        )
        self._thread.start()

    async def stop(self, patience: float) -> None:
        ended = self._ended
        if ended is None:
            return
        self._services.bus.detach(self.queue)
        self._stopping.set()
        self.queue.close()
        await asyncio.wait([ended], timeout=patience)
        if not ended.done() and self._cancel is not None:
            self._cancel()
            await asyncio.wait([ended], timeout=_LAST_PATIENCE)
        if not ended.done():
            log.warning(
                "listener does not end; it is left behind", listener=self._listener.type, plugin=self._plugin
            )
        self._state = "stopped"

    # in its thread

    def _main(self, ctx: ListenerContext, hub: asyncio.AbstractEventLoop) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            began = time.monotonic()
            try:
                with asyncio.Runner() as runner:
                    runner.run(self._run(ctx))
                self._state = "ended"
                break
            except BaseException as error:  # sys.exit() among them: a listener ends itself, never the hub
                if self._stopping.is_set():
                    break
                if time.monotonic() - began > _HEALTHY_AFTER:
                    backoff = _FIRST_BACKOFF
                self._fail(error, backoff)
            if self._stopping.wait(backoff):
                break
            backoff = min(backoff * 2, _LONGEST_BACKOFF)
        try:
            hub.call_soon_threadsafe(self._finish)
        except RuntimeError:
            return  # the hub has gone already

    async def _run(self, ctx: ListenerContext) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._cancel = lambda: _call(loop, task.cancel)
        self.queue.begin()
        self._state = "running"
        await self._listener.run(ctx, self.queue)

    def _fail(self, error: BaseException, backoff: float) -> None:
        self._failures += 1
        spelled = f"{type(error).__name__}: {error}".removesuffix(": ")
        self._error = self._services.vault.mask(spelled)
        self._state = "failing"
        log.warning(
            "listener failed; starting it again",
            listener=self._listener.type,
            plugin=self._plugin,
            error=self._error,
            seconds=backoff,
        )

    # in the hub's

    def _finish(self) -> None:
        # one that wants no more is not kept a queue for
        self._services.bus.detach(self.queue)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _say_missed(self, missed: int) -> None:
        log.warning(
            "listener is too slow; news are dropped",
            listener=self._listener.type,
            plugin=self._plugin,
            dropped=missed,
        )


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        return  # its loop is over


class _Context(ListenerContext):
    """``ListenerContext``, in a listener's own thread."""

    def __init__(self, services: Services, listener: Listener, hub: asyncio.AbstractEventLoop) -> None:
        self._services = services
        self._type = listener.type
        self._hub = hub
        self.settings = services.registry.settings_of(type(listener))

    async def secret(self, name: str) -> str:
        # the sources live in the hub's loop
        asked: Future[str] = asyncio.run_coroutine_threadsafe(self._services.vault.get(name), self._hub)
        return await asyncio.wrap_future(asked)

    def log(self, level: str, message: str, **fields: Any) -> None:
        masked = self._services.vault.mask(message)
        log.log(_LEVELS.get(level.upper(), 20), masked, listener=self._type, **fields)
