"""Secret sources: where ``secret('NAME')`` gets its values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class SecretSource(ABC):
    """One place secrets come from; sources are asked in the order they were registered."""

    type: str
    """The source's name, ``<plugin>.<name>`` or the plugin's name."""

    def __init__(self, environ: Mapping[str, str], folder: Path, settings: Any = None) -> None:
        """``folder`` is where ``hub.yaml`` is; ``settings`` are its plugin's, None where it has none."""
        self.environ = environ
        self.folder = folder
        self.settings = settings

    @abstractmethod
    async def get(self, name: str) -> str | None:
        """The value, or None when this source does not know the name."""

    def known_values(self) -> Iterable[str]:
        """Values that can be named without being asked for, so that they are masked from the start."""
        return ()
