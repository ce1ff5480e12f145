"""Files while their executions run, and what becomes of them afterwards.

A claimed file lies in ``.hub-claimed/KEY/NAME`` in the folder it arrived in, on the same file system, so that
claiming is one rename. The event's row is there before the rename: what was interrupted between the two is
finished by the trigger when it starts, or by the execution, whichever comes first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hub.plugin import HubError, NotFound
from plugins_core.file.arrivals import CLAIMED, Pattern, mark_of
from plugins_core.file.confined import digest_of


def claim_path(root: Path, source: Path, key: str) -> Path:
    """Where a file lies while it is claimed."""
    # a folder below may be another file system, and a rename does not reach across
    folder = root
    with contextlib.suppress(OSError):
        if source.parent.stat().st_dev != root.stat().st_dev:
            folder = source.parent
    return folder / CLAIMED / key / source.name


def claim(source: Path, target: Path, mark: str) -> bool:
    """Bring a file to where it lies while claimed; answers whether it is there now.

    May be called again by whoever wants it there. A file at the source that is another one by now stays.
    """
    if target.exists():
        return True
    try:
        found = os.stat(source, follow_symlinks=False)
    except FileNotFoundError:
        return target.exists()
    if mark_of(found, with_change=True).text != mark:
        return target.exists()
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        os.rename(source, target)
    except FileNotFoundError:
        return target.exists()  # the other one was quicker
    return True


def bring_back(target: Path, places: list[Path], sha256: str) -> None:
    """Fetch a file for a replay from where it was put after its executions. Raises ``NotFound``."""
    for place in places:
        with contextlib.suppress(OSError, HubError):
            if digest_of(place) == sha256:
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.rename(place, target)
                return
    raise NotFound(f"{target.name} is not there any more: it was changed, moved or deleted since it arrived")


@dataclass(frozen=True, slots=True)
class After:
    """What becomes of a file: it is deleted, or moved to one folder or another."""

    done: Path | None = None
    """None deletes it."""
    failed: Path | None = None

    def apply(self, claimed: Path, key: str, *, is_failure: bool) -> None:
        """Do it; what was done already is fine."""
        folder = (self.failed or self.done) if is_failure else self.done
        if claimed.exists():
            if folder is None:
                claimed.unlink(missing_ok=True)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                _move(claimed, folder, key)
        with contextlib.suppress(OSError):
            claimed.parent.rmdir()

    def places(self, name: str, key: str) -> list[Path]:
        """Where a file may be after it was put away."""
        return [place for folder in (self.done, self.failed) if folder for place in _names(folder, name, key)]


def _names(folder: Path, name: str, key: str) -> tuple[Path, Path]:
    """Under its own name, or where that is taken with a part of its key."""
    plain = folder / name
    return plain, folder / f"{plain.stem}.{key[:8]}{plain.suffix}"


def _move(source: Path, folder: Path, key: str) -> None:
    plain, marked = _names(folder, source.name, key)
    # a link, unlike a rename, never takes the place of a file that has the name already
    for target in (plain, marked):
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            _move_across(source, target)
            return
        source.unlink()
        return
    os.replace(source, marked)


def _move_across(source: Path, target: Path) -> None:
    """Move to another file system: whole under another name first, then in place."""
    part = target.with_name(f".{target.name}.part")
    shutil.copy2(source, part)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    source.unlink()


def left_claimed(pattern: Pattern) -> Iterator[tuple[str, Path]]:
    """Key and path of the files that lie claimed already: their executions run, or have ended meanwhile."""
    folders = [pattern.root / CLAIMED]
    if pattern.recursive:
        folders += [path for path in pattern.root.rglob(CLAIMED) if path != folders[0]]
    for folder in folders:
        if not folder.is_dir():
            continue
        for keyed in sorted(folder.iterdir()):
            files = [path for path in keyed.iterdir() if path.is_file()] if keyed.is_dir() else []
            for path in files:
                yield keyed.name, path
            if not files:
                with contextlib.suppress(OSError):
                    keyed.rmdir()
