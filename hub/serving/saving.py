"""``hub serve --dev``: reload whenever a file of a plugin's project is saved.

The new process imports what was saved while the old one goes on: a file that is broken is said so in the log,
and the last good one stays in use. What runs ends first, as in every reload.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
from watchfiles import Change, DefaultFilter, awatch

from hub.errors import Conflict
from hub.serving.successor import Reloading

log = structlog.get_logger("hub.plugins")

_SUFFIXES = frozenset({".py", ".toml", ".yaml", ".yml", ".json", ".sql", ".txt", ".md"})


class _Source(DefaultFilter):
    """What a project is written in, and not what tools leave in it."""

    def __call__(self, change: Change, path: str) -> bool:
        return Path(path).suffix in _SUFFIXES and super().__call__(change, path)


async def reload_on_save(folders: Sequence[Path], reloading: Reloading, *, loaded_at: float) -> None:
    """Reload at every change, until cancelled; also for what was saved since ``loaded_at``, before anybody watched."""
    missed = _saved_since(folders, loaded_at)
    if missed is not None:
        await _reload([str(missed)], reloading)
    async for changes in awatch(*folders, watch_filter=_Source(), step=100):
        await _reload(sorted({path for _, path in changes}), reloading)


async def _reload(paths: Sequence[str], reloading: Reloading) -> None:
    began = time.monotonic()
    with suppress(Conflict):  # the log says why, and the next save may be better
        await reloading.begin()
        log.info("saved; handing over", files=", ".join(paths), seconds=round(time.monotonic() - began, 2))


def _saved_since(folders: Sequence[Path], moment: float) -> Path | None:
    is_source = _Source()
    for path in _files(folders):
        with suppress(OSError):
            if is_source(Change.modified, str(path)) and path.stat().st_mtime > moment:
                return path
    return None


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file())
