"""Go through a tree of folders, and remove one, however deep it is and without ever following a symbolic link.

What scripts leave behind may lie thousands of folders deep: the standard library goes down by recursion, with a
descriptor for each level, and breaks there. Here two descriptors are open at a time; the way back up is ``..``,
held against the folder that one came from. For the hub's working folders and plugins that remove folders.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Remove(Protocol):
    """``os.unlink`` or ``os.rmdir``."""

    def __call__(self, path: Path | str, /, *, dir_fd: int | None = None) -> None:
        """Remove one name."""


def remove_tree(path: Path | str, *, dir_fd: int | None = None) -> None:
    """Remove a folder with all that is in it. What cannot be removed stays.

    Raises ``OSError``: for what is no folder, a link to one included, and the first one met, once all the rest is gone.
    """
    problems: list[OSError] = []
    with _Descent(path, dir_fd) as descent:
        while descent.levels:
            level = descent.levels[-1]
            if level.folders:
                descent.remove_or_enter(level.folders.pop(), problems)
                continue
            for name in level.files:
                _try(problems, os.unlink, name, descent.handle)
            descent.leave()
            if descent.levels:
                _try(problems, os.rmdir, level.name, descent.handle)
    _try(problems, os.rmdir, path, dir_fd)
    if problems:
        raise problems[0]


def tree_names(path: Path | str, *, dir_fd: int | None = None) -> Iterator[str]:
    """The name of everything in a folder and below it; what cannot be read is left out. Raises ``OSError``."""
    with _Descent(path, dir_fd) as descent:
        while descent.levels:
            level = descent.levels[-1]
            yield from level.files
            level.files.clear()
            if not level.folders:
                descent.leave()
                continue
            name = level.folders.pop()
            yield name
            descent.enter(name, [])


def _try(problems: list[OSError], remove: _Remove, name: Path | str, dir_fd: int | None) -> None:
    try:
        remove(name, dir_fd=dir_fd)
    except FileNotFoundError:
        pass  # somebody else was quicker
    except OSError as error:
        problems.append(error)


@dataclass(slots=True)
class _Level:
    """A folder on the way down, with what is still to be looked at in it."""

    name: str
    identity: tuple[int, int]
    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


class _Descent:
    """The way from a folder down to where one is."""

    def __init__(self, path: Path | str, dir_fd: int | None) -> None:
        self.handle = os.open(path, _FOLDER, dir_fd=dir_fd)
        """The folder of the last level."""
        self.levels: list[_Level] = []
        try:
            self.levels.append(_look_into(self.handle, os.fspath(path)))
        except OSError:
            os.close(self.handle)
            raise

    def __enter__(self) -> _Descent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.handle)

    def remove_or_enter(self, name: str, problems: list[OSError]) -> None:
        """An empty folder goes at once, though it could not be read; another is gone down into."""
        try:
            os.rmdir(name, dir_fd=self.handle)
        except FileNotFoundError:
            pass
        except OSError:
            self.enter(name, problems)

    def enter(self, name: str, problems: list[OSError]) -> None:
        """Go down into a folder, unless it cannot be read or is none any more."""
        try:
            below = os.open(name, _FOLDER, dir_fd=self.handle)
        except OSError as error:
            problems.append(error)
            return
        try:
            self.levels.append(_look_into(below, name))
        except OSError as error:
            os.close(below)
            problems.append(error)
            return
        os.close(self.handle)
        self.handle = below

    def leave(self) -> None:
        """Go back up. Raises ``OSError`` when the folder was moved elsewhere meanwhile."""
        left = self.levels.pop()
        if not self.levels:
            return
        above = os.open("..", _FOLDER, dir_fd=self.handle)
        os.close(self.handle)
        self.handle = above
        if _identity(above) != self.levels[-1].identity:
            raise OSError(errno.ESTALE, f"{left.name!a} was moved while it was gone through")


def _look_into(handle: int, name: str) -> _Level:
    level = _Level(name, _identity(handle))
    with os.scandir(handle) as entries:
        for entry in entries:
            (level.folders if entry.is_dir(follow_symlinks=False) else level.files).append(entry.name)
    return level


def _identity(handle: int) -> tuple[int, int]:
    about = os.fstat(handle)
    return about.st_dev, about.st_ino
