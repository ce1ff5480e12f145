"""File stores: where payloads and outputs that are too large for a row live."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO


class FileStore(ABC):
    """Keeps bytes under a URI of its own making."""

    type: str
    """The plugin's name."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    @abstractmethod
    async def put(self, name: str, content: bytes) -> str:
        """Store ``content``; returns its URI once it is flushed, folder and all."""

    @abstractmethod
    async def get(self, uri: str) -> bytes:
        """What ``put`` stored. Raises ``NotFound``."""

    async def put_file(self, name: str, file: BinaryIO) -> str:
        """Store the rest of an open file; a store that need not hold it in memory says how."""
        return await self.put(name, await asyncio.to_thread(file.read))

    @abstractmethod
    async def path(self, uri: str) -> Path:
        """A local file with what ``put`` stored, to be read and never changed. Raises ``NotFound``.

        A store that keeps its content elsewhere fetches it into a cache below the data folder.
        """
