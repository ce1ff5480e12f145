"""Files while their executions run: claimed by a rename, verified, put away afterwards, fetched back for a replay.

A claimed file lies in ``.hub-claimed/TRIGGER/KEY-NAME`` in the folder it arrived in, on the same file system, so
that claiming is one rename. (A folder of its own for each would cost more than all the rest.) The event's row is
there before the rename: what was interrupted between the two is finished by the trigger when it starts, or by
the execution, whichever comes first. Every step may be done again.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hub.plugin import Denied, Folders, HubError, NotFound, TriggerKey
from plugins_core.file.looking import digest_of, has_a_writer
from plugins_core.file.marks import Mark
from plugins_core.file.moving import Names, move_into, shortened
from plugins_core.file.patterns import CLAIMED

_OURS_ALONE = 0o700
_KEY_LENGTH = 32


@dataclass(frozen=True, slots=True)
class ClaimFolder:
    """Where one trigger's files lie while they are claimed."""

    root: Path
    trigger: TriggerKey

    def inside(self, folder: Path) -> Path:
        """The claim folder in a folder of the trigger: its root, or one that is another file system."""
        return Path(f"{folder}/{CLAIMED}/{'.'.join(self.trigger)}")

    def paths_of(self, files: Iterable[tuple[Path, str]]) -> list[Path]:
        """Where files that arrived at these paths, with these keys, lie while they are claimed."""
        inside: dict[Path, Path] = {}
        found = []
        for source, key in files:
            if source.parent not in inside:
                inside[source.parent] = self.inside(self._folder_for(source.parent))
            found.append(inside[source.parent] / claimed_name(key, source.name))
        return found

    def _folder_for(self, folder: Path) -> Path:
        # a folder below may be another file system, and a rename does not reach across
        with contextlib.suppress(OSError):
            if folder != self.root and folder.stat().st_dev != self.root.stat().st_dev:
                return folder
        return self.root

    def holds(self, target: Path, source: Path, key: str) -> bool:
        """Whether ``target`` is such a place, so that nothing else is ever touched on what data say."""
        if ".." in source.parts or not source.is_relative_to(self.root):
            return False
        name = claimed_name(key, source.name)
        return target in {self.inside(folder) / name for folder in (self.root, source.parent)}

    def open(self, folders: Folders, folder: Path) -> int:
        """The claim folder, made where it is missing. Raises ``Denied`` when it is somebody else's."""
        inside = self.inside(folder)
        if (known := folders.known(inside)) is not None:
            return known
        outer = folder / CLAIMED
        handle = folders.at(outer, make=True, mode=_OURS_ALONE)
        if (about := os.fstat(handle)).st_uid != os.geteuid() or about.st_mode & 0o022:
            raise Denied(
                f"{outer} belongs to another user or can be written by others",
                hint="remove it: the hub makes its own",
            )
        return folders.at(inside, make=True, mode=_OURS_ALONE)

    def left(self, inside: Path) -> Iterator[tuple[str, Path]]:
        """Key and path of each file that lies in one claim folder."""
        with Folders() as folders:
            try:
                with os.scandir(folders.at(inside)) as entries:
                    names = sorted(one.name for one in entries if one.is_file(follow_symlinks=False))
            except (OSError, HubError):
                return
        for name in names:
            if name[_KEY_LENGTH : _KEY_LENGTH + 1] == "-":
                yield name[:_KEY_LENGTH], inside / name


def claimed_name(key: str, name: str) -> str:
    """What a file is called while it is claimed; the longest names are cut."""
    return f"{key}-{shortened(name, _KEY_LENGTH + 1)}"


def key_and_name(claimed: Path) -> tuple[str, str]:
    """What ``claimed_name`` was given."""
    return claimed.name[:_KEY_LENGTH], claimed.name[_KEY_LENGTH + 1 :]


def claim(folders: Folders, at: ClaimFolder, source: Path, target: Path, mark: Mark) -> bool:
    """Bring a whole file to where it lies while claimed; answers whether it is there now, unchanged.

    May be called again by whoever wants it there. A file that is another one by now, or that somebody has
    opened for writing meanwhile, stays where it arrived and counts anew. Raises ``OSError``, ``HubError``.
    """
    folders.trim()
    try:
        old = folders.at(source.parent)
        found = os.stat(source.name, dir_fd=old, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or not mark.is_content_of(found):
            return _is_whole(folders, target, mark)
        new = at.open(folders, target.parents[2])
        os.rename(source.name, target.name, src_dir_fd=old, dst_dir_fd=new)
    except (FileNotFoundError, NotFound):
        return _is_whole(folders, target, mark)  # somebody else was quicker
    # it was looked at by its name a moment ago: only now nobody can open or replace it any more
    if _is_whole(folders, target, mark):
        return True
    move_into(folders, target, source.parent, Names(source.name, mark.key))
    return False


def _is_whole(folders: Folders, path: Path, mark: Mark) -> bool:
    """Whether a file is there as it arrived, and nobody writes to it."""
    try:
        handle = folders.open(path)
    except (OSError, HubError):
        return False
    try:
        found = os.fstat(handle)
        return stat.S_ISREG(found.st_mode) and mark.is_content_of(found) and not has_a_writer(handle)
    finally:
        os.close(handle)


def holds(folders: Folders, path: Path, sha256: str) -> bool:
    """Whether a regular file with this content lies at a path."""
    try:
        handle = folders.open(path)
    except (OSError, HubError):
        return False
    try:
        return stat.S_ISREG(os.fstat(handle).st_mode) and digest_of(handle) == sha256
    finally:
        os.close(handle)


def fetch_back(folders: Folders, at: ClaimFolder, target: Path, after: After, sha256: str) -> None:
    """See that a file lies claimed again, from where it was put after its executions. Raises ``NotFound``."""
    key, name = key_and_name(target)
    if holds(folders, target, sha256):
        return
    for place in after.places(name, key):
        if holds(folders, place, sha256):
            at.open(folders, target.parents[2])
            move_into(folders, place, target.parent, Names(target.name))
            return
    raise NotFound(f"{name} is not there any more: it was changed, moved or deleted since it arrived")


@dataclass(frozen=True, slots=True)
class After:
    """What becomes of a file: it is deleted, or moved to one folder or another."""

    done: Path | None = None
    """None deletes it."""
    failed: Path | None = None

    def apply(self, folders: Folders, claimed: Path, *, is_failure: bool) -> None:
        """Do it; what was done already is fine. Raises ``OSError``, ``HubError``."""
        folders.trim()
        key, name = key_and_name(claimed)
        folder = (self.failed or self.done) if is_failure else self.done
        try:
            old = folders.at(claimed.parent)
        except NotFound:
            return
        with contextlib.suppress(FileNotFoundError):
            if folder is None:
                os.unlink(claimed.name, dir_fd=old)
            else:
                move_into(folders, claimed, folder, Names(name, key))

    def places(self, name: str, key: str) -> list[Path]:
        """Where a file may be after it was put away."""
        return [
            place
            for folder in (self.done, self.failed)
            if folder
            for place in map(folder.joinpath, Names(name, key))
        ]
