"""Hints that something happened in a folder: quick, and never trusted to be complete.

On Linux they come from inotify, which says whether a file was renamed into place and when its queue ran over;
elsewhere from watchfiles, which says neither. Whoever uses them looks at the whole folder now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugins_core.file.arrivals import CLAIMED


@dataclass(frozen=True, slots=True)
class Hint:
    """A path at which something happened; None: anything may have happened."""

    path: Path | None
    renamed: bool = False


Tell = Callable[[Hint], None]


@asynccontextmanager
async def watching(root: Path, tell: Tell, *, recursive: bool) -> AsyncIterator[None]:
    """Tell hints about a folder until the block ends; where it cannot be watched, nothing is told."""
    watch = _inotify if sys.platform == "linux" else _watchfiles
    job = asyncio.create_task(watch(root, tell, recursive))
    try:
        yield
    finally:
        job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job


async def _inotify(root: Path, tell: Tell, recursive: bool) -> None:
    from asyncinotify import Inotify, Mask

    wanted = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.CREATE | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
    with Inotify() as inotify:

        def watch(folder: Path) -> None:
            with contextlib.suppress(OSError):
                inotify.add_watch(folder, wanted)
                if recursive:
                    for below in folder.iterdir():
                        if below.is_dir() and not below.is_symlink() and below.name != CLAIMED:
                            watch(below)

        try:
            watch(root)
        except OSError:
            return
        # what came while the watches were being set is found by looking
        tell(Hint(None))
        async for event in inotify:
            _told(event, tell, watch if recursive else None)


def _told(event: Any, tell: Tell, watch: Callable[[Path], None] | None) -> None:
    from asyncinotify import Mask

    if event.mask & (Mask.Q_OVERFLOW | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED):
        tell(Hint(None))
    elif event.mask & Mask.ISDIR:
        if watch is not None and event.path is not None and event.path.name != CLAIMED:
            watch(event.path)
            tell(Hint(None))
    elif event.path is not None and not event.mask & Mask.CREATE:
        tell(Hint(event.path, bool(event.mask & Mask.MOVED_TO)))


async def _watchfiles(root: Path, tell: Tell, recursive: bool) -> None:
    from watchfiles import awatch

    with contextlib.suppress(OSError):
        async for changes in awatch(root, recursive=recursive, step=10, debounce=50):
            for _, path in changes:
                tell(Hint(Path(path)))
