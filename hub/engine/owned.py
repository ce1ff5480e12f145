"""Work that is finished even when whoever waits for it is cancelled: its answer must not be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Key = TypeVar("Key")


class OwnedWork(Generic[Key]):
    """Owns work that was begun for somebody, by a key."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], Key] = {}

    async def finish(self, key: Key, work: Coroutine[Any, Any, T]) -> T:
        """The answer of ``work``. Who is cancelled here leaves it running."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = key
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]

    async def settled(self, is_meant: Callable[[Key], bool] = lambda _: True) -> None:
        """Return once all work for the keys that are meant is finished."""
        while tasks := [task for task, key in self._tasks.items() if is_meant(key)]:
            await asyncio.wait(tasks)
