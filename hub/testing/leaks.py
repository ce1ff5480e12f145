"""What code under test leaves behind: asyncio tasks, threads, processes and open files.

::

    async with Leaks():
        await what_should_clean_up_behind_itself()

Processes and files are seen on Linux, where the system says; elsewhere only tasks and threads are.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

_GRACE = 2.0
"""Seconds that what is closing already may take."""
_LOOK_EVERY = 0.02
_PROC = Path("/proc/self")
_OF_THE_MACHINE = ("asyncio_", "hub receiver")
"""Threads that outlive what asked for them: those of the loop's own pool, and of the kit's receivers."""
_OF_THE_LOOP = ("anon_inode:[event", "/dev/null", "/dev/urandom", "/proc/")


class Leaked(AssertionError):
    """Something was left behind; the message names it."""


class Leaks:
    """A block that leaves nothing behind. Raises ``Leaked`` at its end where it did."""

    def __init__(self, *, allowed: bool = False) -> None:
        self._allowed = allowed

    async def __aenter__(self) -> Leaks:
        self._tasks = asyncio.all_tasks()
        self._threads = set(threading.enumerate())
        self._processes = set(_children())
        self._files = _open_files()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None or self._allowed:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + _GRACE
        found = list(self.found())
        while found and loop.time() < until:
            # a transport, a thread or a process that was told to end needs its moment
            await asyncio.sleep(_LOOK_EVERY)
            gc.collect()
            found = list(self.found())
        if found:
            raise Leaked("left behind: " + "; ".join(found))

    def found(self) -> Iterator[str]:
        """What is there now and was not at the beginning."""
        for task in asyncio.all_tasks() - self._tasks:
            yield f"the task {_spelled(task)}"
        for thread in set(threading.enumerate()) - self._threads:
            if not thread.name.startswith(_OF_THE_MACHINE):
                yield f'the thread "{thread.name}"'
        for process in set(_children()) - self._processes:
            yield f"the process {process} ({_command(process)})"
        for number, target in _open_files().items():
            if self._files.get(number) != target and not target.startswith(_OF_THE_LOOP):
                yield f"the open file {number} ({target})"


def _spelled(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return f'"{task.get_name()}" ({getattr(coroutine, "__qualname__", coroutine)})'


def _children() -> Iterator[int]:
    for path in (_PROC / "task").glob("*/children"):
        with suppress(OSError):
            yield from map(int, path.read_text().split())


def _command(process: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return words.strip()[:100] or "it has ended, and nobody has waited for it"
    return "gone"


def _open_files() -> dict[str, str]:
    found: dict[str, str] = {}
    with suppress(OSError):
        for number in os.listdir(_PROC / "fd"):
            with suppress(OSError):
                found[number] = os.readlink(_PROC / "fd" / number)
    return found
