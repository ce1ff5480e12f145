"""Where flows may reach into the file system: below the roots of the settings, and never into the hub's own files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hub.errors import Denied

_OWN_NAMES = (
    "hub.db",
    "hub.db-wal",
    "hub.db-shm",
    "hub.lock",
    "hub.address",
    "hub.instance",
    "files",
    "work",
)
_NEVER = ("hub.yaml", "secrets.env")


class Places:
    """Answers which path a flow means, and refuses what it may not touch."""

    def __init__(
        self, folder: Path, roots: Sequence[str], *, data_dir: Path, flow_folders: Sequence[Path] = ()
    ) -> None:
        self._folder = folder.resolve()
        self._roots = _beginnings((self._folder / root).resolve() for root in roots)
        own = [data_dir.resolve() / name for name in _OWN_NAMES]
        self._hidden = _beginnings([*own, *(self._folder / name for name in _NEVER)])
        self._read_only = _beginnings(one.resolve() for one in flow_folders)

    def resolve(self, text: str, *, write: bool = False) -> Path:
        """The path that ``text`` names; a relative one starts at the folder of ``hub.yaml``.

        Symbolic links are followed before it is judged; whoever opens it must not follow one any more. Raises
        ``Denied`` for a path outside every root, for the hub's own files, and with ``write`` for flow folders
        and Git's.
        """
        if "\0" in text:
            raise Denied("a path holds no NUL")
        path = (self._folder / text).resolve()
        inside = f"{path}/"
        if not inside.startswith(self._roots):
            raise Denied(
                f"{text} lies outside the folders that flows may touch",
                hint="name its folder under files: roots: in hub.yaml",
            )
        if inside.startswith(self._hidden):
            raise Denied(f"{text} belongs to the hub itself")
        if write and ("/.git/" in inside or inside.startswith(self._read_only)):
            raise Denied(f"{text} cannot be written by flows", hint="flow folders and .git are for reading")
        return path


def _beginnings(folders: Iterable[Path]) -> tuple[str, ...]:
    """What the text of every path in these folders begins with, and that of the folders themselves."""
    return tuple(f"{str(folder).rstrip('/')}/" for folder in folders)
