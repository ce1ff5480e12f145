"""File stores: where payloads and files that are too large for a row live.

Everything in a store belongs to an owner, the execution or event that it came with: it goes when the owner
goes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any


class FileStore(ABC):
    """Keeps bytes under a URI of its own making.

    Raises ``StorageUnavailable`` when nothing can be stored for now.
    """

    type: str
    """The plugin's name."""

    def __init__(self, data_dir: Path, settings: Any = None) -> None:
        """``settings`` are its plugin's: an instance of the ``settings_model``, None where it has none."""
        self.data_dir = data_dir
        self.settings = settings

    @abstractmethod
    async def put(self, owner: str, name: str, content: bytes) -> str:
        """Store ``content``; returns its URI once it is flushed, folder and all.

        Raises ``StorageUnavailable`` when it cannot be stored now, and leaves nothing behind then.
        """

    @abstractmethod
    async def put_file(self, owner: str, name: str, path: Path) -> str:
        """Store what a local file holds, however large; returns its URI once it is flushed."""

    @abstractmethod
    async def get(self, uri: str) -> bytes:
        """What was stored. Raises ``NotFound``."""

    @abstractmethod
    async def fetch(self, uri: str, target: Path) -> None:
        """Write what was stored to a new local file, however large. Raises ``NotFound``."""

    @abstractmethod
    async def size(self, uri: str) -> int:
        """How many bytes were stored. Raises ``NotFound``."""

    @abstractmethod
    async def delete(self, owners: Sequence[str]) -> None:
        """Remove everything of these owners; unknown ones are fine."""

    @abstractmethod
    async def owners(self, *, before: datetime) -> list[str]:
        """The owners of whose files none is newer than ``before``."""
