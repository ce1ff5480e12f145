"""The log of one execution: masked, collected in chunks, capped, readable while it is written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace

from hub.engine.services import Services
from hub.errors import StorageError
from hub.model.execution import Claim
from hub.plugin.context import TaskLogger
from hub.plugin.storage import LogLine, Transition

_FLUSH_AFTER = 0.2
"""Seconds a line may wait for company; an outcome takes its lines along at once."""
_CHUNK_LINES = 500
_MOST_LINES = 200_000
_MOST_CHARACTERS = 20_000_000
_FULL = "the log of this execution is full; later lines are dropped"


class ExecutionLog:
    """Collects lines; an outcome takes what is there, a timer stores the rest."""

    def __init__(self, claim: Claim, services: Services) -> None:
        self._claim = claim
        self._services = services
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting: list[LogLine] = []
        self._lines = 0
        self._characters = 0
        # what earlier walks have stored counts too; it is asked for once, when there is something to add
        self._is_measured = claim.fresh
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    def add(self, level: str, message: str, *, path: str, attempt: int, stream: str | None) -> None:
        """Add a line, from any thread; beyond the cap one last line says so and the rest is dropped."""
        if threading.get_ident() == self._thread:
            self._add(level, message, path, attempt, stream)
            return
        with suppress(RuntimeError):  # the loop is gone, and whoever would have read it
            self.loop.call_soon_threadsafe(self._add, level, message, path, attempt, stream)

    def _add(self, level: str, message: str, path: str, attempt: int, stream: str | None) -> None:
        if self._is_closed or self._is_full:
            return
        now = self._services.clock.now()
        self._keep(LogLine(now, level, self._services.vault.mask(message), path, attempt, stream))
        if len(self._waiting) >= _CHUNK_LINES:
            self._flush()
        elif self._timer is None:
            self._timer = self.loop.call_later(_FLUSH_AFTER, self._flush)

    def _keep(self, line: LogLine) -> None:
        self._lines += 1
        self._characters += len(line.message)
        if self._is_full:
            line = replace(line, level="WARN", message=_FULL, stream=None)
        self._waiting.append(line)

    @property
    def _is_full(self) -> bool:
        return self._lines > _MOST_LINES or self._characters > _MOST_CHARACTERS

    @property
    def has_lines(self) -> bool:
        """Whether anything has not been stored yet."""
        return bool(self._waiting)

    async def take(self) -> tuple[LogLine, ...]:
        """What has not been stored yet, for an outcome to take along."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return ()
        if not self._is_measured:
            await self._measure()
        lines = tuple(self._waiting)
        self._waiting.clear()
        return lines

    async def _measure(self) -> None:
        try:
            lines, characters = await self._services.storage.log_size(self._claim.execution.id)
        except StorageError:
            return  # asked again with the next lines
        self._is_measured = True
        waiting, self._waiting = self._waiting, []
        self._lines, self._characters = lines, characters
        for line in waiting:
            if self._is_full:
                return
            self._keep(line)

    def _flush(self) -> None:
        self._timer = None
        if self._flushing is None or self._flushing.done():
            self._flushing = self.loop.create_task(self._store())

    async def _store(self) -> None:
        storage, claim = self._services.storage, self._claim
        while self._waiting:
            lines = await self.take()
            now = self._services.clock.now()
            try:
                await storage.record(Transition(claim.execution.id, claim.fence, now, logs=lines))
            except StorageError:
                return  # a log line is worth no retry loop; the outcome that follows will tell
            self._services.bus.tell("logs", claim.execution.id)

    def close(self) -> Awaitable[None] | None:
        """Store nothing after this; the answer, where there is one, is a chunk that is being stored."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._flushing


class TaskRunLogger(TaskLogger):
    """The execution's log as one task run writes it."""

    __slots__ = ("_attempt", "_log", "_path")

    def __init__(self, log: ExecutionLog, path: str, attempt: int) -> None:
        self._log = log
        self._path = path
        self._attempt = attempt

    def log(self, level: str, message: str, *, stream: str | None = None) -> None:
        self._log.add(level, message, path=self._path, attempt=self._attempt, stream=stream)
