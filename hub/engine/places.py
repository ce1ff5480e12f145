"""Where flows may reach into the file system: below the roots of the settings, and never into the hub's own files."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hub.errors import Denied

_OWN_NAMES = (
    "hub.db",
    "hub.lock",
    "hub.address",
    "hub.new",
    "hub.instance",
    "files",
    "work",
)
_BESIDE_A_DATABASE = ("-wal", "-shm", "-journal")
_DEEPEST = 200
_LONGEST = 4000
_NEVER = ("hub.yaml", "secrets.env")


class Places:
    """Answers which path a flow means, and refuses what it may not touch."""

    def __init__(
        self,
        folder: Path,
        roots: Sequence[str],
        *,
        data_dir: Path,
        flow_folders: Sequence[Path] = (),
        database: Path | None = None,
    ) -> None:
        self._folder = folder.resolve()
        given = [(self._folder / root).resolve() for root in roots]
        self._roots = _beginnings(given)
        own = [self._folder / name for name in _NEVER] + _own(data_dir.resolve(), given)
        if database is not None:
            own.append(database.resolve())
        own += [one.with_name(one.name + end) for one in own for end in _BESIDE_A_DATABASE]
        self._hidden = _beginnings(own)
        self._read_only = _beginnings(one.resolve() for one in flow_folders)

    def resolve(self, text: str, *, write: bool = False, below: bool = False) -> Path:
        """The path that ``text`` names; a relative one starts at the folder of ``hub.yaml``.

        Symbolic links are followed before it is judged; whoever opens it must not follow one any more. Raises
        ``Denied`` for a path outside every root, for the hub's own files, and with ``write`` for flow folders
        and Git's; with ``below`` also for a folder that any of them lies in.
        """
        try:
            path = (self._folder / text).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise Denied(f"{text!a} is no path: {error}") from error
        if len(path.parts) > _DEEPEST or len(str(path)) > _LONGEST:
            raise Denied(f"a path has at most {_DEEPEST} parts and {_LONGEST:,} characters")
        inside = _comparable(f"{path}/")
        if not inside.startswith(self._roots):
            raise Denied(
                f"{text} lies outside the folders that flows may touch",
                hint="name its folder under files: roots: in hub.yaml",
            )
        if inside.startswith(self._hidden) or (below and _any_below(inside, self._hidden)):
            raise Denied(f"{text} belongs to the hub itself")
        is_read_only = inside.startswith(self._read_only) or (below and _any_below(inside, self._read_only))
        if write and ("/.git/" in inside or is_read_only):
            raise Denied(f"{text} cannot be written by flows", hint="flow folders and .git are for reading")
        return path


def _own(data_dir: Path, roots: Sequence[Path]) -> list[Path]:
    """All of the data folder, unless flows are meant to reach into it: then what is the hub's there."""
    if any(root.is_relative_to(data_dir) for root in roots):
        return [data_dir / name for name in _OWN_NAMES]
    return [data_dir]


def _beginnings(folders: Iterable[Path]) -> tuple[str, ...]:
    """What the text of every path in these folders begins with, and that of the folders themselves."""
    return tuple(_comparable(f"{str(folder).rstrip('/')}/") for folder in folders)


def _any_below(inside: str, folders: Sequence[str]) -> bool:
    return any(one.startswith(inside) for one in folders)


def _comparable(path: str) -> str:
    # file systems of macOS take names that differ in case alone for the same
    return path.casefold() if sys.platform == "darwin" else path
