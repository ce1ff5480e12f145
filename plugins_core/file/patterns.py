"""Which files of a folder count, and finding them: by looking, without following a link."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hub.plugin import Folders, HubError

CLAIMED = ".hub-claimed"
"""The folder that files lie in while their executions run."""

_DEEPEST = 64
_NO_TEXT = "its name is not UTF-8"


@dataclass(slots=True)
class Found:
    """What a look at a folder found."""

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    """Every folder that was looked into."""
    claims: list[Path] = field(default_factory=list)
    """The folders of claimed files below."""
    unreadable: list[str] = field(default_factory=list)
    """Names that are not UTF-8, and folders that could not be read, each with what is wrong."""
    is_cut: bool = False
    """Whether there may be more files than were asked for."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which files of a folder count.

    As in a shell, a name that begins with a dot counts only where the pattern begins with one, and folders of
    such names are not looked into.
    """

    root: Path
    pattern: str
    recursive: bool
    left_out: tuple[Path, ...] = ()
    """Folders below the root that are not looked into."""

    def matches(self, path: Path) -> bool:
        """Whether a path, by its name and place alone, is one to look at."""
        if any(path.is_relative_to(folder) for folder in self.left_out):
            return False
        below = path.relative_to(self.root)
        if len(below.parts) > 1 and (not self.recursive or any(part[0] == "." for part in below.parts[:-1])):
            return False
        return self._counts(path.name, below.as_posix())

    def _counts(self, name: str, below: str) -> bool:
        pattern = self.pattern
        if name[0] == "." and pattern.rpartition("/")[2][:1] != ".":
            return False
        if "/" not in pattern:
            return fnmatch.fnmatchcase(name, pattern)
        # "**/" stands for any folders, or none
        return fnmatch.fnmatchcase(below, pattern) or (
            pattern.startswith("**/") and fnmatch.fnmatchcase(below, pattern[3:])
        )

    def scan(
        self,
        *,
        limit: int = 1_000_000,
        passes: Callable[[os.DirEntry[str]], bool] | None = None,
    ) -> Found:
        """The files that count, by folder and name; ``passes`` may leave some out after a look at them."""
        found = Found()
        waiting = [self.root]
        with Folders() as folders:
            while waiting and not found.is_cut:
                folder = waiting.pop()
                folders.trim()
                try:
                    entries = self._entries(folders.at(folder))
                except (OSError, HubError) as error:
                    if folder != self.root:
                        found.unreadable.append(f"{folder}: {getattr(error, 'strerror', None) or error}")
                    elif self.root.exists():
                        raise
                    continue
                found.folders.append(str(folder))
                waiting += reversed(list(self._look_into(folder, entries, found, limit, passes)))
        return found

    @staticmethod
    def _entries(handle: int) -> list[os.DirEntry[str]]:
        with os.scandir(handle) as entries:
            return sorted(entries, key=lambda entry: entry.name)

    def _look_into(
        self,
        folder: Path,
        entries: list[os.DirEntry[str]],
        found: Found,
        limit: int,
        passes: Callable[[os.DirEntry[str]], bool] | None,
    ) -> Iterator[Path]:
        """Take what counts; gives the folders to look into."""
        place = str(folder)
        prefix = "" if folder == self.root else f"{folder.relative_to(self.root).as_posix()}/"
        for entry in entries:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                if name == CLAIMED:
                    found.claims.append(folder / name)
                elif self.recursive and name[0] != "." and folder / name not in self.left_out:
                    if not is_text(name):
                        found.unreadable.append(f"{place}/{name!a}: {_NO_TEXT}")
                    elif prefix.count("/") >= _DEEPEST:
                        found.unreadable.append(f"{place}/{name}: it lies deeper than {_DEEPEST} folders")
                    else:
                        yield folder / name
            elif entry.is_file(follow_symlinks=False) and self._counts(name, prefix + name):
                if len(found.files) >= limit:
                    found.is_cut = True
                    return
                if not is_text(name):
                    found.unreadable.append(f"{place}/{name!a}: {_NO_TEXT}")
                elif passes is None or passes(entry):
                    found.files.append(f"{place}/{name}")


def is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
