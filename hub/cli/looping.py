"""Run a coroutine in a loop whose end waits for nobody's threads, and end the process beside them.

Code of a plugin that runs in a thread (``asyncio.to_thread``) cannot be cancelled: the loop's own end, and then
the interpreter's, would wait for it, for ever perhaps.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 2.0
"""Seconds that the threads of plugins have once everything else has ended."""


class _Threads(ThreadPoolExecutor):
    """The loop's own threads; its end waits for them no longer than they may take."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)
        if wait:
            _join(list(self._threads))


def run_loop(main: Coroutine[Any, Any, T], *, fastest: bool = True) -> T:
    """What a coroutine returns, run in the fastest loop there is, or in Python's own."""

    with asyncio.Runner(loop_factory=lambda: _loop(fastest=fastest)) as runner:
        return runner.run(main)


def _loop(*, fastest: bool) -> asyncio.AbstractEventLoop:
    from hub.engine.cancelling import TaskGuard

    if fastest and sys.platform == "linux":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    loop.set_default_executor(_Threads(thread_name_prefix="asyncio"))
    # from the first task on: even the one that serves must not be cancelled by a plugin
    loop.set_task_factory(TaskGuard())
    return loop


def leave_threads(code: int) -> None:
    """End the process though a plugin's thread runs on: the interpreter would wait for it."""
    # those of an executor are waited for even where they are daemons, as in a thread that is one
    pooled = set(getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", ()))
    waited_for = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.current_thread() and (not thread.daemon or thread in pooled)
    ]
    for thread in _join(waited_for):
        with suppress(OSError, ValueError):
            print(f'left behind at the end: the thread "{thread.name}"', file=sys.stderr)
            sys.stdout.flush()
        os._exit(code)


def _join(threads: list[threading.Thread]) -> list[threading.Thread]:
    """Wait for threads, not for ever; answers those that run on."""
    until = time.monotonic() + _PATIENCE
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
    return [thread for thread in threads if thread.is_alive()]
