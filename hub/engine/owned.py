"""Work that is finished even when whoever waits for it is cancelled: its answer must not be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
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

    @property
    def is_busy(self) -> bool:
        """Whether any work goes on."""
        return bool(self._tasks)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]

    async def settled(self, is_meant: Callable[[Key], bool] = lambda _: True) -> None:
        """Return once all work for the keys that are meant is finished."""
        while tasks := [task for task, key in self._tasks.items() if is_meant(key)]:
            await asyncio.wait(tasks)


class OwnedAnswers(Generic[Key]):
    """Owns answers that are used when they come, whoever waits for them by then; cheaper than a task for each."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Future[Any], Key] = {}

    async def finish(self, key: Key, work: Awaitable[T], use: Callable[[T], None]) -> T:
        """The answer of ``work``, handed to ``use`` first. Who is cancelled here changes nothing about that."""
        answer = asyncio.ensure_future(work)
        waiting: asyncio.Future[T] = answer.get_loop().create_future()

        def came(_: asyncio.Future[T]) -> None:
            del self._open[answer]
            if answer.cancelled():  # the process itself is going down
                waiting.cancel()
                return
            error = answer.exception()
            if error is None:
                use(answer.result())
            if waiting.done():
                return
            if error is None:
                waiting.set_result(answer.result())
            else:
                waiting.set_exception(error)

        self._open[answer] = key
        answer.add_done_callback(came)
        return await waiting

    async def settled(self, is_meant: Callable[[Key], bool] = lambda _: True) -> None:
        """Return once all answers for the keys that are meant were used."""
        while answers := [answer for answer, key in self._open.items() if is_meant(key)]:
            await asyncio.wait(answers)
