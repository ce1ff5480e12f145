"""Find files that have arrived whole: by looking, in a thread, never by following a link or waiting for a pipe.

A file counts once nobody has it open for writing and its last change is old enough; one that was renamed into
the folder counts at once. Whether somebody writes is asked of the kernel with a read lease, which is given only
where nobody does (fcntl(2), F_SETLEASE); where leases do not exist, size and time must have stood still.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import fnmatch
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CLAIMED = ".hub-claimed"
"""The folder that files lie in while their executions run."""
_CHUNK = 1024 * 1024
_LEASE = getattr(fcntl, "F_SETLEASE", None)


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells one state of a file from another."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int = 0

    @property
    def text(self) -> str:
        return f"{self.device}:{self.inode}:{self.size}:{self.modified_ns}:{self.changed_ns}"

    @property
    def key(self) -> str:
        """A short name for it, good for a folder."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]


def mark_of(found: os.stat_result, *, with_change: bool) -> Mark:
    """The mark of a file. With the time of change a file that was moved away and back counts anew."""
    changed = found.st_ctime_ns if with_change else 0
    return Mark(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, changed)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A whole file."""

    path: Path
    mark: Mark
    sha256: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which files of a folder count."""

    root: Path
    pattern: str
    recursive: bool
    left_out: tuple[Path, ...] = ()
    """Folders below the root that are not looked into."""

    def matches(self, path: Path) -> bool:
        """Whether a path, by its name and place alone, is one to look at."""
        if any(path.is_relative_to(folder) for folder in self.left_out) or CLAIMED in path.parts:
            return False
        if not self.recursive and path.parent != self.root:
            return False
        subject = path.relative_to(self.root).as_posix() if "/" in self.pattern else path.name
        return fnmatch.fnmatchcase(subject, self.pattern)

    def scan(self) -> Iterator[Path]:
        """Every file that counts; a folder that cannot be read is passed over."""
        waiting = [self.root]
        while waiting:
            folder = waiting.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    if self.recursive and entry.name != CLAIMED and path not in self.left_out:
                        waiting.append(path)
                elif entry.is_file(follow_symlinks=False) and self.matches(path):
                    yield path


class Looker:
    """Looks at candidates and remembers those that are not whole yet."""

    def __init__(self, settle: float, *, with_change: bool, clock: Callable[[], float] = time.time) -> None:
        self._settle = settle
        self._with_change = with_change
        self._clock = clock
        # what a candidate looked like, and since when, for file systems without leases
        self._still: dict[Path, tuple[Mark, float]] = {}

    def look(self, path: Path, *, renamed: bool = False) -> Arrived | float | None:
        """The file when it is whole, after how many seconds to look again, or None when it is no file.

        ``renamed``: it was put in place by a rename, which is whole by custom.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._still.pop(path, None)
            # a file that we may not read is no use now, and may be later
            return 5.0 if error.errno in (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE) else None
        try:
            return self._look(path, handle, renamed)
        finally:
            os.close(handle)

    def _look(self, path: Path, handle: int, renamed: bool) -> Arrived | float | None:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return None
        mark = mark_of(found, with_change=self._with_change)
        wait = self._wait(path, handle, mark, renamed)
        if wait > 0:
            return wait
        digest = _digest(handle)
        if mark_of(os.fstat(handle), with_change=self._with_change) != mark or _has_writer(handle):
            return max(self._settle, 0.05)  # it was changed while it was read
        self._still.pop(path, None)
        return Arrived(path, mark, digest)

    def _wait(self, path: Path, handle: int, mark: Mark, renamed: bool) -> float:
        now = self._clock()
        writer = _has_writer(handle)
        if writer:
            return max(self._settle, 0.05)
        if renamed and writer is not None:
            return 0.0
        if writer is None:
            # nothing says whether somebody writes: it must have stood still while we looked
            known = self._still.get(path)
            if known is None or known[0] != mark:
                self._still[path] = (mark, now)
                return self._settle
            return known[1] + self._settle - now
        age = now - mark.modified_ns / 1e9
        # a time in the future says nothing
        return self._settle - age if 0 <= age < self._settle else 0.0


def _has_writer(handle: int) -> bool | None:
    """Whether anybody has the file open for writing; None where that cannot be asked."""
    if _LEASE is None:
        return None
    try:
        fcntl.fcntl(handle, _LEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno in (errno.EAGAIN, errno.EBUSY) else None
    with contextlib.suppress(OSError):
        fcntl.fcntl(handle, _LEASE, fcntl.F_UNLCK)
    return False


def _digest(handle: int) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(handle, _CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
