"""Move a file under the first of several names that is free, also to another file system, and never over another.

A crash in between leaves the file whole at its old place, its new one or both; doing it again finishes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hub.plugin import Folders

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)
_LONGEST = 255
_LONGEST_SUFFIX = 20
_CHUNK = 1024 * 1024


def names_in(folder: Path, name: str, key: str) -> list[Path]:
    """Under its own name, or where that is taken with a part of its key, or all of it."""
    found = [folder / name]
    for part in (key[:8], key):
        stem, suffix = _split(shortened(name, len(part) + 1))
        found.append(folder / f"{stem}.{part}{suffix}")
    return found


def shortened(name: str, room: int) -> str:
    """A name with its end cut, but for what follows the last dot, so that ``room`` more bytes fit."""
    stem, suffix = _split(name)
    left = _LONGEST - room - len(suffix.encode())
    return stem.encode()[:left].decode(errors="ignore") + suffix


def _split(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem and len(suffix) <= _LONGEST_SUFFIX else (name, "")


def move_into(folders: Folders, source: Path, targets: Sequence[Path]) -> Path:
    """Move to the first target that is free; the folder is made. Raises ``FileNotFoundError``, ``OSError``."""
    old = folders.at(source.parent)
    new = folders.at(targets[0].parent, make=True)
    found = os.stat(source.name, dir_fd=old, follow_symlinks=False)
    if found.st_dev == os.fstat(new).st_dev:
        try:
            return _named(old, source, new, targets)
        except OSError as error:
            if error.errno != errno.EXDEV:  # one device may be mounted twice
                raise
    return _copy(old, source, new, targets)


def move_over(folders: Folders, source: Path, target: Path) -> None:
    """Move in the place of whatever file has the name. Raises ``FileNotFoundError``, ``OSError``."""
    old, new = folders.at(source.parent), folders.at(target.parent, make=True)
    try:
        os.rename(source.name, target.name, src_dir_fd=old, dst_dir_fd=new)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    between = target.with_name(f".{source.name[:100]}.moving")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(between.name, dir_fd=new)
    _copy(old, source, new, [between])
    os.rename(between.name, target.name, src_dir_fd=new, dst_dir_fd=new)
    os.fsync(new)


def _named(old: int, source: Path, new: int, targets: Sequence[Path]) -> Path:
    try:
        return _link(old, source, new, targets)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    return _reserve(old, source, new, targets)


def _link(old: int, source: Path, new: int, targets: Sequence[Path]) -> Path:
    """A link, unlike a rename, never takes the place of what has the name already."""
    for target in targets:
        try:
            os.link(source.name, target.name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
        except FileExistsError:
            if not _is_same(old, source.name, new, target.name):
                continue
            # it was linked before a crash, and only its old name is left
        os.unlink(source.name, dir_fd=old)
        return target
    raise FileExistsError(errno.EEXIST, "every name for it is taken", str(targets[-1]))


def _is_same(old: int, name: str, new: int, other: str) -> bool:
    try:
        one = os.stat(name, dir_fd=old, follow_symlinks=False)
        two = os.stat(other, dir_fd=new, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(one, two)


def _reserve(old: int, source: Path, new: int, targets: Sequence[Path]) -> Path:
    """Where there are no links: an empty file holds the name until the rename."""
    for target in targets:
        try:
            os.close(os.open(target.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=new))
        except FileExistsError:
            continue
        os.rename(source.name, target.name, src_dir_fd=old, dst_dir_fd=new)
        return target
    raise FileExistsError(errno.EEXIST, "every name for it is taken", str(targets[-1]))


def _copy(old: int, source: Path, new: int, targets: Sequence[Path]) -> Path:
    """To another file system: whole and flushed under another name, then in place, then gone from here."""
    part = f".{source.name[:32]}.part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part, dir_fd=new)
    handle = os.open(source.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=old)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(source))
        target = _copied_before(handle, found, new, targets)
        if target is None:
            _write_copy(handle, found, part, new)
            target = _named(new, targets[0].with_name(part), new, targets)
        os.fsync(new)
    finally:
        os.close(handle)
    os.unlink(source.name, dir_fd=old)
    return target


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


def _copied_before(handle: int, found: os.stat_result, new: int, targets: Sequence[Path]) -> Path | None:
    """The target that is this very file already: a crash came before its old name was taken away."""
    for target in targets:
        try:
            other = os.open(target.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=new)
        except OSError:
            continue
        try:
            about = os.fstat(other)
            is_alike = (about.st_size, about.st_mtime_ns) == (found.st_size, found.st_mtime_ns)
            if is_alike and _hold_the_same(handle, other):
                return target
        finally:
            os.close(other)
    return None


def _hold_the_same(one: int, other: int) -> bool:
    try:
        while chunk := os.read(one, _CHUNK):
            if os.read(other, len(chunk)) != chunk:
                return False
        return not os.read(other, 1)
    finally:
        os.lseek(one, 0, os.SEEK_SET)
