"""The log of one execution: masked, collected in chunks, capped, readable while it is written."""

from __future__ import annotations

import asyncio

from hub.engine.services import Services
from hub.errors import StorageError
from hub.plugin.context import TaskLogger
from hub.plugin.storage import LogLine

_FLUSH_AFTER = 0.2
"""Seconds a line may wait for company; an outcome takes its lines along at once."""
_CHUNK_LINES = 500
_MOST_LINES = 200_000
_MOST_CHARACTERS = 20_000_000


class ExecutionLog:
    """Collects lines; an outcome takes what is there, a timer stores the rest."""

    def __init__(self, execution_id: str, services: Services) -> None:
        self._execution_id = execution_id
        self._services = services
        self._waiting: list[LogLine] = []
        self._lines = 0
        self._characters = 0
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    def add(self, level: str, message: str, *, path: str, attempt: int, stream: str | None) -> None:
        """Add a line; beyond the cap one last line says so and the rest is dropped."""
        if self._lines > _MOST_LINES or self._characters > _MOST_CHARACTERS:
            return
        self._lines += 1
        self._characters += len(message)
        if self._lines > _MOST_LINES or self._characters > _MOST_CHARACTERS:
            level, message, stream = (
                "WARN",
                "the log of this execution is full; later lines are dropped",
                None,
            )
        self._waiting.append(
            LogLine(
                self._services.clock.now(), level, self._services.vault.mask(message), path, attempt, stream
            )
        )
        if len(self._waiting) >= _CHUNK_LINES:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_AFTER, self._flush)

    def take(self) -> tuple[LogLine, ...]:
        """What has not been stored yet, for an outcome to take along."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return ()
        lines = tuple(self._waiting)
        self._waiting.clear()
        return lines

    def _flush(self) -> None:
        self._timer = None
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._store())

    async def _store(self) -> None:
        while self._waiting:
            lines = self.take()
            try:
                await self._services.storage.append_logs(self._execution_id, lines)
            except StorageError:
                return  # a log line is worth no retry loop; the outcome that follows will tell
            self._services.bus.tell("logs", self._execution_id)

    async def close(self) -> None:
        """Wait for a chunk that is being stored; nothing is flushed after this."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing is not None:
            await self._flushing


class TaskRunLogger(TaskLogger):
    """The execution's log as one task run writes it."""

    __slots__ = ("_attempt", "_log", "_path")

    def __init__(self, log: ExecutionLog, path: str, attempt: int) -> None:
        self._log = log
        self._path = path
        self._attempt = attempt

    def log(self, level: str, message: str, *, stream: str | None = None) -> None:
        self._log.add(level, message, path=self._path, attempt=self._attempt, stream=stream)
