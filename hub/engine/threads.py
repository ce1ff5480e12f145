"""Threads for tasks whose ``run`` is a plain ``def``: their own, so that nothing else waits for a stuck one."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

_MOST = 64
"""How many tasks run in threads at a time; one that takes no notice of its end still counts."""
_PATIENCE = 5.0
"""Seconds that a thread has to end after it was told to."""


class RunsOn(Exception):
    """A thread that was told to end still runs."""


class _Outcome(NamedTuple):
    value: Any
    error: BaseException | None


class TaskThreads:
    """Runs plain functions, each in a daemon thread: the end of the process waits for none of them."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_MOST)

    async def run(self, call: Callable[[], Any], *, name: str) -> Any:
        """What ``call`` returns or raises. Cancelled, this waits a while for the thread to end.

        Raises ``RunsOn`` when it does not.
        """
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[_Outcome] = loop.create_future()
        ended.add_done_callback(lambda _: self._free.release())
        context = contextvars.copy_context()
        work = _Work(lambda: context.run(call), loop, ended)
        threading.Thread(target=work, name=name, daemon=True).start()
        try:
            outcome = await asyncio.shield(ended)
        except asyncio.CancelledError:
            if not ended.done():
                await asyncio.wait([ended], timeout=_PATIENCE)
                if not ended.done():
                    raise RunsOn from None
                raise
            outcome = ended.result()
        if isinstance(outcome.error, KeyboardInterrupt):
            # in a thread nobody's keys were pressed
            raise RuntimeError("KeyboardInterrupt") from outcome.error
        if outcome.error is not None:
            raise outcome.error
        return outcome.value


class _Work:
    """What runs in the thread."""

    def __init__(
        self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop, ended: asyncio.Future[_Outcome]
    ) -> None:
        self._call = call
        self._loop = loop
        self._ended = ended

    def __call__(self) -> None:
        try:
            outcome = _Outcome(self._call(), None)
        except BaseException as error:
            # whatever it is, it is the task's; the loop decides what becomes of it
            outcome = _Outcome(None, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: _Outcome) -> None:
        if not self._ended.done():
            self._ended.set_result(outcome)
