"""Move a file under the first of several names that is free, also to another file system, and never over another.

A crash in between leaves the file whole at its old place, its new one or both; doing it again finishes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hub.plugin import Folders

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)
_LONGEST = 255
_LONGEST_SUFFIX = 20
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a file may get: its own, or where that is taken one with a part of its key, or all of it."""

    name: str
    key: str | None = None

    def __iter__(self) -> Iterator[str]:
        yield self.name
        for part in (self.key[:8], self.key) if self.key else ():
            stem, suffix = _split(shortened(self.name, len(part) + 1))
            yield f"{stem}.{part}{suffix}"


def shortened(name: str, room: int) -> str:
    """A name with its end cut, but for what follows the last dot, so that ``room`` more bytes fit."""
    stem, suffix = _split(name)
    left = _LONGEST - room - len(suffix.encode())
    return stem.encode()[:left].decode(errors="ignore") + suffix


def _split(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem and len(suffix) <= _LONGEST_SUFFIX else (name, "")


def move_into(folders: Folders, source: Path, folder: Path, names: Names) -> None:
    """Move under the first name that is free; the folder is made.

    Raises ``FileNotFoundError``, ``FileExistsError`` where every name is taken, ``OSError``.
    """
    old, new = folders.at(source.parent), folders.at(folder, make=True)
    try:
        _named(old, source.name, new, names)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(old, source.name, new, names)


def move_over(folders: Folders, source: Path, target: Path) -> None:
    """Move in the place of whatever file has the name. Raises ``FileNotFoundError``, ``OSError``."""
    old, new = folders.at(source.parent), folders.at(target.parent, make=True)
    try:
        os.rename(source.name, target.name, src_dir_fd=old, dst_dir_fd=new)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    between = f".{shortened(source.name, 9)}.moving"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(between, dir_fd=new)
    _copy(old, source.name, new, Names(between))
    os.rename(between, target.name, src_dir_fd=new, dst_dir_fd=new)
    os.fsync(new)


def _named(old: int, source: str, new: int, names: Names) -> None:
    try:
        _link(old, source, new, names)
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    _reserve(old, source, new, names)


def _link(old: int, source: str, new: int, names: Names) -> None:
    """A link, unlike a rename, never takes the place of what has the name already."""
    for name in names:
        try:
            os.link(source, name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
        except FileExistsError:
            if not _was_linked(old, source, new, name):
                continue
        os.unlink(source, dir_fd=old)
        return
    raise FileExistsError(errno.EEXIST, "every name for it is taken", names.name)


def _was_linked(old: int, source: str, new: int, name: str) -> bool:
    """Whether a crash came between link and unlink, and only the old name is to go."""
    try:
        one = os.stat(source, dir_fd=old, follow_symlinks=False)
        two = os.stat(name, dir_fd=new, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(one, two) and one.st_nlink > 1


def _reserve(old: int, source: str, new: int, names: Names) -> None:
    """Where there are no links: an empty file holds the name until the rename."""
    for name in names:
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=new))
        except FileExistsError:
            continue
        os.rename(source, name, src_dir_fd=old, dst_dir_fd=new)
        return
    raise FileExistsError(errno.EEXIST, "every name for it is taken", names.name)


def _copy(old: int, source: str, new: int, names: Names) -> None:
    """To another file system: whole and flushed under another name, then in place, then gone from here."""
    part = f".{shortened(source, 6)}.part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part, dir_fd=new)
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=old)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", source)
        if not _was_copied(handle, found, new, names):
            _write_copy(handle, found, part, new)
            _named(new, part, new, names)
        os.fsync(new)
    finally:
        os.close(handle)
    os.unlink(source, dir_fd=old)


def _write_copy(handle: int, found: os.stat_result, part: str, new: int) -> None:
    copy = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=new)
    try:
        while chunk := os.read(handle, _CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[os.write(copy, view) :]
        os.fchmod(copy, stat.S_IMODE(found.st_mode) & 0o777)
        os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.fsync(copy)
    finally:
        os.close(copy)


def _was_copied(handle: int, found: os.stat_result, new: int, names: Names) -> bool:
    """Whether a name leads to this very file: a crash came before its old name was taken away."""
    for name in names:
        try:
            other = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=new)
        except OSError:
            continue
        try:
            about = os.fstat(other)
            is_alike = (about.st_size, about.st_mtime_ns) == (found.st_size, found.st_mtime_ns)
            if is_alike and _hold_the_same(handle, other):
                return True
        finally:
            os.close(other)
    return False


def _hold_the_same(one: int, other: int) -> bool:
    try:
        while chunk := os.read(one, _CHUNK):
            if os.read(other, len(chunk)) != chunk:
                return False
        return not os.read(other, 1)
    finally:
        os.lseek(one, 0, os.SEEK_SET)
