"""Open files below a folder without ever following a symbolic link, however the folders change meanwhile.

Each step of the path is opened by its name in the folder before it (openat(2), O_NOFOLLOW), so a link that is
swapped in between a check and its use is refused, not followed. For plugins that reach into the file system with
what ``ctx.place`` gave them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from hub.errors import InvalidInput, NotFound

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_OPEN = 100


@contextmanager
def folder_of(path: Path, *, make: bool = False) -> Iterator[int]:
    """The folder a resolved path lies in, as a descriptor; ``make`` makes what is missing.

    Raises ``NotFound``, ``InvalidInput`` where a link stands in the way.
    """
    handle = os.open("/", _FOLDER)
    try:
        for part in path.parent.parts[1:]:
            following = _step(handle, part, path.parent, make=make)
            os.close(handle)
            handle = following
        yield handle
    finally:
        os.close(handle)


class Folders:
    """The folders of one batch of work, as descriptors; each is opened once."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def __enter__(self) -> Folders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def at(self, folder: Path, *, make: bool = False, mode: int = 0o777) -> int:
        """A folder by its resolved path. Raises ``NotFound``, ``InvalidInput`` where a link stands in the way."""
        name = str(folder)
        known = self._open.get(name)
        if known is not None:
            return known
        if folder.parent == folder:
            handle = os.open(folder, _FOLDER)
        else:
            handle = _step(self.at(folder.parent, make=make), folder.name, folder, make=make, mode=mode)
        self._open[name] = handle
        return handle

    def known(self, folder: Path) -> int | None:
        """A folder that is open already."""
        return self._open.get(str(folder))

    def open(self, path: Path) -> int:
        """A file for reading, whatever it is; a pipe is not waited for. Raises ``OSError``, ``HubError``."""
        return os.open(path.name, os.O_RDONLY | _FILE, dir_fd=self.at(path.parent))

    def trim(self) -> None:
        """Close some when many are open; called where none is in use."""
        if len(self._open) > _MOST_OPEN:
            self._close()

    def _close(self) -> None:
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()


def _step(handle: int, part: str, folder: Path, *, make: bool, mode: int = 0o777) -> int:
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, mode, dir_fd=handle)
    try:
        return os.open(part, _FOLDER, dir_fd=handle)
    except FileNotFoundError:
        raise NotFound(f"{folder} does not exist") from None
    except OSError as error:
        raise _refused(folder, error) from error


@contextmanager
def opened(path: Path, flags: int, mode: int = 0o666, *, make: bool = False) -> Iterator[int]:
    """A regular file by its resolved path. Raises ``NotFound``, ``InvalidInput`` for links, pipes and devices."""
    with folder_of(path, make=make) as folder:
        try:
            handle = os.open(path.name, flags | _FILE, mode, dir_fd=folder)
        except FileNotFoundError:
            raise NotFound(f"{path} does not exist") from None
        except FileExistsError:
            raise InvalidInput(f"{path} exists already", hint="say overwrite: true to replace it") from None
        except OSError as error:
            raise _refused(path, error) from error
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InvalidInput(f"{path} is no regular file")
            yield handle
        finally:
            os.close(handle)


def _refused(path: Path, error: OSError) -> InvalidInput:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return InvalidInput(f"{path}: a symbolic link or a file stands where a folder is expected")
    return InvalidInput(f"{path}: {error.strerror}")
