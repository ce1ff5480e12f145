"""Hints that something happened in a folder: quick, and never trusted to be complete.

On Linux they come from inotify, which says whether a file was renamed into place and when its queue ran over;
elsewhere from watchfiles, which says neither. Whoever uses them looks at the whole folder now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hub.plugin import TriggerContext
from plugins_core.file import inotify

_AT_ONCE = 200
"""Folders to begin to watch before others get their turn."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A path at which something happened; None: anything may have happened."""

    path: Path | None
    renamed: bool = False
    is_folder: bool = False


Tell = Callable[[Hint], None]


@dataclass(eq=False, slots=True)
class Listener:
    """One trigger's folders."""

    tell: Tell
    watches: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Watch:
    folder: str
    listeners: list[Listener]


class Hints:
    """Tells several listeners what happens in their folders."""

    def __init__(self, complain: Callable[[str, str], None]) -> None:
        self._complain = complain
        self._watches: dict[int, _Watch] = {}
        self._has_complained = False
        self._inotify: inotify.Inotify | None = None

    def open(self) -> None:
        """Begin; where that cannot be done it is said, and nothing will be told."""
        try:
            self._inotify = inotify.Inotify()
        except OSError as error:
            self._complain("changes of folders cannot be heard; they are looked for instead", str(error))
            return
        asyncio.get_running_loop().add_reader(self._inotify.handle, self._read)

    def close(self) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.handle)
            self._inotify.close()
            self._inotify = None

    @contextmanager
    def listening(self, tell: Tell) -> Iterator[Listener]:
        """Be told until the block ends of the folders that ``watch`` is called with."""
        listener = Listener(tell)
        try:
            yield listener
        finally:
            for number in listener.watches:
                self._leave(number, listener)

    async def watch(self, listener: Listener, folders: Iterable[str]) -> bool:
        """Watch these folders; those that are watched already cost little. Answers whether any was not."""
        is_new = False
        for number, folder in enumerate(folders):
            is_new |= self._watch(listener, folder)
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        return is_new

    def _watch(self, listener: Listener, folder: str) -> bool:
        if self._inotify is None:
            return False
        try:
            number = self._inotify.add(folder)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if not self._has_complained:
                self._has_complained = True
                self._complain(f"changes of {folder} and maybe others cannot be heard", str(error))
            return False
        watch = self._watches.setdefault(number, _Watch(folder, []))
        watch.folder = folder
        if number in listener.watches:
            return False
        listener.watches.add(number)
        watch.listeners.append(listener)
        return True

    def _leave(self, number: int, listener: Listener) -> None:
        watch = self._watches.get(number)
        if watch is None:
            return
        watch.listeners.remove(listener)
        if not watch.listeners:
            del self._watches[number]
            if self._inotify is not None:
                with contextlib.suppress(OSError):
                    self._inotify.remove(number)

    def _read(self) -> None:
        assert self._inotify is not None
        for happened in self._inotify.read():
            watch = self._watches.get(happened.watch)
            if happened.mask & inotify.OVERFLOW:
                for listener in {one for some in self._watches.values() for one in some.listeners}:
                    listener.tell(Hint(None))
            elif watch is not None:
                for listener in tuple(watch.listeners):
                    listener.tell(_hint(watch.folder, happened))
                if happened.mask & inotify.IGNORED:
                    self._drop(happened.watch)

    def _drop(self, number: int) -> None:
        """The kernel watches it no more: the folder is gone."""
        for listener in self._watches.pop(number).listeners:
            listener.watches.discard(number)


def _hint(folder: str, happened: inotify.Happened) -> Hint:
    if not happened.name:
        return Hint(None)
    return Hint(
        Path(folder, os.fsdecode(happened.name)),
        renamed=bool(happened.mask & inotify.MOVED_TO),
        is_folder=bool(happened.mask & inotify.IS_FOLDER),
    )


class _Slower(Hints):
    """Hints of watchfiles, for systems without inotify: one job per listener, over its root alone."""

    def __init__(self, complain: Callable[[str, str], None]) -> None:
        super().__init__(complain)
        self._jobs: dict[Listener, asyncio.Task[None]] = {}

    def open(self) -> None:
        return

    @contextmanager
    def listening(self, tell: Tell) -> Iterator[Listener]:
        listener = Listener(tell)
        try:
            yield listener
        finally:
            job = self._jobs.pop(listener, None)
            if job is not None:
                job.cancel()

    async def watch(self, listener: Listener, folders: Iterable[str]) -> bool:
        job = self._jobs.get(listener)
        root = next(iter(folders), None)
        if root is None or (job is not None and not job.done()):
            return False
        self._jobs[listener] = asyncio.create_task(self._follow(listener, root))
        return True

    @staticmethod
    async def _follow(listener: Listener, root: str) -> None:
        from watchfiles import awatch

        with contextlib.suppress(OSError):
            async for changes in awatch(root, recursive=True, step=10, debounce=50):
                for _, path in changes:
                    listener.tell(Hint(Path(path)))


def hints_of(ctx: TriggerContext) -> Callable[[], contextlib.AbstractAsyncContextManager[Hints]]:
    """What opens the hints of all file triggers, for ``ctx.shared``."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Hints]:
        kind = Hints if sys.platform == "linux" else _Slower

        def complain(what: str, why: str) -> None:
            ctx.log("warning", what, error=why)

        hints = kind(complain)
        hints.open()
        try:
            yield hints
        finally:
            hints.close()

    return opened
