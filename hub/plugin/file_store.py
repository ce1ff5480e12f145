"""File stores: where payloads and outputs that are too large for a row live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path


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
