"""Open files below a folder without ever following a symbolic link, however the folders change meanwhile.

Each step of the path is opened by its name in the folder before it (openat(2), O_NOFOLLOW), so a link that is
swapped in between a check and its use is refused, not followed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.plugin import InvalidInput, NotFound

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def folder_of(path: Path, *, make: bool = False) -> Iterator[int]:
    """The folder a resolved path lies in, as a descriptor; ``make`` makes what is missing.

    Raises ``NotFound``, ``InvalidInput`` where a link stands in the way.
    """
    handle = os.open("/", _FOLDER)
    try:
        for part in path.parent.parts[1:]:
            following = _step(handle, part, path, make=make)
            os.close(handle)
            handle = following
        yield handle
    finally:
        os.close(handle)


def _step(handle: int, part: str, path: Path, *, make: bool) -> int:
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o777, dir_fd=handle)
    try:
        return os.open(part, _FOLDER, dir_fd=handle)
    except FileNotFoundError:
        raise NotFound(f"{path.parent} does not exist") from None
    except OSError as error:
        raise _refused(path, error) from error


@contextmanager
def opened(path: Path, flags: int, mode: int = 0o666, *, make: bool = False) -> Iterator[int]:
    """A regular file by its resolved path. Raises ``NotFound``, ``InvalidInput`` for links, pipes and devices."""
    with folder_of(path, make=make) as folder:
        try:
            handle = os.open(
                path.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=folder
            )
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


def digest_of(path: Path) -> str:
    """The SHA-256 of a regular file, as hexadecimal digits. Raises ``OSError``, ``HubError``."""
    digest = hashlib.sha256()
    with opened(path, os.O_RDONLY) as handle:
        while chunk := os.read(handle, 1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()
