"""Keep the tasks of the folders' ``tasks.py`` in line with the files: saved means usable.

A broken file keeps the last good one and says why. Called by the flow folders before they read any flow, at
the start and whenever something in them has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from hub.errors import HubError, PluginError
from hub.plugin.task import Task
from hub.registry import PluginReport, Registry
from hub.registry.local import FILE_NAME, load_source, read_source, tried

log = structlog.get_logger("hub.plugins")

Mark = tuple[int, int, int]


@dataclass
class _File:
    """One ``tasks.py`` as it stands."""

    mark: Mark | None = None
    tasks: Mapping[str, type[Task]] = field(default_factory=dict)
    error: str | None = None
    is_there: bool = False


class LocalTasks:
    """The tasks that flow folders bring themselves."""

    def __init__(
        self, folders: Sequence[Path], *, others: Sequence[Path] = (), use: Callable[[Registry], None]
    ) -> None:
        self._files = {folder.resolve() / FILE_NAME: _File() for folder in folders}
        self._others = [folder.resolve() / FILE_NAME for folder in others]
        self._use = use

    async def scan(self, registry: Registry) -> set[str]:
        """Load what is new or changed; answers the types that are other ones now."""
        changed = [path for path, file in self._files.items() if _mark(path) != file.mark or not file.mark]
        before = dict(_all(self._files))
        said = {path: file.error for path, file in self._files.items()}
        for path in changed:
            await self._read(path, self._files[path])
        now = dict(_all(self._files))
        types = {name for name in before.keys() | now.keys() if before.get(name) is not now.get(name)}
        if types or any(file.error != said[path] for path, file in self._files.items()):
            self._use(registry.with_local(now, self._reports()))
        return types

    def say_ignored(self) -> None:
        """Tell of files in folders that nobody named on the command line: they are not run."""
        for path in self._others:
            if path.is_file():
                log.warning(
                    "tasks.py is not loaded: its folder comes from the settings",
                    file=str(path),
                    hint=f"hub serve --flows {path.parent} loads it, with the hub's own rights",
                )

    async def _read(self, path: Path, file: _File) -> None:
        mark = _mark(path)
        if mark is None:
            if file.is_there:
                log.info("tasks.py is gone, and its tasks with it", file=str(path))
            self._files[path] = _File()
            return
        file.mark, file.is_there = mark, True
        before = file.error
        try:
            source = await asyncio.to_thread(read_source, path)
            await tried(path, source)
            tasks = await asyncio.to_thread(load_source, path, source)
            self._check_others(path, tasks)
        except OSError as error:
            file.error, file.mark = f"{path} cannot be read: {error.strerror}", None
        except HubError as error:
            file.error = error.message
        else:
            file.tasks, file.error = tasks, None
            log.info("tasks loaded", file=str(path), types=", ".join(sorted(tasks)) or "none")
            return
        if file.error == before:
            return  # said already
        kept = ", ".join(sorted(file.tasks))
        log.error(
            "tasks.py cannot be used",
            file=str(path),
            error=file.error,
            kept=f"the last good ones stay in use: {kept}" if kept else "nothing",
        )

    def _check_others(self, path: Path, tasks: Mapping[str, type[Task]]) -> None:
        for other, file in self._files.items():
            for name in file.tasks if other != path else ():
                if name in tasks:
                    raise PluginError(f'{path}: "{name}" is a task of {other} already')

    def _reports(self) -> list[PluginReport]:
        return [
            PluginReport(
                str(path),
                None,
                None,
                tuple(sorted(file.tasks)),
                "loaded" if file.error is None else "partly" if file.tasks else "failed",
                file.error and f"{file.error}. Mend it and save it",
            )
            for path, file in self._files.items()
            if file.is_there
        ]


def _all(files: Mapping[Path, _File]) -> Mapping[str, type[Task]]:
    return {name: task for file in files.values() for name, task in file.tasks.items()}


def _mark(path: Path) -> Mark | None:
    with suppress(OSError):
        told = path.stat()
        return told.st_mtime_ns, told.st_size, told.st_ino
    return None
