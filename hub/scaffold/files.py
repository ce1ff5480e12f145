"""Write files whole or not at all, and never over what is there unless asked to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.errors import Conflict, InvalidInput

PRIVATE = 0o600


@dataclass(frozen=True)
class NewFile:
    """A file to be written."""

    path: Path
    text: str
    mode: int = 0o644
    is_addition: bool = False
    """Whether ``text`` is what is there with something added: then it may be there."""


@dataclass(frozen=True)
class Written:
    """What became of one file."""

    path: Path
    action: str
    """``wrote``, ``replaced``, ``added to`` or ``kept``."""


def write_all(files: Sequence[NewFile], *, force: bool) -> list[Written]:
    """Write all of them. Raises ``Conflict`` before the first one where one exists and ``force`` is not set.

    Raises ``InvalidInput`` for one that cannot be read or written; those before it are written then.
    """
    there = [file.path for file in files if not file.is_addition and os.path.lexists(file.path)]
    if there and not force:
        names = ", ".join(str(path) for path in there)
        raise Conflict(f"already there: {names}", hint="nothing was written; --force replaces what is there")
    return [_replace(file) for file in files]


def _replace(file: NewFile) -> Written:
    exists = os.path.lexists(file.path)
    if exists and file.is_addition and read(file.path) == file.text:
        return Written(file.path, "kept")
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        _write(file)
    except OSError as error:
        raise InvalidInput(f"{file.path} cannot be written: {error.strerror}") from error
    action = "wrote" if not exists else "added to" if file.is_addition else "replaced"
    return Written(file.path, action)


def read(path: Path) -> str | None:
    """A file's text, or None when there is no such file. Raises ``InvalidInput`` when it cannot be read."""
    try:
        # as bytes: line ends stay as they are
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text") from error


def _write(file: NewFile) -> None:
    """Beside it first, then renamed: a reader, a watching hub too, sees the old file or the new one."""
    target = file.path.resolve()
    handle, name = tempfile.mkstemp(prefix=".", suffix=".new", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(file.text)
        os.chmod(name, target.stat().st_mode & 0o7777 if target.exists() else file.mode & ~_umask())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    """What this user's new files are not to allow; it can only be asked for by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
