"""Look whether a file has arrived whole: in a thread, never following a link or waiting for a pipe.

A file is whole once nobody has it open for writing and its last change is old enough; one that was renamed into
the folder is whole at once. Whether somebody writes is asked of the kernel with a read lease, which is given
only where nobody does (fcntl(2), F_SETLEASE); where none is given for another reason (another owner, another
system), the file must have stood still while we looked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hub.plugin import Folders, HubError
from plugins_core.file.marks import Mark

LARGE = 32 * 1024 * 1024
"""Files from this size on take long enough to read that they are looked at one by one."""
_LEASE = getattr(fcntl, "F_SETLEASE", None)
_LEASE_SIGNAL = getattr(fcntl, "F_SETSIG", None)
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
_CHUNK = 1024 * 1024
_SOON = 0.05
_UNREADABLE_AGAIN = 5.0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A whole file."""

    path: Path
    mark: Mark
    sha256: str


@dataclass(frozen=True, slots=True)
class Later:
    """A file to look at again: it is not whole yet, or cannot be read for the reason given."""

    seconds: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Large:
    """A whole file that is read by itself."""


class Looker:
    """Looks at candidates and remembers those that had to stand still."""

    def __init__(
        self,
        settle: float,
        *,
        with_change: bool,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        has_writer: Callable[[int], bool | None] | None = None,
    ) -> None:
        self._settle = settle
        self._with_change = with_change
        self._wall = wall
        self._clock = clock
        self._has_writer = has_writer or has_a_writer
        # what a candidate looked like, and since when, where nothing says whether somebody writes
        self._still: dict[Path, tuple[Mark, float]] = {}
        self._stopped = False

    def stop(self) -> None:
        """Let a thread that reads a file give up."""
        self._stopped = True

    def look(
        self, folders: Folders, path: Path, *, renamed: bool = False, large: bool = True
    ) -> Arrived | Later | Large | None:
        """The file when it is whole, when to look again, or None when it is no file.

        ``renamed``: it was put in place by a rename, which is whole by custom. ``large``: whether a large file
        is read now too.
        """
        try:
            handle = folders.open(path)
        except HubError:
            self._still.pop(path, None)
            return None
        except OSError as error:
            if error.errno in _NOT_THERE:
                self._still.pop(path, None)
                return None
            # a file that we may not read is no use now, and may be later
            return Later(_UNREADABLE_AGAIN, f"cannot be read: {error.strerror}")
        try:
            return self._look(path, handle, renamed, large)
        except OSError as error:
            return Later(_UNREADABLE_AGAIN, f"cannot be read: {error.strerror}")
        finally:
            os.close(handle)

    def _look(self, path: Path, handle: int, renamed: bool, large: bool) -> Arrived | Later | Large | None:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            self._still.pop(path, None)
            return None
        wait = self._wait(path, handle, found, renamed)
        if wait > 0:
            return Later(wait)
        if found.st_size >= LARGE and not large:
            return Large()
        digest = digest_of(handle, goes_on=lambda: not self._stopped)
        if digest is None or _state(os.fstat(handle)) != _state(found) or self._has_writer(handle):
            return Later(max(self._settle, _SOON))  # it was changed while it was read
        self._still.pop(path, None)
        return Arrived(path, Mark.of(found, with_change=self._with_change), digest)

    def _wait(self, path: Path, handle: int, found: os.stat_result, renamed: bool) -> float:
        """How long to wait until it may be whole; 0 when it is."""
        writer = self._has_writer(handle)
        if writer:
            return max(self._settle, _SOON)
        if renamed and writer is not None:
            return 0.0
        # every change of content, name or mode sets the time of change, and nobody can set it back
        age = self._wall() - found.st_ctime
        if writer is None or age < 0:
            return self._stands_still(path, found)
        return self._settle - age

    def _stands_still(self, path: Path, found: os.stat_result) -> float:
        state, now = _state(found), self._clock()
        known = self._still.get(path)
        if known is None or known[0] != state:
            self._still[path] = (state, now)
            return max(self._settle, _SOON)
        return known[1] + self._settle - now


def _state(found: os.stat_result) -> Mark:
    return Mark.of(found, with_change=True)


def has_a_writer(handle: int) -> bool | None:
    """Whether anybody has the file open for writing; None where that cannot be asked."""
    if _LEASE is None or _LEASE_SIGNAL is None:
        return None
    try:
        # one who opens the file while we hold the lease has the kernel tell us: by a signal that is ignored,
        # for the one it sends by itself, SIGIO, ends a process
        fcntl.fcntl(handle, _LEASE_SIGNAL, signal.SIGURG)
        fcntl.fcntl(handle, _LEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno in (errno.EAGAIN, errno.EBUSY) else None
    with contextlib.suppress(OSError):
        fcntl.fcntl(handle, _LEASE, fcntl.F_UNLCK)
    return False


def digest_of(handle: int, *, goes_on: Callable[[], bool] = lambda: True) -> str | None:
    """The SHA-256 of the rest of an open file, as hexadecimal digits; None when it was told to stop."""
    digest = hashlib.sha256()
    while chunk := os.read(handle, _CHUNK):
        digest.update(chunk)
        if not goes_on():
            return None
    return digest.hexdigest()
